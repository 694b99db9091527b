"""Means over documents that are built up one document at a time, so that no token scores are kept.

M methods, L layers, G points of the recall grid, U units of one document
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.metrics.plausibility import RECALL_GRID, precision_at_recall


class RunningMean:
    """Mean of arrays of one shape and its standard error, NaN left out cell by cell."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.total, self.squares, self.n = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        defined = ~np.isnan(values)
        self.total[defined] += values[defined]
        self.squares[defined] += values[defined] ** 2
        self.n += defined

    @property
    def mean(self) -> NDArray[np.float64]:
        """NaN where nothing was added."""
        empty = np.full(self.total.shape, np.nan)
        return np.asarray(np.divide(self.total, self.n, out=empty, where=self.n > 0))

    @property
    def error(self) -> NDArray[np.float64]:
        """Standard error of the mean, s / sqrt(n) with s over n - 1; NaN where fewer than two were added.

        The sums of squares are exact enough for what is averaged here, numbers between -1 and 1.
        """
        spread = np.clip(self.squares - self.total**2 / np.maximum(self.n, 1), 0, None)
        empty = np.full(self.total.shape, np.nan)
        return np.asarray(np.sqrt(np.divide(spread, self.n * (self.n - 1), out=empty, where=self.n > 1)))


def spearman(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, M) Spearman's rho between rows of scores (M, U), ties at their mean rank; NaN for a constant row.

    >>> spearman(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    if scores.shape[1] < 2:
        return np.full((len(scores), len(scores)), np.nan)
    ranks = rankdata(scores, axis=1)
    centred = ranks - ranks.mean(1, keepdims=True)
    norms = np.sqrt((centred**2).sum(1))
    scale = np.outer(norms, norms)
    rho = np.divide(centred @ centred.T, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    return np.asarray(np.clip(rho, -1, 1))


class CurvesAndCorrelations:
    """Precision-recall curves of each method and layer, and rank correlations of the methods at each layer."""

    def __init__(self, methods: Sequence[str], n_layers: int) -> None:
        self.methods = tuple(methods)
        self._curves = RunningMean((len(methods), n_layers, len(RECALL_GRID)))
        self._correlations = RunningMean((n_layers, len(methods), len(methods)))

    def add(self, units: Sequence[tuple[NDArray[np.bool_], Mapping[str, NDArray[np.float64]]]]) -> None:
        """One document: its units' labels (U,) and each method's scores (L', U), the mean over units counting."""
        curves = RunningMean(self._curves.total.shape)
        correlations = RunningMean(self._correlations.total.shape)
        for labels, scores in units:
            one = np.full(self._curves.total.shape, np.nan)
            for m, method in enumerate(self.methods):
                for layer, row in enumerate(scores.get(method, ())):
                    one[m, layer] = precision_at_recall(labels, row)
            curves.add(one)
            correlations.add(self._rho(scores))
        self._curves.add(curves.mean)
        self._correlations.add(correlations.mean)

    def _rho(self, scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        result = np.full(self._correlations.total.shape, np.nan)  # (L, M, M)
        for layer in range(len(result)):
            there = [m for m, name in enumerate(self.methods) if name in scores and layer < len(scores[name])]
            if there:
                rows = np.stack([scores[self.methods[m]][layer] for m in there])
                result[layer][np.ix_(there, there)] = spearman(rows)
        return result

    @property
    def curves(self) -> dict[str, NDArray[np.float64]]:
        """method -> (L, G)."""
        return dict(zip(self.methods, self._curves.mean, strict=True))

    @property
    def curve_errors(self) -> dict[str, NDArray[np.float64]]:
        """method -> (L, G), the standard error of each point over documents."""
        return dict(zip(self.methods, self._curves.error, strict=True))

    @property
    def correlations(self) -> NDArray[np.float64]:
        """(L, M, M)."""
        return self._correlations.mean
