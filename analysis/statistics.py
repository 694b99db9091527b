"""Uncertainty of a mean over documents.

C cells (method x layer x metric), D documents, R resamples
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapler.errors import ArgumentError

RESAMPLES = 5000
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Intervals:
    """mean, low, high: (...,) float64, NaN where no document is defined; n: (...,) documents behind them."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: NDArray[np.int64]


def bootstrap_intervals(
    values: ArrayLike, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Intervals:
    """Percentile bootstrap of the mean over the last axis, the documents (Efron, 1979).

    values: (..., D); NaN is a document for which the cell is not defined: it is left out of that cell. Cells
        defined on
        the same documents share the resamples, so that they can be compared pairwise.

    Raises ArgumentError for a level outside (0, 1) or fewer than one resample.
    """
    if not 0 < level < 1:
        raise ArgumentError(f"level: got {level}, must be between 0 and 1")
    if resamples < 1:
        raise ArgumentError(f"resamples: got {resamples}, must be at least 1")
    array = np.asarray(values, dtype=np.float64)
    cells = array.reshape(-1, array.shape[-1])  # (C, D)
    defined = ~np.isnan(cells)
    mean, low, high = (np.full(len(cells), np.nan) for _ in range(3))
    patterns, group = np.unique(defined, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        n = int(pattern.sum())
        if n == 0:
            continue
        rows = np.flatnonzero(group.reshape(-1) == index)
        chosen = cells[np.ix_(rows, np.flatnonzero(pattern))]  # (rows, n)
        draws = np.random.default_rng(seed).integers(0, n, (resamples, n))  # (R, n)
        flat = (draws + n * np.arange(resamples)[:, None]).ravel()
        weights = np.bincount(flat, minlength=resamples * n).reshape(resamples, n) / n  # (R, n) times drawn / n
        means = chosen @ weights.T  # (rows, R)
        mean[rows] = chosen.mean(1)
        low[rows], high[rows] = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=1)
    shape = array.shape[:-1]
    return Intervals(
        mean.reshape(shape),
        low.reshape(shape),
        high.reshape(shape),
        defined.sum(1, dtype=np.int64).reshape(shape),
    )
