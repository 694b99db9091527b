"""Agreement of a set of tokens with a human rationale, and the ways a set is made from scores.

    n tokens; labels (n,) bool, True in the rationale; scores (n,) float; selected (n,) bool

A set is made by a level (`plausibility.select_uniform`, `select_content`) or by a size k (the k best tokens). With a
size, tokens of the same score at its edge are ties, and there are many of them where tokens were dropped (score 0).
Where a tie is broken by position, a method is judged by where its ties stand in the document. So nothing here looks at
positions: `top_k_scores` and `top_k_iou` give the exact mean over every way to break the tie, and `select_top_k`, for
those who need an actual set, breaks it in a random order that depends on a seed alone.

F1 and IOU are counted here and not by scikit-learn: `f1_score` and `jaccard_score` give the same numbers (tested) and
take 250 times as long on one document.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import hypergeom

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import as_labels, as_scores, same_length


class PrecisionRecallF1(NamedTuple):
    """Each NaN where it is not defined."""

    precision: float
    recall: float
    f1: float


def precision(labels: ArrayLike, selected: ArrayLike) -> float:
    """Precision: the share of selected tokens that are in the rationale.

    Formula: precision = TP / (TP + FP)
    Selection: score >= 1/n (`precision`, `precision_present`, `precision_content`: which n, as for FPR), or the k best
        tokens (`precision_at_k`: k = tokens of this document's rationale; `precision_at_density`: k = density · n).
    Range: 0 to 1, higher is better. NaN when nothing is selected. A random selection has the density.
    Misleads: a method that selects very few tokens can have a high precision and miss most of the rationale.
    Reference: Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, section 8.3.

    >>> precision([True, True, False], [True, False, True])
    0.5
    """
    return precision_recall_f1(labels, selected).precision


def recall(labels: ArrayLike, selected: ArrayLike) -> float:
    """Recall: the share of rationale tokens that are selected, as `plausibility.true_positive_rate`.

    Formula: recall = TP / (TP + FN)
    Selection: the k best tokens (`recall_at_k`: k = tokens of this document's rationale; `recall_at_density`: k =
        density · n). At 1/n it is called TPR.
    Range: 0 to 1, higher is better. NaN without a rationale token.
    Misleads: it grows with the number of tokens selected.
    Reference: Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, section 8.3.

    >>> recall([True, True, False], [True, False, True])
    0.5
    """
    return precision_recall_f1(labels, selected).recall


def f1_score(labels: ArrayLike, selected: ArrayLike) -> float:
    """F1: the harmonic mean of precision and recall of the selected tokens.

    Formula: F1 = 2 TP / (2 TP + FP + FN)
    Selection: score >= 1/n (`f1`, `f1_present`, `f1_content`: which n, as for FPR); the k best tokens (`f1_at_k`,
        `f1_at_density`, `token_f1`); or the k best of those with a positive score (`token_f1_at_5`,
        `token_f1_at_mean`). `token_f1` takes a method's own hard rationale where it has one.
    Range: 0 to 1, higher is better. 0 when nothing is selected but there is a rationale; NaN without a rationale token.
    Misleads: selecting everything has an F1 of 2 d / (1 + d) at density d, which is high for dense rationales.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408

    >>> f1_score([True, True, False], [True, False, True])
    0.5
    """
    return precision_recall_f1(labels, selected).f1


def precision_recall_f1(labels: ArrayLike, selected: ArrayLike) -> PrecisionRecallF1:
    """All three; each NaN under the conditions of `precision`, `recall` and `f1_score`."""
    truth, chosen = as_labels(labels), as_labels(selected, "selected")
    same_length("selected", chosen, truth)
    return _from_counts(float((truth & chosen).sum()), int(truth.sum()), int(chosen.sum()))


def token_iou(labels: ArrayLike, selected: ArrayLike) -> float:
    """Token IOU: tokens in both the rationale and the selection, over tokens in either.

    Formula: IOU = |rationale and selected| / |rationale or selected|
    Selection: the k best tokens of those with a positive score; k = 5 (`token_iou_at_5`) or the mean number of
        rationale tokens (`token_iou_at_mean`).
    Range: 0 to 1, higher is better. NaN without a rationale token.
    Misleads: ferret calls it IOU; ERASER's IOU F1 is about spans and another number, see `eraser.iou_f1`.
    Reference: Attanasio et al. (2023), ferret, https://aclanthology.org/2023.eacl-demo.29

    >>> token_iou([True, True, False], [True, False, True])
    0.3333333333333333
    """
    truth, chosen = as_labels(labels), as_labels(selected, "selected")
    same_length("selected", chosen, truth)
    return int((truth & chosen).sum()) / int((truth | chosen).sum()) if truth.any() else math.nan


def top_k_scores(labels: ArrayLike, scores: ArrayLike, k: int, *, positive_only: bool = False) -> PrecisionRecallF1:
    """Precision, recall and F1 of the k best tokens: the exact mean over every way to break ties.

    k: at least 1; over n it is n. positive_only: never take a token whose score is not above 0.

    Of a tie of m tokens with h in the rationale, of which s are still taken, s · h/m are hits on average; all three
    numbers are linear in the hits, so this is their mean. With k the length of the rationale the three are one number
    (R-precision). All NaN without tokens; precision NaN when no token is taken.

    >>> top_k_scores([True, False, False, False], [0.5, 0.5, 0.1, 0.1], 1)
    PrecisionRecallF1(precision=0.5, recall=0.5, f1=0.5)
    """
    truth, values = _pair(labels, scores)
    if len(values) == 0:
        return PrecisionRecallF1(math.nan, math.nan, math.nan)
    edge = _edge(truth, values, k, positive_only=positive_only)
    hits = edge.sure + (edge.taken * edge.tied_hits / edge.tied if edge.taken else 0.0)
    return _from_counts(hits, int(truth.sum()), edge.size)


def top_k_iou(labels: ArrayLike, scores: ArrayLike, k: int, *, positive_only: bool = False) -> float:
    """`token_iou` of the k best tokens: the exact mean over every way to break ties.

    The hits among the s tokens that are taken from a tie of m have a hypergeometric distribution. NaN without a
    rationale token. k and positive_only as in `top_k_scores`.

    >>> top_k_iou([True, False, False], [0.5, 0.5, 0.1], 1)
    0.5
    """
    truth, values = _pair(labels, scores)
    positives = int(truth.sum())
    if positives == 0:
        return math.nan
    edge = _edge(truth, values, k, positive_only=positive_only)
    if edge.taken in (0, edge.tied):
        hits = edge.sure + (edge.tied_hits if edge.taken else 0)
        return hits / (positives + edge.size - hits)
    tied_hits = np.arange(min(edge.taken, edge.tied_hits) + 1)
    chances = hypergeom.pmf(tied_hits, edge.tied, edge.tied_hits, edge.taken)
    every = edge.sure + tied_hits
    return float((chances * every / (positives + edge.size - every)).sum())


def ranking(scores: ArrayLike, *, seed: int | Sequence[int] = 0) -> NDArray[np.int64]:
    """(n,) indices from the highest score to the lowest; equal scores in a random order that depends on the seed.

    >>> ranking([0.1, 0.4, 0.2]).tolist()
    [1, 2, 0]
    """
    values = as_scores(scores)
    shuffled = np.random.default_rng(seed).permutation(len(values))
    return np.asarray(shuffled[np.argsort(-values[shuffled], kind="stable")])


def select_top_k(scores: ArrayLike, k: int, *, seed: int | Sequence[int] = 0) -> NDArray[np.bool_]:
    """(n,) bool: the k tokens with the highest scores; of equal ones at the edge, random ones. k over n selects all.

    seed: the same seed takes the same tokens; no position is preferred.

    >>> select_top_k([0.1, 0.4, 0.1, 0.4, 0.2], 3).tolist()
    [False, True, False, True, True]
    """
    values = as_scores(scores)
    selected = np.zeros(len(values), dtype=bool)
    selected[ranking(values, seed=seed)[: _size(k)]] = True
    return selected


def has_tie_at(scores: ArrayLike, k: int) -> bool:
    """Whether the k best tokens are not one set: tokens inside and outside share the k-th score.

    >>> has_tie_at([0.4, 0.1, 0.1], 2), has_tie_at([0.4, 0.1, 0.1], 1)
    (True, False)
    """
    values = as_scores(scores)
    if _size(k) >= len(values):
        return False
    ordered = np.sort(values)[::-1]
    return bool(ordered[k - 1] == ordered[k])


def density_size(density: float, n: int) -> int:
    """Tokens in a rationale of the data set's mean density: ceil(density · n), so at least 1.

    Rounded up as in ERASER's own baselines. Raises ArgumentError for a density outside [0, 1].

    >>> density_size(0.1, 20), density_size(0.1, 21), density_size(0.0, 21)
    (2, 3, 1)
    """
    if not 0 <= density <= 1:
        raise ArgumentError(f"density: got {density}, must be between 0 and 1")
    return max(1, math.ceil(density * n - 1e-9))  # the margin: .1 · 30 is 3, whatever a float makes of it


class _Edge(NamedTuple):
    """The k best tokens: `size` in all, `sure` hits above the edge, and `taken` of `tied` tokens with the k-th score,
    of which `tied_hits` are in the rationale."""

    size: int
    sure: int
    taken: int
    tied: int
    tied_hits: int


def _edge(truth: NDArray[np.bool_], values: NDArray[np.float64], k: int, *, positive_only: bool) -> _Edge:
    k = min(_size(k), int((values > 0).sum()) if positive_only else len(values))
    if k == 0:
        return _Edge(0, 0, 0, 0, 0)
    lowest = np.partition(values, len(values) - k)[len(values) - k]  # the k-th highest score
    above, tie = values > lowest, values == lowest
    return _Edge(k, int(truth[above].sum()), k - int(above.sum()), int(tie.sum()), int(truth[tie].sum()))


def _pair(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    truth, values = as_labels(labels), as_scores(scores)
    same_length("scores", values, truth)
    return truth, values


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
