"""ERASER's agreement metrics of one document (DeYoung et al., 2020), by the definitions of its official scorer.

    n tokens or words of one document; a span is (start, end), end exclusive

What the official scorer prints of a whole data set is in `analysis.metrics.eraser_scorer`.

The areas are computed here and not by scikit-learn: `precision_recall_curve` with `auc`, and `roc_auc_score`, give the
same numbers (tested with ties) and take 15 to 25 times as long on one document.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from analysis.metrics.plausibility import as_labels, as_scores, same_length
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
    right = matching_spans(gold, runs, threshold)
    return f1_of(right / len(runs), right / len(gold)) if runs else 0.0


def top_k_iou_f1(labels: ArrayLike, scores: ArrayLike, k: int, *, seed: int = 0, draws: int = TIE_DRAWS) -> float:
    """`iou_f1` of the k best tokens: the mean over so many random orders of the tokens that tie at the edge.

    There is no closed form for spans. The same seed gives the same number; without a tie one draw is exact.

    >>> top_k_iou_f1([True, True, False], [0.5, 0.4, 0.1], 2)
    1.0
    """
    times = draws if has_tie_at(scores, k) else 1
    return float(np.mean([iou_f1(labels, select_top_k(scores, k, seed=[seed, draw])) for draw in range(times)]))


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
