"""Methods against each other on the same documents, and several runs merged.

M methods, L layers, D documents
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from adapler.errors import ArgumentError
from analysis.metrics.statistics import (
    LEVEL,
    RESAMPLES,
    bootstrap_intervals,
    holm,
    paired_difference,
    paired_permutation_test,
)

COMPARISON_COLUMNS = (
    "method",
    "reference",
    "layer",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "d_z",
    "won",
    "n",
)


@dataclass(frozen=True, eq=False)
class EffectSize:
    """d_z, won: (...,) float64; n: (...,) pairs behind them."""

    d_z: NDArray[np.float64]
    won: NDArray[np.float64]
    n: NDArray[np.int64]


def effect_size(a: ArrayLike, b: ArrayLike) -> EffectSize:
    """Of paired differences a - b over the last axis: Cohen's d_z, and the share of documents with a > b.

        d_z = mean / standard deviation (n - 1) of the differences (Cohen, 1988);     a tie is half won

    d_z is NaN with fewer than two pairs or when all differences are the same; won is NaN without a pair.
    """
    difference = paired_difference(a, b)
    known = ~np.isnan(difference)
    n = known.sum(-1, dtype=np.int64)
    filled = np.where(known, difference, 0.0)
    spread, share = np.full(n.shape, np.nan), np.full(n.shape, np.nan)
    mean = np.divide(filled.sum(-1), n, out=share.copy(), where=n > 0)
    squares = (np.where(known, difference - mean[..., None], 0.0) ** 2).sum(-1)
    deviation = np.sqrt(np.divide(squares, n - 1, out=spread.copy(), where=n > 1))
    # differences that are all the same still have a spread of a few last bits
    varied = deviation > 1e-12 * np.abs(filled).max(-1, initial=0)
    d_z = np.divide(mean, deviation, out=spread, where=varied)
    won = np.divide(((filled > 0) + 0.5 * (known & (filled == 0))).sum(-1), n, out=share, where=n > 0)
    return EffectSize(d_z, won, n)


def compare(
    values: ArrayLike,
    methods: Sequence[str],
    reference: str = "cp",
    *,
    higher_is_better: bool = True,
    input_level: Collection[str] = (),
    outside_family: Collection[str] = ("random",),
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The reference against each other method, layer by layer, on the same documents.

    values: (M, L, D) of one metric, NaN where it is not defined; methods: M names. Methods in `input_level` have
    scores in layer 0 only, and are compared with every layer of the reference.

    A row per other method and layer: method, reference, layer, difference (mean of reference - method), low, high
    (its bootstrap interval), p (`paired_permutation_test`), p_holm (see below), d_z, won (share of documents
    on which the reference is better; below the method where `higher_is_better` is False), n (documents). Rows
    with n = 0 are NaN and no tests.

    The Holm family of p_holm: this metric's tests of the reference with every other method at every layer, without the
    methods in `outside_family` (random scores are a check, not a hypothesis; their p is adjusted among themselves) and
    without exact duplicates: a method whose values are those of an earlier one has its p_holm, one whose values are the
    reference's has 1. So naming a method twice, or adding random scores, moves no p_holm. Adding another method does.

    Raises ArgumentError for a reference that is not among the methods, or values of another shape.
    """
    array = np.array(values, dtype=np.float64)
    if array.ndim != 3 or len(array) != len(methods):
        raise ArgumentError(f"values: got shape {array.shape}, must be ({len(methods)} methods, layers, documents)")
    if reference not in methods:
        raise ArgumentError(f"reference: got {reference!r}, the methods are {', '.join(methods)}")
    for m, method in enumerate(methods):
        if method in input_level:
            array[m, 1:] = array[m, :1]
    others = [m for m, method in enumerate(methods) if method != reference]
    theirs = array[others]  # (M-1, L, D)
    ours = np.broadcast_to(array[list(methods).index(reference)], theirs.shape)
    difference = ours - theirs
    intervals = bootstrap_intervals(difference, level=level, resamples=resamples, seed=seed)
    p = paired_permutation_test(ours, theirs, seed=seed)
    effect = effect_size(ours, theirs)
    index = pd.MultiIndex.from_product(
        [[methods[m] for m in others], [reference], range(array.shape[1])], names=["method", "reference", "layer"]
    )
    columns = {
        "difference": intervals.mean,
        "low": intervals.low,
        "high": intervals.high,
        "p": p,
        "p_holm": _holm_of_family(p, ours, theirs, [methods[m] for m in others], outside_family),
        "d_z": effect.d_z,
        "won": effect.won if higher_is_better else 1 - effect.won,
        "n": effect.n,
    }
    frame = pd.DataFrame({name: column.ravel() for name, column in columns.items()}, index=index).reset_index()
    return frame[list(COMPARISON_COLUMNS)]


def merge_runs(summaries: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean and spread over runs (seeds, checkpoints) of the means in their summaries.

    summaries: `RationaleReport.summary()` of each run, or any frame with method, layer, metric, mean. Returns
    method, layer, metric, mean, sd (n - 1; NaN with one run), min, max, runs (those in which the cell is defined).

    Raises ArgumentError for no runs, a missing column, or a cell that comes twice in a run.
    """
    if not summaries:
        raise ArgumentError("summaries: got none, at least one is needed")
    cell = ["method", "layer", "metric"]
    for run, frame in enumerate(summaries):
        missing = [name for name in (*cell, "mean") if name not in frame.columns]
        if missing:
            raise ArgumentError(f"summaries: run {run} has no column {missing[0]!r}")
        if frame.duplicated(cell).any():
            twice = ", ".join(str(value) for value in frame.loc[frame.duplicated(cell), cell].iloc[0])
            raise ArgumentError(f"summaries: run {run} has the cell {twice} twice")
    stacked = pd.concat([frame[[*cell, "mean"]] for frame in summaries], ignore_index=True)
    groups = stacked.groupby(cell, sort=False)["mean"]
    return groups.agg(mean="mean", sd="std", min="min", max="max", runs="count").reset_index()


def _holm_of_family(
    p: NDArray[np.float64],
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    methods: Sequence[str],
    outside: Collection[str],
) -> NDArray[np.float64]:
    """(M, L) p_holm as `compare` says; p: (M, L); ours, theirs: (M, L, D); options after a name do not count."""
    adjusted = np.full(p.shape, np.nan)
    family: list[int] = []
    checks: list[int] = []
    twins: dict[int, int] = {}
    for m, method in enumerate(methods):
        twin = next((k for k in (*family, *checks) if np.array_equal(theirs[k], theirs[m], equal_nan=True)), None)
        if np.array_equal(theirs[m], ours[m], equal_nan=True):
            adjusted[m] = p[m]  # 1, or NaN where nothing is defined
        elif twin is not None:
            twins[m] = twin
        else:
            (checks if method.partition("(")[0] in outside else family).append(m)
    for rows in (family, checks):
        adjusted[rows] = holm(p[rows])
    for m, twin in twins.items():
        adjusted[m] = adjusted[twin]
    return adjusted
