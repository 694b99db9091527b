"""Agreement of scores with a human rationale, for the tokens of one document.

    n tokens; labels (n,) bool, True in the rationale; scores (n,) float; selected (n,) bool

Every function is pure and checks its arguments. A metric that is not defined for a document (no rationale token, or
none outside it) is NaN, never a silent 0: the caller skips the document for this metric and counts it.

Average precision is computed here and not by scikit-learn: `average_precision_score` gives the same number (tested
with ties) and takes 15 times as long, and one report asks for it 15,000 times (13 methods, 6 layers, 200 documents).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapler.errors import ArgumentError

# Scores are float32: a token at the uniform level exactly must not miss it by a rounding error.
UNIFORM_TOLERANCE = 1e-6


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision (AP): the step-wise area under the precision-recall curve.

    Formula: AP = sum_k (R_k - R_(k-1)) · P_k over the distinct scores, from the highest. Tokens with the same score
        enter together. The same number as scikit-learn's `average_precision_score`.
    Selection: none. Only the order of the content tokens counts, and no n enters.
    Range: 0 to 1, higher is better. Constant scores give the density of the rationale; random scores a little more,
        see `expected_average_precision`. NaN without a rationale token.
    Misleads: AP grows with the share of tokens that are rationale. Compare methods on the same documents only, and
        print the AP of random scores beside it. It is not ERASER's `auprc`, which is a trapezoid.
    Reference: Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, section 8.4.

    >>> average_precision([True, False, True], [0.5, 0.3, 0.2])
    0.8333333333333333
    """
    truth, values = as_labels(labels), as_scores(scores)
    same_length("scores", values, truth)
    positives = int(truth.sum())
    if positives == 0:
        return math.nan
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    hits = np.cumsum(truth[order])  # (n,) rationale tokens among the first k
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last token of each group of equal scores
    precision = hits[last] / (last + 1)
    gained = np.diff(hits[last], prepend=0)
    return float((gained * precision).sum() / positives)


def expected_average_precision(positives: int, total: int) -> float:
    """Chance level of average precision: its mean over random scores without ties.

    positives: k, rationale tokens; total: n, all tokens.

    Formula: E[AP] = ( H_n + (k - 1)/(n - 1) · (n - H_n) ) / n,      H_n = 1 + 1/2 + ... + 1/n
    Range: a little above the density k/n. NaN without a rationale token.

    Raises ArgumentError unless 0 <= positives <= total and total >= 1.

    >>> expected_average_precision(1, 2)
    0.75
    """
    if not 0 <= positives <= total or total < 1:
        raise ArgumentError(
            f"positives, total: got {positives} of {total}, must be 0 <= positives <= total, total >= 1"
        )
    if positives == 0:
        return math.nan
    if total == 1:
        return 1.0
    harmonic = float((1.0 / np.arange(1, total + 1)).sum())
    return (harmonic + (positives - 1) / (total - 1) * (total - harmonic)) / total


def select_uniform(scores: ArrayLike, n: int) -> NDArray[np.bool_]:
    """(n,) bool: the tokens whose score is at least 1/n, the uniform level.

    n: the number of tokens whose scores sum to 1. It may be larger than the number of scores given, since special
        tokens have scores too.

    Scores that are all the same share (1/n each) reach the level, so all tokens are selected. Scores that are all 0
    do not, so none is: a method that marks nothing selects nothing. Raises ArgumentError for a negative score.

    >>> select_uniform([0.5, 0.25, 0.25, 0.0], 4).tolist()
    [True, True, True, False]
    """
    values = as_scores(scores)
    if n < 1:
        raise ArgumentError(f"n: got {n}, must be at least 1")
    if (values < 0).any():
        raise ArgumentError(f"scores: must not be negative, the lowest is {np.min(values):.3g}")
    return np.asarray(values * n >= 1 - UNIFORM_TOLERANCE)


def select_content(scores: ArrayLike) -> NDArray[np.bool_]:
    """(n,) bool: the tokens with at least the mean score of the (content) tokens given.

    The same as `select_uniform` after dividing by the sum of these scores. Scores that are all 0 select nothing, as
    in `select_uniform`.
    """
    values = as_scores(scores)
    total = float(values.sum())
    if total == 0:
        return np.zeros(len(values), dtype=bool)
    return select_uniform(values / total, len(values))


def false_positive_rate(labels: ArrayLike, selected: ArrayLike) -> float:
    """False positive rate (FPR): the share of tokens outside the rationale that are selected.

    Formula: FPR = FP / (FP + TN)
    Selection: score >= 1/n. The metric's name says which n: tokens of the input (`fpr`), tokens present at the layer
        (`fpr_present`) or content tokens (`fpr_content`).
    Range: 0 to 1, lower is better. NaN when every token is in the rationale.
    Misleads: selecting nothing has a perfect FPR, so read it beside TPR or J. With n = tokens of the input it falls
        when [CLS] and [SEP] hold much of the mass, whatever the other tokens get.
    Reference: Modarressi et al. (2022), AdapLeR, https://aclanthology.org/2022.acl-long.1

    >>> false_positive_rate([True, False, False, False], [True, True, False, False])
    0.3333333333333333
    """
    return _rate(labels, selected, of=False)


def true_positive_rate(labels: ArrayLike, selected: ArrayLike) -> float:
    """True positive rate (TPR, also recall): the share of rationale tokens that are selected.

    Formula: TPR = TP / (TP + FN)
    Selection: score >= 1/n. The metric's name says which n: tokens of the input (`tpr`), tokens present at the layer
        (`tpr_present`) or content tokens (`tpr_content`).
    Range: 0 to 1, higher is better. NaN without a rationale token.
    Misleads: selecting everything has a perfect TPR, so read it beside FPR or J.
    Reference: Fawcett (2006), An introduction to ROC analysis, https://doi.org/10.1016/j.patrec.2005.10.010

    >>> true_positive_rate([True, True, False], [True, False, True])
    0.5
    """
    return _rate(labels, selected, of=True)


def youden_j(labels: ArrayLike, selected: ArrayLike) -> float:
    """Youden's J: how much more often a rationale token is selected than another one.

    Formula: J = TPR - FPR
    Selection: score >= 1/n. The metric's name says which n: tokens of the input (`j`), tokens present at the layer
        (`j_present`) or content tokens (`j_content`).
    Range: -1 to 1, higher is better. 0 for a selection that ignores the rationale, whatever its size. NaN without a
        rationale token, and when every token is in the rationale.
    Misleads: it weighs both kinds of tokens alike, however few rationale tokens there are.
    Reference: Youden (1950), Index for rating diagnostic tests.

    >>> youden_j([True, True, False], [True, False, True])
    -0.5
    """
    return true_positive_rate(labels, selected) - false_positive_rate(labels, selected)


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float) -> float:
    """TPR at equal FPR: the share of rationale tokens ranked before too many others have come.

    fpr: the level, from 0 to 1; the number in the metric's name is in percent.

    Formula: TPR = (a + h · (k - b + 1) / (q + 1)) / P, k = floor(FPR · N); P rationale tokens and N others. The
        others' (k + 1)-th highest score is shared by h rationale tokens and q others; a rationale tokens and b others
        lie above it. It is the ROC curve at this FPR, as the exact mean over every order of the tied tokens.
    Selection: the longest beginning of the ranking with an FPR of at most 5, 10 or 20 % (`tpr_at_fpr_5`,
        `tpr_at_fpr_10`, `tpr_at_fpr_20`): as many other tokens for every method, whatever share of the mass they hold.
    Range: 0 to 1, higher is better. Random scores give (k + 1)/(N + 1) in the mean, and constant ones give just that:
        about the FPR, and more than it in short texts. NaN unless there are both kinds of tokens.
    Misleads: it judges the order, not the tokens that a method would select by itself. In a text with fewer than
        1/FPR other tokens k is 0: what counts are the rationale tokens above all others.
    Reference: Fawcett (2006), An introduction to ROC analysis, https://doi.org/10.1016/j.patrec.2005.10.010

    Raises ArgumentError for a level outside [0, 1].

    >>> tpr_at_fpr([True, False, True, False], [0.4, 0.3, 0.2, 0.1], 0.1)
    0.5
    """
    truth, values = as_labels(labels), as_scores(scores)
    same_length("scores", values, truth)
    if not 0 <= fpr <= 1:
        raise ArgumentError(f"fpr: got {fpr}, must be between 0 and 1")
    wanted, others = values[truth], np.sort(values[~truth])[::-1]
    if not len(wanted) or not len(others):
        return math.nan
    k = math.floor(fpr * len(others) + 1e-9)  # the margin: .1 · 30 is 3, whatever a float makes of it
    if k >= len(others):
        return 1.0
    above, tied = wanted > others[k], wanted == others[k]
    others_above, others_tied = others > others[k], others == others[k]
    share = (k - int(others_above.sum()) + 1) / (int(others_tied.sum()) + 1)  # of the tie: before its next other token
    return float((above.sum() + tied.sum() * share) / len(wanted))


def density(labels: ArrayLike) -> float:
    """Share of the tokens that are in the rationale. NaN without tokens.

    >>> density([True, False, False, False])
    0.25
    """
    truth = as_labels(labels)
    return float(truth.mean()) if len(truth) else math.nan


def _rate(labels: ArrayLike, selected: ArrayLike, *, of: bool) -> float:
    truth = as_labels(labels)
    chosen = as_labels(selected, "selected")
    same_length("selected", chosen, truth)
    group = truth if of else ~truth
    total = int(group.sum())
    return float((chosen & group).sum() / total) if total else math.nan


def as_labels(values: ArrayLike, name: str = "labels") -> NDArray[np.bool_]:
    """(n,) bool. Raises ArgumentError for another shape, and for anything but 0 and 1."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ArgumentError(f"{name}: must be one-dimensional, got shape {array.shape}")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise ArgumentError(f"{name}: must be 0 or 1, got {np.setdiff1d(array, (0, 1))[0]}")
    return array.astype(bool)


def as_scores(values: ArrayLike) -> NDArray[np.float64]:
    """(n,) float64. Raises ArgumentError for another shape, NaN and infinity."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ArgumentError(f"scores: must be one-dimensional, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ArgumentError("scores: must be finite, got NaN or infinity")
    return array


def same_length(name: str, values: NDArray[Any], labels: NDArray[np.bool_]) -> None:
    """Raises ArgumentError unless there is one value for each label."""
    if len(values) != len(labels):
        raise ArgumentError(f"{name}: {len(values)} tokens, labels have {len(labels)}")
