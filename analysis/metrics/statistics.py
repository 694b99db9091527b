"""Statistics of means over documents: intervals, paired tests, methods against each other, several runs merged.

C cells (method x layer x metric), M methods, L layers, D documents, R resamples

Intervals come from scipy.stats.bootstrap, Holm's adjustment from statsmodels. The permutation test is our own:
scipy.stats.permutation_test gives the same p (tested) but takes no NaN, and 25 times as long, as its cells do not share
their signs: two seconds for one metric of twelve methods and six layers.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap
from statsmodels.stats.multitest import multipletests

from adapler.errors import ArgumentError

RESAMPLES = 5000
LEVEL = 0.95
SIGN_FLIPS = 9999
FEW = 20  # documents: below, a bootstrap interval covers the mean less often than it says
_CHUNK = 2_000_000  # signs in memory at once
_DRAWS = 8_000_000  # resampled values in memory at once
COMPARISON_COLUMNS = ("method", "reference", "layer", "difference", "low", "high", "p", "p_holm", "d_z", "won", "n")


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
    """Bootstrap interval of the mean over the last axis, the documents: BCa (Efron, 1987), by scipy.stats.bootstrap.

    values: (..., D); NaN is a document for which the cell is not defined: it is left out of that cell. Cells defined
        on the same documents share the resamples, so that they can be compared pairwise.

    BCa corrects the percentile interval for bias and skewness. With one document, or when all values are the same, the
    interval is the mean itself. With fewer than FEW documents it is too narrow: see `few_documents`.

    Raises ArgumentError for a level outside (0, 1) or fewer than one resample.
    """
    if not 0 < level < 1:
        raise ArgumentError(f"level: got {level}, must be between 0 and 1")
    if resamples < 1:
        raise ArgumentError(f"resamples: got {resamples}, must be at least 1")
    array = np.asarray(values, dtype=np.float64)
    cells = array.reshape(-1, array.shape[-1])  # (C, D)
    mean, low, high = (np.full(len(cells), np.nan) for _ in range(3))
    for rows, columns in _patterns(cells):
        n = len(columns)
        chosen = cells[np.ix_(rows, columns)]  # (rows, n)
        mean[rows] = chosen.mean(1)
        step = max(1, _DRAWS // (resamples * n))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            low[rows[part]], high[rows[part]] = _interval(chosen[part], level, resamples, seed)
    shape = array.shape[:-1]
    return Intervals(
        mean.reshape(shape),
        low.reshape(shape),
        high.reshape(shape),
        (~np.isnan(cells)).sum(1, dtype=np.int64).reshape(shape),
    )


def few_documents(n: int) -> str | None:
    """A warning for intervals of fewer than FEW documents, None for others.

    By simulation, a 95 % interval of 6 documents holds the true mean in about 85 of 100 cases, of 10 in about 92.

    >>> few_documents(6)
    'intervals of 6 documents (fewer than 20) are too narrow: read them as a lower bound of the uncertainty'
    """
    if n >= FEW:
        return None
    if n == 1:
        return "1 document has no interval: the limits that are given are its own value"
    return (
        f"intervals of {n} documents (fewer than {FEW}) are too narrow: read them as a lower bound of the uncertainty"
    )


def paired_permutation_test(
    a: ArrayLike, b: ArrayLike, *, resamples: int = SIGN_FLIPS, seed: int = 0
) -> NDArray[np.float64]:
    """(...,) two-sided p of the mean difference of pairs, by flipping their signs (Fisher, 1935).

        p = P(|mean of s_i · (a_i - b_i)| >= |mean of (a_i - b_i)|),     s_i = -1 or 1 with equal chance

    a, b: (..., D), the same documents in the same order; a pair with a NaN is left out. Exact, over all 2^n sign
    vectors, when there are at most resamples + 1 of them; otherwise `resamples` random ones and the observed one
    itself, so p is never 0. NaN without a pair. Cells with the same pairs share the signs.

    Raises ArgumentError for shapes that differ or fewer than one resample.
    """
    if resamples < 1:
        raise ArgumentError(f"resamples: got {resamples}, must be at least 1")
    difference = paired_difference(a, b)
    cells = difference.reshape(-1, difference.shape[-1])  # (C, D)
    p = np.full(len(cells), np.nan)
    for rows, columns in _patterns(cells):
        n = len(columns)
        chosen = cells[np.ix_(rows, columns)]  # (rows, n)
        exact = 2**n <= resamples + 1
        # sums of the same numbers in another order differ in the last bits: those are ties
        observed = np.abs(chosen.sum(1)) - 1e-12 * np.abs(chosen).sum(1)
        extreme, total = np.zeros(len(rows)) if exact else np.ones(len(rows)), 2**n if exact else resamples
        generator, step = np.random.default_rng(seed), max(1, _CHUNK // n)
        for start in range(0, total, step):
            size = min(step, total - start)
            every = (np.arange(start, start + size)[:, None] >> np.arange(n)) & 1 if exact else None
            bits = generator.integers(0, 2, (size, n), dtype=np.int64) if every is None else every
            extreme += (np.abs(chosen @ (1.0 - 2 * bits).T) >= observed[:, None]).sum(1)
        p[rows] = extreme / (total if exact else total + 1)
    return p.reshape(difference.shape[:-1])


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """p-values adjusted for multiple tests (Holm, 1979); same shape, NaN stays NaN.

        p~_(i) = max over j <= i of min(1, (m - j + 1) · p_(j)),     p_(1) <= ... <= p_(m)

    Raises ArgumentError for a number outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    if ((values < 0) | (values > 1)).any():
        raise ArgumentError(f"p: got {values[(values < 0) | (values > 1)][0]}, must be between 0 and 1")
    adjusted, known = np.full(values.shape, np.nan), ~np.isnan(values)
    if known.any():
        adjusted[known] = multipletests(values[known], method="holm")[1]
    return adjusted


def _rounded_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """BCa counts the resamples whose mean is below that of the sample, and those that tie with it by half. Without the
    last digits, where the order of a sum decides, a tie is one however many rows are computed at once."""
    return np.asarray(np.round(values.mean(axis), 12))


def _interval(
    values: NDArray[np.float64], level: float, resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(rows,) low and high of values (rows, n) without NaN."""
    low, high = values.mean(1), values.mean(1)
    varied = np.ptp(values, axis=1) > 0
    if values.shape[1] < 2 or not varied.any():
        return low, high
    sample = values[varied]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows without a BCa interval; they are NaN and dealt with below
        result = bootstrap(
            (sample,),
            _rounded_mean,
            axis=-1,
            n_resamples=resamples,
            confidence_level=level,
            method="BCa",
            batch=max(1, _DRAWS // sample.size),  # of resamples, and of the jackknife's n samples of n - 1
            rng=np.random.default_rng(seed),
        )
    found = np.stack([result.confidence_interval.low, result.confidence_interval.high])
    # so few different values that no resample lies on one side of the mean: the percentile interval still exists
    percentiles = np.quantile(result.bootstrap_distribution, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    low[varied], high[varied] = np.where(np.isnan(found).any(0), percentiles, found)
    return low, high


def paired_difference(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim < 1:
        raise ArgumentError(f"a, b: got shapes {first.shape} and {second.shape}, must be equal, documents last")
    return first - second


def _patterns(cells: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows, columns) of the cells (C, D) that are defined on the same documents, if on any."""
    patterns, group = np.unique(~np.isnan(cells), axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        if pattern.any():
            yield np.flatnonzero(group.reshape(-1) == index), np.flatnonzero(pattern)


@dataclass(frozen=True, eq=False)
class EffectSize:
    """d_z, won: (...,) float64; n: (...,) pairs behind them."""

    d_z: NDArray[np.float64]
    won: NDArray[np.float64]
    n: NDArray[np.int64]


def effect_size(a: ArrayLike, b: ArrayLike) -> EffectSize:
    """Effect size of paired differences a - b over the last axis: Cohen's d_z and the share of documents with a > b.

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
