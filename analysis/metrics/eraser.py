"""ERASER's agreement metrics (DeYoung et al., 2020), by the definitions of its official scorer.

    n tokens or words of one document; a span is (start, end), end exclusive; D documents

`auprc`, `roc_auc` and `iou_f1` judge one document. `eraser_scores` judges a data set as the official scorer does:
on annotated spans, micro and macro.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from adapler.errors import ArgumentError, DataError
from analysis.metrics.plausibility import as_labels, as_scores, average_precision, same_length

Span = tuple[int, int]
IOU_THRESHOLD = 0.5


def auprc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Trapezoid area under the precision-recall curve, from the point recall 0, precision 1.

        sum_k (R_k - R_(k-1)) · (P_k + P_(k-1)) / 2        over the distinct scores, from the highest

    Not `average_precision`: it interpolates between points, which flatters ties. Constant scores at 10 % density
    give .55; a document without a rationale token gives .5, as in the official scorer, never NaN.

    >>> auprc([True, False, True], [0.5, 0.3, 0.2])
    0.7916666666666666
    """
    truth, values = as_labels(labels), as_scores(scores)
    same_length("scores", values, truth)
    if not truth.any():
        return 0.5
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(truth[order])  # (n,) rationale tokens among the first k
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # ends of the groups of equal scores
    precision = np.concatenate(([1.0], hits[last] / (last + 1)))
    recall = np.concatenate(([0.0], hits[last] / hits[-1]))
    return float((np.diff(recall) * (precision[1:] + precision[:-1])).sum() / 2)


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often a rationale token outranks another one, ties counting half.

    NaN unless there are both.

    >>> roc_auc([True, False, True, False], [0.4, 0.3, 0.2, 0.2])
    0.625
    """
    truth, values = as_labels(labels), as_scores(scores)
    same_length("scores", values, truth)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = rankdata(values)  # (n,) mean ranks within ties, from 1
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def contiguous_spans(selected: ArrayLike) -> tuple[Span, ...]:
    """Runs of selected tokens, in order.

    >>> contiguous_spans([False, True, True, False, True])
    ((1, 3), (4, 5))
    """
    chosen = as_labels(selected, "selected").astype(np.int8)
    edges = np.diff(chosen, prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return tuple(zip(starts.tolist(), ends.tolist(), strict=True))


def iou_f1(labels: ArrayLike, selected: ArrayLike, *, threshold: float = IOU_THRESHOLD) -> float:
    """F1 of the selected runs of tokens, one being right when its best IOU with a run of the rationale is enough.

        precision = right / selected runs,     recall = right / rationale runs,     F1 = 2 P R / (P + R)

    ERASER counts right *selected* runs in both, so two halves of one run (IOU .5 each) have a recall of 2 and an
    F1 over 1. ERASER's macro F1 is the F1 of the documents' mean precision and recall, not the mean of these. 0
    when nothing is right; NaN without a rationale token.

    >>> iou_f1([1, 1, 1, 1, 0, 0, 1], [1, 1, 1, 0, 0, 0, 0])
    0.6666666666666666
    """
    truth, chosen = as_labels(labels), as_labels(selected, "selected")
    same_length("selected", chosen, truth)
    if not truth.any():
        return math.nan
    gold, runs = contiguous_spans(truth), contiguous_spans(chosen)
    right = _matches(gold, runs, threshold)
    return _f1(right / len(runs), right / len(gold)) if runs else 0.0


@dataclass(frozen=True)
class SpanDocument:
    """One document of one instance, as in ERASER's files.

    key        annotation id and document id, together unique
    length     in tokens
    truth      annotated spans, in any order; as ERASER counts them, equal ones once, touching ones apart
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
                if not 0 <= start < end <= self.length:
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
    _check(documents)
    result: dict[str, Any] = {}
    if any(document.predicted for document in documents):
        result["iou_scores"] = [_iou_scores(documents, threshold) for threshold in thresholds]
        result["rationale_prf"] = _set_scores([(set(d.truth), set(d.predicted)) for d in documents])
        result["token_prf"] = _set_scores([(_tokens(d.truth), _tokens(d.predicted)) for d in documents])
    if documents[0].scores is not None:
        pairs = [(document.labels, np.asarray(document.scores, dtype=np.float64)) for document in documents]
        both = [(labels, scores) for labels, scores in pairs if labels.any() and not labels.all()]
        result["token_soft_metrics"] = {
            "auprc": _mean(auprc, pairs),
            "average_precision": _mean(average_precision, both),
            "roc_auc_score": _mean(roc_auc, both),
        }
    return result


def _check(documents: Sequence[SpanDocument]) -> None:
    if not documents:
        raise ArgumentError("documents: got none, at least one is needed")
    seen: set[str] = set()
    for document in documents:
        if document.key in seen:
            raise ArgumentError(f"documents: {document.key!r} comes twice")
        seen.add(document.key)
        if (document.scores is None) != (documents[0].scores is None):
            raise ArgumentError(f"documents: {document.key!r} and {documents[0].key!r}: one has scores, one has none")
    if not any(document.truth for document in documents):
        raise ArgumentError("documents: none has a rationale")


def _matches(truth: Sequence[Span], predicted: Sequence[Span], threshold: float) -> int:
    """Predicted spans whose best IOU with a true one reaches the threshold."""
    if not truth or not predicted:
        return 0
    gold, mine = np.array(truth), np.array(predicted)
    start = np.maximum(mine[:, None, 0], gold[None, :, 0])  # (predicted, truth)
    end = np.minimum(mine[:, None, 1], gold[None, :, 1])
    overlap = np.clip(end - start, 0, None)
    union = (mine[:, 1] - mine[:, 0])[:, None] + (gold[:, 1] - gold[:, 0])[None] - overlap
    return int(((overlap / union).max(1) >= threshold).sum())


def _iou_scores(documents: Sequence[SpanDocument], threshold: float) -> dict[str, Any]:
    rows = []
    for document in documents:
        truth, predicted = sorted(set(document.truth)), sorted(set(document.predicted))
        rows.append((_matches(truth, predicted, threshold), len(truth), len(predicted)))
    right, truths, predictions = (sum(column) for column in zip(*rows, strict=True))
    recalls = [hits / total for hits, total, _ in rows if total]
    precisions = [hits / total for hits, _, total in rows if total]
    return {
        "threshold": threshold,
        "micro": _prf(right / predictions, right / truths),
        "macro": _prf(sum(precisions) / len(precisions), sum(recalls) / len(recalls)),
    }


def _set_scores(pairs: Sequence[tuple[set[Any], set[Any]]]) -> dict[str, dict[str, float]]:
    """Micro and macro over (truth, predicted) of each document."""
    truths, predictions, right = (
        sum(len(truth) for truth, _ in pairs),
        sum(len(predicted) for _, predicted in pairs),
        sum(len(truth & predicted) for truth, predicted in pairs),
    )
    rows = [
        _prf(
            len(truth & predicted) / len(predicted) if predicted else 0.0,
            len(truth & predicted) / len(truth) if truth else 0.0,
        )
        for truth, predicted in pairs
        if truth or predicted
    ]
    return {
        "instance_micro": _prf(right / predictions, right / truths),
        "instance_macro": {name: sum(row[name] for row in rows) / len(rows) for name in ("p", "r", "f1")},
    }


def _tokens(spans: Sequence[Span]) -> set[int]:
    return {token for start, end in spans for token in range(start, end)}


def _prf(precision: float, recall: float) -> dict[str, float]:
    return {"p": precision, "r": recall, "f1": _f1(precision, recall)}


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def _mean(
    metric: Callable[[ArrayLike, ArrayLike], float], pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.float64]]]
) -> float:
    return float(np.mean([metric(labels, scores) for labels, scores in pairs])) if pairs else math.nan
