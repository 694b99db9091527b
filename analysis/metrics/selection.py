"""Agreement of a set of tokens with a human rationale, and the ways a set is made from scores.

    n tokens; labels (n,) bool, True in the rationale; scores (n,) float; selected (n,) bool

A set is made by a level (`plausibility.select_uniform`, `select_content`) or by a size (`select_top_k`). With a
size, tokens of the same score at its edge are ties; there are many of them where tokens were dropped (score 0).
`top_k_scores` takes them in the mean over every way to break the tie, so the order of the document does not
count; `select_top_k`, for metrics that need an actual set, takes the earliest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import as_labels, as_scores, same_length


class PrecisionRecallF1(NamedTuple):
    """Each NaN where it is not defined."""

    precision: float
    recall: float
    f1: float


def precision(labels: ArrayLike, selected: ArrayLike) -> float:
    """TP / (TP + FP), the share of selected tokens that are in the rationale. NaN when nothing is selected.

    >>> precision([True, True, False], [True, False, True])
    0.5
    """
    return precision_recall_f1(labels, selected).precision


def f1_score(labels: ArrayLike, selected: ArrayLike) -> float:
    """2 TP / (2 TP + FP + FN). 0 when nothing is selected but there is a rationale; NaN without a rationale token.

    >>> f1_score([True, True, False], [True, False, True])
    0.5
    """
    return precision_recall_f1(labels, selected).f1


def precision_recall_f1(labels: ArrayLike, selected: ArrayLike) -> PrecisionRecallF1:
    """All three; each NaN under the conditions of `precision`, `true_positive_rate` and `f1_score`."""
    truth, chosen = as_labels(labels), as_labels(selected, "selected")
    same_length("selected", chosen, truth)
    return _from_counts(float((truth & chosen).sum()), int(truth.sum()), int(chosen.sum()))


def token_iou(labels: ArrayLike, selected: ArrayLike) -> float:
    """|rationale and selected| / |rationale or selected| over tokens. NaN without a rationale token.

    ferret's "token IOU" (Attanasio et al., 2023); ERASER's IOU F1 is another thing, see `eraser.iou_f1`.

    >>> token_iou([True, True, False], [True, False, True])
    0.3333333333333333
    """
    truth, chosen = as_labels(labels), as_labels(selected, "selected")
    same_length("selected", chosen, truth)
    return int((truth & chosen).sum()) / int((truth | chosen).sum()) if truth.any() else math.nan


def top_k_scores(labels: ArrayLike, scores: ArrayLike, k: int) -> PrecisionRecallF1:
    """Precision, recall and F1 of the k tokens with the highest scores, in the mean over all breakings of ties.

    Of a tie of m tokens with h in the rationale, of which s are still taken, s · h/m are hits on average; all
    three metrics are linear in the hits, so this is their exact mean. k over n is n. With k the rationale's
    length the three are one number (R-precision).

    >>> top_k_scores([True, False, False, False], [0.5, 0.5, 0.1, 0.1], 1)
    PrecisionRecallF1(precision=0.5, recall=0.5, f1=0.5)
    """
    truth, values = as_labels(labels), as_scores(scores)
    same_length("scores", values, truth)
    k = min(_size(k), len(values))
    if k == 0:
        return PrecisionRecallF1(math.nan, math.nan, math.nan)
    edge = np.partition(values, len(values) - k)[len(values) - k]  # the k-th highest score
    above, tie = values > edge, values == edge
    hits = float(truth[above].sum()) + (k - int(above.sum())) * float(truth[tie].mean())
    return _from_counts(hits, int(truth.sum()), k)


def select_top_k(scores: ArrayLike, k: int) -> NDArray[np.bool_]:
    """(n,) bool: the k tokens with the highest scores, of equal ones the earliest. k over n selects all.

    >>> select_top_k([0.1, 0.4, 0.1, 0.4, 0.4], 2).tolist()
    [False, True, False, True, False]
    """
    values = as_scores(scores)
    selected = np.zeros(len(values), dtype=bool)
    selected[np.argsort(-values, kind="stable")[: _size(k)]] = True
    return selected


def density_size(density: float, n: int) -> int:
    """Tokens in a rationale of the data set's mean density: ceil(density · n), so at least 1.

    Rounded up as in ERASER's own baselines. Raises ArgumentError for a density outside [0, 1].

    >>> density_size(0.1, 20), density_size(0.1, 21), density_size(0.0, 21)
    (2, 3, 1)
    """
    if not 0 <= density <= 1:
        raise ArgumentError(f"density: got {density}, must be between 0 and 1")
    return max(1, math.ceil(density * n - 1e-9))  # the margin: .1 · 30 is 3, whatever a float makes of it


def _from_counts(hits: float, positives: int, chosen: int) -> PrecisionRecallF1:
    return PrecisionRecallF1(
        precision=hits / chosen if chosen else math.nan,
        recall=hits / positives if positives else math.nan,
        f1=2 * hits / (positives + chosen) if positives else math.nan,
    )


def _size(k: int) -> int:
    if k < 1:
        raise ArgumentError(f"k: got {k}, must be at least 1")
    return int(k)
