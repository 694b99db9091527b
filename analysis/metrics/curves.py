"""The precision-recall curve of one document on a common grid, so that documents can be averaged.

n tokens; G points of the grid, 101 unless told
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import as_labels, as_scores, same_length

RECALL_GRID: NDArray[np.float64] = np.linspace(0, 1, 101)


def precision_at_recall(labels: ArrayLike, scores: ArrayLike, grid: ArrayLike | None = None) -> NDArray[np.float64]:
    """(G,) interpolated precision-recall curve: the best precision at this recall or a higher one.

    Formula: p(r) = max over thresholds t with R(t) >= r of P(t). Tokens with the same score enter together.
    Selection: none. Only the order of the content tokens counts.
    Range: 0 to 1, falling with the recall. All NaN without a rationale token.
    Misleads: because of the maximum, random scores lie above the density at low recall. Compare with the curve of
        random scores, not with the density.
    Reference: Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, equation 8.7.

    Raises ArgumentError for a grid outside [0, 1].
    """
    truth, values = as_labels(labels), as_scores(scores)
    same_length("scores", values, truth)
    recalls = RECALL_GRID if grid is None else np.asarray(grid, dtype=np.float64)
    if recalls.ndim != 1 or not ((recalls >= 0) & (recalls <= 1)).all():
        raise ArgumentError("grid: must be one-dimensional with values between 0 and 1")
    if not truth.any():
        return np.full(len(recalls), np.nan)
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(truth[order])  # (n,)
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # ends of the groups of equal scores
    precision = hits[last] / (last + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # best precision from this threshold on
    # recalls are multiples of 1/positives; a grid point that is one in exact arithmetic must not miss it
    index = np.searchsorted(hits[last], recalls * hits[-1] - 1e-9, side="left")
    return np.asarray(best[index])
