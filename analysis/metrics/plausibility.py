"""Agreement of scores, or of a set of tokens, with a human rationale, for the tokens (or words) of one document.

    n tokens; labels (n,) bool, True in the rationale; scores (n,) float; selected (n,) bool; a span is (start, end)

A metric that is not defined for a document (no rationale token, or none outside it) is NaN, never a silent 0. METRICS,
at the end, has every metric by name; those that need the model once more are added by `faithfulness`.

A set is made by a level (1/n) or by a size k (the k best tokens). Where tokens of one score are tied at the edge of a
size, `top_k_f1` and `top_k_iou` give the exact mean over every way to break the tie, `select_top_k` a random one.

scikit-learn's curves and counts give the same numbers (tested with ties) and take 15 to 250 times as long on one
document; a report asks for 15,000 (13 methods, 6 layers, 200 documents).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import hypergeom, rankdata

from adapler.errors import ArgumentError

Span = tuple[int, int]
UNIFORM_TOLERANCE = 1e-6  # scores are float32: a token at the uniform level must not miss it by a rounding error
IOU_THRESHOLD = 0.5
TIE_DRAWS = 32  # random orders of a tie that `top_k_iou_f1` is the mean over
RECALL_GRID: NDArray[np.float64] = np.linspace(0, 1, 101)
GROUPS = ("ranking", "selection", "eraser", "faithfulness", "soft", "normalised", "sparseness")
AT_DENSITY = "at_density"  # of a name: k = density · content tokens
FERRET_K = 5  # the size of ferret's hard rationale when it explains one text, whatever its length

# Which n, or k, a metric uses: `Metric.level`. Tables and documentation print these words.
RANKING = "order of the content tokens, no n"
EQUAL_FPR = "order of the content tokens, down to a given FPR, no n"
INPUT = "score >= 1/n, n = tokens of the input"
PRESENT = "score >= 1/n, n = tokens present at the layer"
CONTENT = "score >= 1/n, n = content tokens, scores over them alone"
OWN_SIZE = "k best tokens, k = length of the document's rationale"
DENSITY = "k best tokens, k = density · content tokens"
HARD = "the method's hard rationale, else the k best tokens, k = density · content tokens"
FIXED_SIZE = f"k best tokens with a positive score, k = {FERRET_K}"
MEAN_SIZE = "k best tokens with a positive score, k = mean length of a rationale"
PERCENT = "best X % of the content tokens"
LEAVE_ONE_OUT = "each content token alone"
BY_CHANCE = "each content token by chance, by its own score"
NO_SELECTION = "all content tokens, no n"


# ---------------------------------------------------------------- arguments


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


def as_pair(labels: ArrayLike, values: ArrayLike, name: str = "scores") -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Labels, and scores or other labels: both (n,), checked."""
    truth, other = as_labels(labels), as_scores(values) if name.endswith("scores") else as_labels(values, name)
    if len(other) != len(truth):
        raise ArgumentError(f"{name}: {len(other)} tokens, labels have {len(truth)}")
    return truth, other


# ---------------------------------------------------------------- ranking


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision (AP): the step-wise area under the precision-recall curve.

    Formula: AP = sum_k (R_k - R_(k-1)) · P_k over the distinct scores, from the highest. Tokens with the same score
        enter together. The same number as scikit-learn's `average_precision_score`.
    Selection: none. Only the order of the content tokens counts, and no n enters.
    Range: 0 to 1, higher is better. Constant scores give the density of the rationale; random scores a little more,
        see `expected_average_precision`. NaN without a rationale token.
    Misleads: AP grows with the share of rationale tokens. Compare methods on the same documents only, beside the AP of
        random scores. It is not ERASER's `auprc`, which is a trapezoid.
    Reference: Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, section 8.4.

    >>> average_precision([True, False, True], [0.5, 0.3, 0.2])
    0.8333333333333333
    """
    return soft_average_precision(*as_pair(labels, scores))


def soft_average_precision(shares: ArrayLike, scores: ArrayLike) -> float:
    """Soft AP: average precision against the share of the annotators who marked each token, (n,) from 0 to 1.

    Formula: that of `average_precision`, in which a token counts as relevant by its share: the AP of the tokens of all
        annotators put together, each with the marks of one of them.
    Selection: none. Only the order of the content tokens counts, and no n enters.
    Range: 0 to 1, higher is better. NaN without a mark, and for a document that does not tell its annotators apart.
    Misleads: an annotator who marks more words weighs more. It is below AP where people disagree, whatever the method.
    Reference: Plank (2022), The "problem" of human label variation, https://aclanthology.org/2022.emnlp-main.731

    >>> soft_average_precision([1, 0.5, 0], [0.2, 0.5, 0.3])
    0.5
    """
    truth, values = as_scores(shares), as_scores(scores)
    if not truth.any():
        return math.nan
    hits, taken = _curve(truth, values)
    return float((np.diff(hits, prepend=0) * hits / taken).sum() / hits[-1])


def expected_average_precision(positives: int, total: int) -> float:
    """Chance level of average precision: its mean over random scores without ties. positives: k, rationale tokens;
    total: n, all tokens. NaN without a rationale token.

    Formula: E[AP] = ( H_n + (k - 1)/(n - 1) · (n - H_n) ) / n,      H_n = 1 + 1/2 + ... + 1/n
    """
    if positives == 0 or total == 1:
        return 1.0 if positives else math.nan
    harmonic = float((1.0 / np.arange(1, total + 1)).sum())
    return (harmonic + (positives - 1) / (total - 1) * (total - harmonic)) / total


def auprc(labels: ArrayLike, scores: ArrayLike) -> float:
    """AUPRC (ERASER): the trapezoid area under the precision-recall curve, from recall 0 and precision 1.

    Formula: sum_k (R_k - R_(k-1)) · (P_k + P_(k-1)) / 2 over the distinct scores, from the highest
    Selection: none. Only the order of the content tokens counts. `auprc_positive` first sets negative scores to 0, as
        ferret does.
    Range: 0 to 1, higher is better. A document without a rationale token gives .5, as in the official scorer; the
        metrics `auprc` and `auprc_positive` of a report leave such documents out.
    Misleads: it interpolates between points, which flatters ties: constant scores at 10 % density give .55. It is not
        `average_precision`.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408
    """
    truth, values = as_pair(labels, scores)
    if not truth.any():
        return 0.5
    hits, taken = _curve(truth, values)
    precision, recall = np.append(1.0, hits / taken), np.append(0.0, hits / hits[-1])
    return float((np.diff(recall) * (precision[1:] + precision[:-1])).sum() / 2)


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """ROC-AUC: how often a rationale token has a higher score than another token, ties counting half.

    Formula: P(s_i > s_j) + P(s_i = s_j) / 2, i a rationale token and j another one
    Selection: none. Only the order of the content tokens counts.
    Range: 0 to 1, higher is better. Random scores give .5 whatever the density. NaN unless there are both kinds.
    Misleads: with a sparse rationale a high value can still mean a low precision.
    Reference: Fawcett (2006), An introduction to ROC analysis, https://doi.org/10.1016/j.patrec.2005.10.010
    """
    truth, values = as_pair(labels, scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = rankdata(values)  # (n,) mean ranks within ties, from 1
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float) -> float:
    """TPR at equal FPR: the share of rationale tokens ranked before too many others have come.

    fpr: the level, from 0 to 1; the number in the metric's name is in percent.

    Formula: TPR = (a + h · (k - b + 1) / (q + 1)) / P, k = floor(FPR · N); P rationale tokens and N others. The
        others' (k + 1)-th highest score is shared by h rationale tokens and q others; a rationale tokens and b others
        lie above it. It is the ROC curve at this FPR, as the exact mean over every order of the tied tokens.
    Selection: the longest beginning of the ranking with an FPR of at most 5, 10 or 20 % (`tpr_at_fpr_5`,
        `tpr_at_fpr_10`, `tpr_at_fpr_20`): as many other tokens for every method, whatever share of the mass they hold.
    Range: 0 to 1, higher is better. Constant scores give (k + 1)/(N + 1), as random ones do in the mean: about the
        FPR, more in short texts. NaN unless there are both kinds of tokens.
    Misleads: it judges the order, not the tokens that a method would select by itself. In a text with fewer than
        1/FPR other tokens k is 0: what counts are the rationale tokens above all others.
    Reference: Fawcett (2006), An introduction to ROC analysis, https://doi.org/10.1016/j.patrec.2005.10.010

    >>> tpr_at_fpr([True, False, True, False], [0.4, 0.3, 0.2, 0.1], 0.1)
    0.5
    """
    truth, values = as_pair(labels, scores)
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


def precision_at_recall(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """(101,) interpolated precision-recall curve at RECALL_GRID: the best precision at this recall or a higher one.

    Formula: p(r) = max over thresholds t with R(t) >= r of P(t). Tokens with the same score enter together.
    Range: 0 to 1, falling with the recall. All NaN without a rationale token.
    Misleads: because of the maximum, random scores lie above the density at low recall. Compare with their curve.
    Reference: Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, equation 8.7.
    """
    truth, values = as_pair(labels, scores)
    if not truth.any():
        return np.full(len(RECALL_GRID), np.nan)
    hits, taken = _curve(truth, values)
    best = np.maximum.accumulate((hits / taken)[::-1])[::-1]  # best precision from this threshold on
    # recalls are multiples of 1/positives; a grid point that is one in exact arithmetic must not miss it
    return np.asarray(best[np.searchsorted(hits, RECALL_GRID * hits[-1] - 1e-9, side="left")])


def gini(scores: ArrayLike) -> float:
    """Sparseness: the Gini coefficient of the absolute scores of the content tokens.

    Formula: sum over k = 1..n of (2 k - n - 1) · a_(k) / (n · sum of a), a_(1) <= ... <= a_(n) the absolute scores
    Selection: none. No n of a threshold enters.
    Range: 0 (all the same) to 1 - 1/n (one token has everything). NaN without tokens, or when all scores are 0.
    Misleads: it says how easy an explanation is to read, not how right it is: a method that points at one wrong token
        has the best value. The highest possible value depends on n, so long and short texts are not alike.
    Reference: Hurley and Rickard (2009), Comparing Measures of Sparsity, https://arxiv.org/abs/0811.4706; for
        explanations: Chalasani et al. (2020), https://arxiv.org/abs/1810.06583

    >>> gini([1, 1, 1, 1]), gini([0, 0, 0, -2])
    (0.0, 0.75)
    """
    sizes = np.sort(np.abs(as_scores(scores)))
    n, total = len(sizes), float(sizes.sum())
    if not n or total == 0:
        return math.nan
    return float(((2 * np.arange(1, n + 1) - n - 1) * sizes).sum() / (n * total))


def _curve(truth: NDArray[Any], values: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Rationale tokens (or their shares' sum), and tokens, from each distinct score on, from the highest down."""
    order = np.argsort(-values, kind="stable")
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # ends of the groups of equal scores
    return np.cumsum(truth[order])[last], last + 1


# ---------------------------------------------------------------- selection at a level


def select_uniform(scores: ArrayLike, n: int) -> NDArray[np.bool_]:
    """(n,) bool: the tokens whose score is at least 1/n, the uniform level: all of equal scores, none where all are 0.

    n: the number of tokens whose scores sum to 1; with special ones among them it is larger than the number of scores.
    Raises ArgumentError for a negative score.
    """
    values = as_scores(scores)
    if (values < 0).any():
        raise ArgumentError(f"scores: must not be negative, the lowest is {np.min(values):.3g}")
    return np.asarray(values * n >= 1 - UNIFORM_TOLERANCE)


def select_content(scores: ArrayLike) -> NDArray[np.bool_]:
    """(n,) bool: `select_uniform` after division by the sum of these scores; none where all are 0."""
    values = as_scores(scores)
    return select_uniform(values / (float(values.sum()) or 1.0), len(values))


def false_positive_rate(labels: ArrayLike, selected: ArrayLike) -> float:
    """False positive rate (FPR): the share of tokens outside the rationale that are selected.

    Formula: FPR = FP / (FP + TN)
    Selection: score >= 1/n. The metric's name says which n: tokens of the input (`fpr`), tokens present at the layer
        (`fpr_present`) or content tokens (`fpr_content`).
    Range: 0 to 1, lower is better. NaN when every token is in the rationale.
    Misleads: selecting nothing has a perfect FPR, so read it with TPR or J. With n = tokens of the input it falls
        when [CLS] and [SEP] hold much of the mass, whatever the other tokens get.
    Reference: Modarressi et al. (2022), AdapLeR, https://aclanthology.org/2022.acl-long.1
    """
    truth, chosen = as_pair(labels, selected, "selected")
    return float(chosen[~truth].mean()) if (~truth).any() else math.nan


def true_positive_rate(labels: ArrayLike, selected: ArrayLike) -> float:
    """True positive rate (TPR, also recall): the share of rationale tokens that are selected.

    Formula: TPR = TP / (TP + FN)
    Selection: score >= 1/n, n as of the FPR: `tpr`, `tpr_present`, `tpr_content`.
    Range: 0 to 1, higher is better. NaN without a rationale token.
    Misleads: selecting everything has a perfect TPR, so read it with FPR or J.
    Reference: Fawcett (2006), An introduction to ROC analysis, https://doi.org/10.1016/j.patrec.2005.10.010
    """
    truth, chosen = as_pair(labels, selected, "selected")
    return float(chosen[truth].mean()) if truth.any() else math.nan


def youden_j(labels: ArrayLike, selected: ArrayLike) -> float:
    """Youden's J: how much more often a rationale token is selected than another one.

    Formula: J = TPR - FPR
    Selection: score >= 1/n, n as of the FPR: `j`, `j_present`, `j_content`.
    Range: -1 to 1, higher is better. 0 for a selection that ignores the rationale, whatever its size. NaN without a
        rationale token, and when every token is in the rationale.
    Misleads: it weighs both kinds of tokens alike, however few rationale tokens there are.
    Reference: Youden (1950), Index for rating diagnostic tests.
    """
    return true_positive_rate(labels, selected) - false_positive_rate(labels, selected)


def precision(labels: ArrayLike, selected: ArrayLike) -> float:
    """Precision: the share of selected tokens that are in the rationale.

    Formula: precision = TP / (TP + FP)
    Selection: score >= 1/n, n = tokens of the input.
    Range: 0 to 1, higher is better. NaN when nothing is selected. A random selection has the density.
    Misleads: a method that selects very few tokens can have a high precision and miss most of the rationale.
    Reference: Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, section 8.3.
    """
    truth, chosen = as_pair(labels, selected, "selected")
    return float((truth & chosen).sum() / chosen.sum()) if chosen.any() else math.nan


def f1_score(labels: ArrayLike, selected: ArrayLike) -> float:
    """F1: the harmonic mean of precision and recall of the selected tokens.

    Formula: F1 = 2 TP / (2 TP + FP + FN)
    Selection: score >= 1/n, n = tokens of the input (`f1`); the k best tokens (`f1_at_k`: as many as the document's
        rationale has, when precision and recall are this same number; `f1_at_density`, `token_f1`: density · n); or the
        k best of those with a positive score (`token_f1_at_5`, `token_f1_at_mean`). `token_f1` takes a method's own
        hard rationale where it has one.
    Range: 0 to 1, higher is better. 0 when nothing is selected but there is a rationale; NaN without a rationale token.
    Misleads: selecting everything has an F1 of 2 d / (1 + d) at density d, which is high for dense rationales.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408
    """
    truth, chosen = as_pair(labels, selected, "selected")
    return float(2 * (truth & chosen).sum() / (truth.sum() + chosen.sum())) if truth.any() else math.nan


def token_iou(labels: ArrayLike, selected: ArrayLike) -> float:
    """Token IOU: tokens in both the rationale and the selection, over tokens in either.

    Formula: IOU = |rationale and selected| / |rationale or selected|
    Selection: the k best tokens of those with a positive score; k = 5 (`token_iou_at_5`) or the mean number of
        rationale tokens (`token_iou_at_mean`).
    Range: 0 to 1, higher is better. NaN without a rationale token.
    Misleads: ferret calls it IOU; ERASER's IOU F1 is about spans and another number, see `iou_f1`.
    Reference: Attanasio et al. (2023), ferret, https://aclanthology.org/2023.eacl-demo.29
    """
    truth, chosen = as_pair(labels, selected, "selected")
    return int((truth & chosen).sum()) / int((truth | chosen).sum()) if truth.any() else math.nan


# ---------------------------------------------------------------- selection of the k best


def top_k_f1(labels: ArrayLike, scores: ArrayLike, k: int, *, positive_only: bool = False) -> float:
    """`f1_score` of the k best tokens: the exact mean over every way to break ties. NaN without a rationale token.

    k: at least 1; over n it is n. positive_only: never take a token whose score is not above 0. Of a tie of m tokens
    with h in the rationale, of which s are still taken, s · h/m are hits on average, and F1 is linear in the hits.

    >>> top_k_f1([True, False, False, False], [0.5, 0.5, 0.1, 0.1], 1)
    0.5
    """
    truth, values = as_pair(labels, scores)
    if not truth.any():
        return math.nan
    size, sure, taken, tied, tied_hits = _top_k(truth, values, k, positive_only=positive_only)
    return float(2 * (sure + taken * tied_hits / tied) / (truth.sum() + size))


def top_k_iou(labels: ArrayLike, scores: ArrayLike, k: int, *, positive_only: bool = False) -> float:
    """`token_iou` of the k best tokens, as `top_k_f1`: the hits among the tokens that are taken from a tie have a
    hypergeometric distribution."""
    truth, values = as_pair(labels, scores)
    if not truth.any():
        return math.nan
    size, sure, taken, tied, tied_hits = _top_k(truth, values, k, positive_only=positive_only)
    more, chances = np.array([tied_hits]), np.ones(1)
    if taken < tied:
        more = np.arange(min(taken, tied_hits) + 1)
        chances = hypergeom.pmf(more, tied, tied_hits, taken)
    hits = sure + more
    return float((chances * hits / (int(truth.sum()) + size - hits)).sum())


def select_top_k(scores: ArrayLike, k: int, *, seed: int | Sequence[int] = 0) -> NDArray[np.bool_]:
    """(n,) bool: the k tokens with the highest scores; of equal ones at the edge, random ones by the seed."""
    values = as_scores(scores)
    shuffled = np.random.default_rng(seed).permutation(len(values))
    ranking = shuffled[np.argsort(-values[shuffled], kind="stable")]
    selected = np.zeros(len(values), dtype=bool)
    selected[ranking[: _size(k)]] = True
    return selected


def density_size(density: float, n: int) -> int:
    """Tokens in a rationale of the data set's mean density: ceil(density · n) as in ERASER's baselines, at least 1."""
    if not 0 <= density <= 1:
        raise ArgumentError(f"density: got {density}, must be between 0 and 1")
    return max(1, math.ceil(density * n - 1e-9))  # the margin: .1 · 30 is 3, whatever a float makes of it


def _top_k(
    truth: NDArray[np.bool_], values: NDArray[np.float64], k: int, *, positive_only: bool
) -> tuple[int, int, int, int, int]:
    """Counts of the k best tokens: how many they are, the sure hits above the edge, and how many are taken of how many
    tokens with the k-th score, of which how many are in the rationale."""
    k = min(_size(k), int((values > 0).sum()) if positive_only else len(values))
    if k == 0:
        return 0, 0, 0, 1, 0
    lowest = np.partition(values, len(values) - k)[len(values) - k]  # the k-th highest score
    above, tie = values > lowest, values == lowest
    return k, int(truth[above].sum()), k - int(above.sum()), int(tie.sum()), int(truth[tie].sum())


def _size(k: int) -> int:
    if k < 1:
        raise ArgumentError(f"k: got {k}, must be at least 1")
    return int(k)


# ---------------------------------------------------------------- spans


def spans_of(selected: ArrayLike) -> list[Span]:
    """Runs of selected tokens, in order."""
    edges = np.diff(as_labels(selected, "selected").astype(np.int8), prepend=0, append=0)
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


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
    truth, chosen = as_pair(labels, selected, "selected")
    if not truth.any():
        return math.nan
    gold, runs = spans_of(truth), spans_of(chosen)
    right = matching_spans(gold, runs, threshold)
    return f1_of(right / len(runs), right / len(gold)) if runs else 0.0


def top_k_iou_f1(labels: ArrayLike, scores: ArrayLike, k: int, *, seed: int = 0) -> float:
    """`iou_f1` of the k best tokens: the mean over random orders of the tokens tied at the edge, if there is a tie;
    there is no closed form for spans."""
    ordered = np.sort(as_scores(scores))[::-1]
    tied = _size(k) < len(ordered) and ordered[k - 1] == ordered[k]
    draws = [select_top_k(scores, k, seed=[seed, draw]) for draw in range(TIE_DRAWS if tied else 1)]
    return float(np.mean([iou_f1(labels, chosen) for chosen in draws]))


def matching_spans(truth: Sequence[Span], predicted: Sequence[Span], threshold: float) -> int:
    """Predicted spans whose best IOU with a true one reaches the threshold."""
    if not truth or not predicted:
        return 0
    gold, mine = np.array(truth), np.array(predicted)
    start = np.maximum(mine[:, None, 0], gold[None, :, 0])  # (predicted, truth)
    end = np.minimum(mine[:, None, 1], gold[None, :, 1])
    overlap = np.clip(end - start, 0, None)
    union = (mine[:, 1] - mine[:, 0])[:, None] + (gold[:, 1] - gold[:, 0])[None] - overlap
    return int(((overlap / union).max(1) >= threshold).sum())


def f1_of(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


# ---------------------------------------------------------------- metrics by name


@dataclass(frozen=True, eq=False)
class Unit:
    """One document at one layer of one method; n content tokens, or words.

    labels          (n,) bool, True in the rationale; special tokens and a query's tokens are left out
    scores          (n,) float64; raw, or shares of the input whose sum is at most 1
    n_input         among how many the uniform level shares the scores out: the real tokens of the input, special ones
                    included (words that are sums of their wordpieces: words and special tokens)
    n_present       the same, for the tokens present at this layer
    density         of the data set: mean share of rationale tokens
    size            of its rationales: mean number of rationale tokens, NaN when it is not known
    signed          scores that may be negative: what is selected at 1/n is not defined for them
    hard            (n,) bool, the method's own hard rationale; None when it has none
    shares          (n,) float64, share of the annotators who marked each token; None when they are not told apart
    present_scores  (n,) float64, scores for the level of the tokens present, of several windows; None: `scores`
    seed            of the random order of ties, where there is no closed form
    """

    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    n_input: int
    n_present: int
    density: float = math.nan
    size: float = math.nan
    signed: bool = False
    hard: NDArray[np.bool_] | None = None
    shares: NDArray[np.float64] | None = None
    present_scores: NDArray[np.float64] | None = None
    seed: int = 0
    _selected: dict[str, NDArray[np.bool_]] = field(default_factory=dict, repr=False, init=False)

    def __post_init__(self) -> None:
        for name in ("scores", "hard", "present_scores"):
            if (given := getattr(self, name)) is not None:
                labels, checked = as_pair(self.labels, given, name)
                object.__setattr__(self, "labels", labels)
                object.__setattr__(self, name, checked)

    def selected(self, level: str) -> NDArray[np.bool_]:
        """(n,) bool: the tokens that reach the level INPUT, PRESENT or CONTENT; several metrics share it."""
        if level not in self._selected:
            if level == CONTENT:
                self._selected[level] = select_content(self.scores)
            elif level == INPUT:
                self._selected[level] = select_uniform(self.scores, self.n_input)
            else:
                scores = self.scores if self.present_scores is None else self.present_scores
                self._selected[level] = select_uniform(scores, self.n_present)
        return self._selected[level]


@dataclass(frozen=True)
class Metric:
    """One row of METRICS.

    name       on the command line and in every output; title: in tables and on axes
    group      one of GROUPS
    level      which n or k it uses, in words
    source     the pure function that computes it; its docstring has the formula
    function   Unit -> value, NaN where it is not defined; None: needs the model (`analysis.metrics.faithfulness`)
    """

    name: str
    title: str
    group: str
    higher_is_better: bool
    level: str
    source: Callable[..., Any]
    function: Callable[[Unit], float] | None = None

    @property
    def needs_rationale(self) -> bool:
        """Whether it compares with a human rationale, or selects as many tokens as one has."""
        return self.uses_density or self.function is not None and self.group != "sparseness"

    @property
    def uses_density(self) -> bool:
        """Whether its value depends on the data set's mean density or size of rationales."""
        return self.uses_size or self.level in (DENSITY, HARD) or self.name.endswith(AT_DENSITY)

    @property
    def uses_size(self) -> bool:
        """Whether it depends on the mean size, which is measured whatever density is given."""
        return self.level == MEAN_SIZE


def metric_names(group: str | None = None) -> tuple[str, ...]:
    """All names, or those of one of GROUPS."""
    return tuple(name for name, metric in METRICS.items() if group in (None, metric.group))


def get_metric(name: str) -> Metric:
    """The metric of that name. Raises ArgumentError with all names for any other."""
    if name not in METRICS:
        raise ArgumentError(f"metric: got {name!r}, allowed are {', '.join(METRICS)}")
    return METRICS[name]


def compute(names: Sequence[str], unit: Unit) -> list[float]:
    """The value of each metric on one document, NaN where it is not defined. Raises ArgumentError for an unknown name,
    one that needs the model, and a selection at 1/n of negative scores that are not said to be signed."""
    values = []
    for name in names:
        function = get_metric(name).function
        if function is None:
            raise ArgumentError(f"metric: {name!r} needs the model, see analysis.metrics.faithfulness")
        values.append(float(function(unit)) if len(unit.labels) else math.nan)
    return values


def _auprc(unit: Unit, *, positive: bool = False) -> float:
    # ERASER gives a document without rationale .5; here it is undefined, as for every other metric
    # positive is ferret's: a negative score is no evidence for the class, like 0
    scores = np.maximum(unit.scores, 0) if positive else unit.scores
    return auprc(unit.labels, scores) if unit.labels.any() else math.nan


def _tpr_at(unit: Unit, *, percent: int) -> float:
    return tpr_at_fpr(unit.labels, unit.scores, percent / 100)


def _at_level(unit: Unit, *, level: str, agreement: Callable[[Any, Any], float]) -> float:
    return math.nan if unit.signed else agreement(unit.labels, unit.selected(level))


def _k(unit: Unit, level: str) -> int:
    """k of a level; 0 where it is not known."""
    if level == OWN_SIZE:
        return int(unit.labels.sum())
    if level == MEAN_SIZE:
        return 0 if math.isnan(unit.size) else max(1, round(unit.size))
    return FERRET_K if level == FIXED_SIZE else density_size(unit.density, len(unit.labels))


def _at_size(unit: Unit, *, level: str, agreement: Callable[..., float] = top_k_f1) -> float:
    k, positive_only = _k(unit, level), level in (FIXED_SIZE, MEAN_SIZE)
    return agreement(unit.labels, unit.scores, k, positive_only=positive_only) if k else math.nan


def _iou_f1(unit: Unit) -> float:
    if unit.hard is not None:
        return iou_f1(unit.labels, unit.hard)
    return top_k_iou_f1(unit.labels, unit.scores, _k(unit, DENSITY), seed=unit.seed)


def _rates(suffix: str, words: str, level: str) -> list[Metric]:
    """The rates of what is selected at a level."""
    rates = {
        "fpr": ("FPR", False, false_positive_rate),
        "tpr": ("TPR", True, true_positive_rate),
        "j": ("J", True, youden_j),
        "precision": ("Precision", True, precision),
        "f1": ("F1", True, f1_score),
    }
    if suffix:
        rates = {name: rates[name] for name in ("fpr", "tpr", "j")}
    return [
        Metric(name + suffix, f"{title} ({words})", "selection", up, level, function,
               partial(_at_level, level=level, agreement=function))
        for name, (title, up, function) in rates.items()
    ]  # fmt: skip


# fmt: off
METRICS: dict[str, Metric] = {metric.name: metric for metric in (
    # where every token is rationale each ranking is perfect: that says nothing, and ERASER leaves it out too
    Metric("average_precision", "AP", "ranking", True, RANKING, average_precision,
           lambda u: math.nan if u.labels.all() else average_precision(u.labels, u.scores)),
    Metric("roc_auc", "ROC-AUC", "ranking", True, RANKING, roc_auc, lambda u: roc_auc(u.labels, u.scores)),
    Metric("auprc", "AUPRC (ERASER)", "ranking", True, RANKING, auprc, _auprc),
    Metric("auprc_positive", "AUPRC (ferret)", "ranking", True, RANKING, auprc, partial(_auprc, positive=True)),
    Metric("average_precision_soft", "AP (annotators)", "ranking", True, RANKING, soft_average_precision,
           lambda u: math.nan if u.shares is None or u.labels.all() else soft_average_precision(u.shares, u.scores)),
    *(Metric(f"tpr_at_fpr_{x}", f"TPR at {x} % FPR", "ranking", True, EQUAL_FPR, tpr_at_fpr,
             partial(_tpr_at, percent=x)) for x in (5, 10, 20)),
    *_rates("", "1/n", INPUT),
    *_rates("_present", "1/n present", PRESENT),
    *_rates("_content", "1/n content", CONTENT),
    Metric("f1_at_k", "F1@k", "selection", True, OWN_SIZE, f1_score, partial(_at_size, level=OWN_SIZE)),
    Metric("f1_at_density", "F1@density", "selection", True, DENSITY, f1_score, partial(_at_size, level=DENSITY)),
    Metric("token_f1", "Token F1", "eraser", True, HARD, f1_score,
           lambda u: _at_size(u, level=DENSITY) if u.hard is None else f1_score(u.labels, u.hard)),
    Metric("iou_f1", "IOU F1", "eraser", True, HARD, iou_f1, _iou_f1),
    *(Metric(f"token_{name}_at_{size}", f"Token {title}@{words}", "selection", True, level, source,
             partial(_at_size, level=level, agreement=agreement))
      for name, title, source, agreement in (("f1", "F1", f1_score, top_k_f1),
                                             ("iou", "IOU", token_iou, top_k_iou))
      for size, words, level in (("5", "5", FIXED_SIZE), ("mean", "mean size", MEAN_SIZE))),
    Metric("sparseness", "Gini", "sparseness", True, NO_SELECTION, gini, lambda u: gini(u.scores)),
)}
# fmt: on
