"""What ERASER's official scorer prints of a data set (DeYoung et al., 2020), by its definitions: micro and macro.

D documents; a span is (start, end), end exclusive
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError, DataError
from analysis.metrics.plausibility import IOU_THRESHOLD, Span, auprc, average_precision, f1_of, matching_spans, roc_auc


@dataclass(frozen=True)
class SpanDocument:
    """One document of one instance, as in ERASER's files.

    key        annotation id and document id, together unique
    length     in tokens
    truth      annotated spans, in any order; as ERASER counts them: equal ones once, touching ones apart, and an empty
               one (start = end, the movies' test split has 20) as a span that nothing can match
    predicted  hard rationale; may not overlap
    scores     soft rationale, (length,), or None
    """

    key: str
    length: int
    truth: tuple[Span, ...]
    predicted: tuple[Span, ...] = ()
    scores: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("truth", "predicted"):
            for start, end in getattr(self, name):
                if not 0 <= start <= end <= self.length or (start == end and name == "predicted"):
                    raise DataError(
                        f"{self.key}: {name} span [{start}, {end}) outside the document of {self.length} tokens"
                    )
        ordered = sorted(set(self.predicted))
        for (start, end), (after, _) in zip(ordered, ordered[1:], strict=False):
            if after < end:
                raise DataError(f"{self.key}: predicted spans overlap at token {after}, after [{start}, {end})")
        if self.scores is not None and len(self.scores) != self.length:
            raise DataError(f"{self.key}: {len(self.scores)} scores for a document of {self.length} tokens")

    @property
    def labels(self) -> NDArray[np.bool_]:
        """(length,) bool."""
        labels = np.zeros(self.length, dtype=bool)
        for start, end in self.truth:
            labels[start:end] = True
        return labels


@dataclass(frozen=True)
class _Counts:
    """What one document adds. hits at each threshold; of exact spans and of tokens: (right, annotated, predicted)."""

    hits: tuple[int, ...]
    spans: tuple[int, int, int]
    tokens: tuple[int, int, int]
    soft: tuple[float, float, float] | None  # AUPRC, AP, ROC-AUC; the last two NaN with one class only


class EraserScores:
    """ERASER's scores of a data set, from documents given one by one; nothing of their tokens is kept.

    thresholds: of the intersection over union, for `iou_scores`.
    """

    def __init__(self, *, thresholds: Sequence[float] = (IOU_THRESHOLD,)) -> None:
        self.thresholds = tuple(thresholds)
        self._counts: dict[str, _Counts] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, document: SpanDocument) -> None:
        """Raises ArgumentError for a document that is there already, or with scores when the others have none."""
        if document.key in self._counts:
            raise ArgumentError(f"documents: {document.key!r} comes twice")
        first, counts = next(iter(self._counts), None), _count(document, self.thresholds)
        if first is not None and (counts.soft is None) != (self._counts[first].soft is None):
            raise ArgumentError(f"documents: {document.key!r} and {first!r}: one has scores, one has none")
        self._counts[document.key] = counts

    @property
    def has_rationale(self) -> bool:
        """Whether any document has one; without, there are no scores."""
        return any(row.spans[1] for row in self._counts.values())

    def scores(self) -> dict[str, Any]:
        """What `eraser_scores` returns. Raises ArgumentError without documents, or without any rationale."""
        rows = list(self._counts.values())
        if not rows:
            raise ArgumentError("documents: got none, at least one is needed")
        if not any(row.spans[1] for row in rows):
            raise ArgumentError("documents: none has a rationale")
        result: dict[str, Any] = {}
        if any(row.spans[2] for row in rows):
            result["iou_scores"] = [
                _iou_scores([(row.hits[i], row.spans[1], row.spans[2]) for row in rows], threshold)
                for i, threshold in enumerate(self.thresholds)
            ]
            result["rationale_prf"] = _set_scores([row.spans for row in rows])
            result["token_prf"] = _set_scores([row.tokens for row in rows])
        soft = np.array([row.soft for row in rows if row.soft is not None])  # (D, 3)
        if len(soft):
            both = ~np.isnan(soft[:, 2])
            means = [soft[:, 0].mean(), *(soft[both, i].mean() if both.any() else math.nan for i in (1, 2))]
            result["token_soft_metrics"] = dict(
                zip(("auprc", "average_precision", "roc_auc_score"), map(float, means), strict=True)
            )
        return result


def eraser_scores(
    documents: Sequence[SpanDocument], *, thresholds: Sequence[float] = (IOU_THRESHOLD,)
) -> dict[str, Any]:
    """What ERASER's official scorer prints for these documents, under the same keys.

    iou_scores          a list, one per threshold: {"threshold", "micro": {p, r, f1}, "macro": {p, r, f1}}. Macro
                        F1 is of the mean precision (documents with predictions) and mean recall (with a rationale)
    rationale_prf       exact spans, token_prf single tokens: {"instance_micro", "instance_macro"}; macro is the
                        mean over documents with either, a missing side counting 0
    token_soft_metrics  auprc over all documents (.5 without rationale); average_precision and roc_auc_score over
                        those with both classes

    The first three are left out when no document has a hard rationale, the last when none has scores. Raises
    ArgumentError for no documents, equal keys, scores for some only, or no rationale anywhere.
    """
    collected = EraserScores(thresholds=thresholds)
    for document in documents:
        collected.add(document)
    return collected.scores()


def _count(document: SpanDocument, thresholds: Sequence[float]) -> _Counts:
    truth, predicted = sorted(set(document.truth)), sorted(set(document.predicted))
    gold, mine = _tokens(truth), _tokens(predicted)
    soft = None
    if document.scores is not None:
        labels, scores = document.labels, np.asarray(document.scores, dtype=np.float64)
        both = labels.any() and not labels.all()
        soft = (
            auprc(labels, scores),
            average_precision(labels, scores) if both else math.nan,
            roc_auc(labels, scores),
        )
    return _Counts(
        hits=tuple(matching_spans(truth, predicted, threshold) for threshold in thresholds),
        spans=(len(set(truth) & set(predicted)), len(truth), len(predicted)),
        tokens=(len(gold & mine), len(gold), len(mine)),
        soft=soft,
    )


def _iou_scores(rows: Sequence[tuple[int, int, int]], threshold: float) -> dict[str, Any]:
    """Rows: (right predicted spans, annotated spans, predicted spans) of each document."""
    right, truths, predictions = (sum(column) for column in zip(*rows, strict=True))
    recalls = [hits / total for hits, total, _ in rows if total]
    precisions = [hits / total for hits, _, total in rows if total]
    return {
        "threshold": threshold,
        "micro": _prf(right / predictions, right / truths),
        "macro": _prf(sum(precisions) / len(precisions), sum(recalls) / len(recalls)),
    }


def _set_scores(rows: Sequence[tuple[int, int, int]]) -> dict[str, dict[str, float]]:
    """Micro and macro over (right, annotated, predicted) of each document."""
    right, truths, predictions = (sum(column) for column in zip(*rows, strict=True))
    each = [
        _prf(hits / predicted if predicted else 0.0, hits / truth if truth else 0.0)
        for hits, truth, predicted in rows
        if truth or predicted
    ]
    return {
        "instance_micro": _prf(right / predictions, right / truths if truths else 0.0),
        "instance_macro": {name: sum(row[name] for row in each) / len(each) for name in ("p", "r", "f1")},
    }


def _tokens(spans: Sequence[Span]) -> set[int]:
    return {token for start, end in spans for token in range(start, end)}


def _prf(precision: float, recall: float) -> dict[str, float]:
    return {"p": precision, "r": recall, "f1": f1_of(precision, recall)}
