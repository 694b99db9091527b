"""ERASER's agreement metrics (DeYoung et al., 2020), by the definitions of its official scorer.

    n tokens or words of one document; a span is (start, end), end exclusive; D documents

`auprc`, `roc_auc` and `iou_f1` judge one document. `EraserScores` (documents one by one) and `eraser_scores` (all at
once) judge a data set as the official scorer does: on annotated spans, micro and macro.

The areas are computed here and not by scikit-learn: `precision_recall_curve` with `auc`, and `roc_auc_score`, give the
same numbers (tested with ties) and take 15 to 25 times as long on one document.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from adapler.errors import ArgumentError, DataError
from analysis.metrics.plausibility import as_labels, as_scores, average_precision, same_length
from analysis.metrics.selection import has_tie_at, select_top_k

Span = tuple[int, int]
IOU_THRESHOLD = 0.5
TIE_DRAWS = 32  # random orders of a tie that `top_k_iou_f1` is the mean over


def auprc(labels: ArrayLike, scores: ArrayLike) -> float:
    """AUPRC (ERASER): the trapezoid area under the precision-recall curve, from recall 0 and precision 1.

    Formula: sum_k (R_k - R_(k-1)) · (P_k + P_(k-1)) / 2 over the distinct scores, from the highest
    Selection: none. Only the order of the content tokens counts. `auprc_positive` first sets negative scores to 0, as
        ferret does.
    Range: 0 to 1, higher is better. A document without a rationale token gives .5, as in the official scorer, never
        NaN; the metrics `auprc` and `auprc_positive` of a report leave such documents out.
    Misleads: it interpolates between points, which flatters ties: constant scores at 10 % density give .55. It is not
        `average_precision`.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408

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
    """ROC-AUC: how often a rationale token has a higher score than another token, ties counting half.

    Formula: P(s_i > s_j) + P(s_i = s_j) / 2, i a rationale token and j another one
    Selection: none. Only the order of the content tokens counts.
    Range: 0 to 1, higher is better. Random scores give .5 whatever the density. NaN unless there are both kinds.
    Misleads: with a sparse rationale a high value can still mean a low precision.
    Reference: Fawcett (2006), An introduction to ROC analysis, https://doi.org/10.1016/j.patrec.2005.10.010

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
    """IOU F1 of one document: F1 of runs of selected tokens, right when they overlap a rationale run enough.

    Formula: precision = right / selected runs, recall = right / rationale runs, F1 = 2 P R / (P + R). A selected run is
        right when its best intersection over union with a run of the rationale is at least the threshold.
    Selection: a method's own hard rationale, or else the k best tokens, k = ceil(density · n).
    Range: 0 or more, higher is better. ERASER counts right *selected* runs in recall too, so two halves of one run (IOU
        .5 each) have a recall of 2 and an F1 over 1. 0 when nothing is right; NaN without a rationale token.
    Misleads: the mean of this over documents is not what ERASER prints. Its macro F1 is the F1 of the documents' mean
        precision and mean recall, and it counts annotated spans that touch as two: see `eraser_scores`.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408

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


def top_k_iou_f1(labels: ArrayLike, scores: ArrayLike, k: int, *, seed: int = 0, draws: int = TIE_DRAWS) -> float:
    """`iou_f1` of the k best tokens: the mean over so many random orders of the tokens that tie at the edge.

    There is no closed form for spans. The same seed gives the same number; without a tie one draw is exact.

    >>> top_k_iou_f1([True, True, False], [0.5, 0.4, 0.1], 2)
    1.0
    """
    times = draws if has_tie_at(scores, k) else 1
    return float(np.mean([iou_f1(labels, select_top_k(scores, k, seed=[seed, draw])) for draw in range(times)]))


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


def flatten_scores(scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(name, value) of everything in what `eraser_scores` returned, e.g. ("iou_scores.0.5.macro.f1", 0.3).

    >>> list(flatten_scores({"iou_scores": [{"threshold": 0.5, "micro": {"p": 1.0}}]}))
    [('iou_scores.0.5.micro.p', 1.0)]
    """
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{deeper}", number) for deeper, number in flatten_scores(value))
        elif isinstance(value, list):
            for one in value:
                rest = {key: inner for key, inner in one.items() if key != "threshold"}
                yield from ((f"{name}.{one['threshold']}.{deeper}", number) for deeper, number in flatten_scores(rest))
        else:
            yield name, float(value)


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
        hits=tuple(_matches(truth, predicted, threshold) for threshold in thresholds),
        spans=(len(set(truth) & set(predicted)), len(truth), len(predicted)),
        tokens=(len(gold & mine), len(gold), len(mine)),
        soft=soft,
    )


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
    return {"p": precision, "r": recall, "f1": _f1(precision, recall)}


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0
