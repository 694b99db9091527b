"""Rows of the table with their intervals, and paired tests of each system against AdapLeR that is at least as fast.

Dimensions: S seeds, E test examples, K kinds of them, R resamples. The parts of a score, (S, E, 2), are a numerator and
a denominator for each example; a score is the ratio of their sums (accuracy and F1 alike).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import hmean

from adapler.errors import DataError
from adapler.inference.passes import ratio_of, score_parts
from analysis.metrics.statistics import holm
from benchmarks.tradeoff.checks import SPEEDUPS
from benchmarks.tradeoff.selection import NEAR, Operating, by_run, chosen_point, family_of, rival
from benchmarks.tradeoff.systems import FINETUNED, system_of

RESAMPLES = 2000
SWAPS = 9999
LEVEL = 0.95
TESTS = (  # columns of paired_tests
    *("task", "system", "backbone", "seeds", "metric", "score", "adapler_score", "difference", "low", "high", "p"),
    *("speedup", "adapler_speedup", "equal_speed", "against", "p_holm"),
)

Array = NDArray[np.float64]
Predictions = Callable[[str], pd.DataFrame]  # a task's test predictions


def parts_of(points: Iterable[Operating], table: pd.DataFrame) -> Array:
    """(S, E, 2) of operating points of one system, a seed each."""
    gold = table["label"].to_numpy()
    return np.stack([score_parts(table[one.column].to_numpy(), gold, metric=one.record["metric"]) for one in points])


def mean_score(parts: Array) -> float:
    """Mean over seeds."""
    return float(ratio_of(parts.sum(1)).mean())


def bootstrap(parts: Array, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean score: test examples are drawn, the same for all seeds, and seeds where there are
    several."""
    seeds = parts.shape[0]
    random = np.random.default_rng(seed)
    scores = _resampled_scores(parts, random, resamples=resamples)  # (R, S)
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)  # (R, S)
    return _percentiles((scores * weights).sum(1) / seeds)


def _resampled_scores(parts: Array, random: np.random.Generator, *, resamples: int) -> Array:
    """(R, S): each seed's score on examples that are drawn with replacement, the same for all seeds."""
    kinds, counts = _kinds(parts)
    drawn = random.multinomial(counts.sum(), counts / counts.sum(), size=resamples)  # (R, K)
    return ratio_of(np.einsum("rk,skj->rsj", drawn.astype(np.float64), kinds))


def _kinds(parts: Array) -> tuple[Array, NDArray[np.int64]]:
    """(S, K, 2) and (K,): the different examples and how many there are of each.

    Outcomes are few, right or wrong in each seed, and how many of a kind a resample holds is all that a score needs.
    """
    seeds, examples, two = parts.shape
    rows = parts.transpose(1, 0, 2).reshape(examples, seeds * two)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    return kinds.reshape(-1, seeds, two).transpose(1, 0, 2), counts


def _percentiles(values: Array) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def difference_interval(a: Array, b: Array, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the difference of two mean scores, over test examples.

    Args:
        a, b: (S, E, 2).
        resamples: draws.
        seed: of them.
    """
    random = np.random.default_rng(seed)
    scores = _resampled_scores(np.concatenate([a, b]), random, resamples=resamples)  # (R, 2S)
    return _percentiles(scores[:, : len(a)].mean(1) - scores[:, len(a) :].mean(1))


def swap_test(a: Array, b: Array, *, swaps: int = SWAPS, seed: int = 0) -> float:
    """Two-sided p of a difference of scores, means or not (F1), by approximate randomisation (Noreen, 1989).

    In each draw every example's outputs are swapped between the two systems, or not, with equal chance, in all seeds
    alike. Of accuracies it is the paired permutation test.

    Args:
        a, b: (S, E, 2).
        swaps: draws.
        seed: of them.
    """
    observed = abs(mean_score(a) - mean_score(b)) - 1e-12
    kinds, counts = _kinds(np.concatenate([a, b]))  # (2S, K, 2)
    difference = kinds[len(a) :] - kinds[: len(a)]  # (S, K, 2)
    swapped = np.random.default_rng(seed).binomial(counts, 0.5, size=(swaps, len(counts))).astype(np.float64)
    moved = np.einsum("rk,skj->rsj", swapped, difference)  # (R, S, 2)
    drawn = (ratio_of(a.sum(1) + moved) - ratio_of(b.sum(1) - moved)).mean(1)
    extreme = int((np.abs(drawn) >= observed).sum())
    return (extreme + 1) / (swaps + 1)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else math.nan


def mean_speedup(values: Iterable[float]) -> float:
    """Over seeds: how many times less all of them spend together, the harmonic mean."""
    return float(hmean(list(values)))


def row_of(points: Sequence[Operating], qualified: Sequence[bool], table: pd.DataFrame) -> dict[str, Any]:
    """The row of a system on a task, of its chosen operating points, one a seed.

    Raises:
        DataError: one of them was not timed, as when records of several `--max-drop` lie in one folder.
    """
    first = points[0].record
    for one in points:
        if one.test["time"] is None:
            raise DataError(
                f"{one.column}: chosen with max_drop {first['max_drop']:g}, but its record (max_drop "
                f"{one.record['max_drop']:g}) chose and timed another scale; use an --output for each --max-drop"
            )
    parts = parts_of(points, table)
    low, high = bootstrap(parts)
    times = [one.test["time"] for one in points]
    tests = [one.test for one in points]
    return {
        "task": first["task"],
        "system": first["system"],
        "backbone": first["backbone"],
        "coverage": first["coverage"],
        "seeds": len(points),
        "metric": first["metric"],
        "score": mean_score(parts),
        "low": low,
        "high": high,
        "interval_over": "examples" if len(points) == 1 else "seeds and examples",
        "validation_score": _mean(one.validation["score"] for one in points),
        "qualified": sum(qualified),
        **{name: mean_speedup(test[name] for test in tests) for name in SPEEDUPS},
        "milliseconds": _mean(time["batches"]["milliseconds"] for time in times),
        "faster": mean_speedup(time["batches"]["ratio"] for time in times),
        "milliseconds_one": _mean(time["single"]["milliseconds"] for time in times),
        "faster_one": mean_speedup(time["single"]["ratio"] for time in times),
        "backbone_milliseconds": _mean(time["batches"]["backbone"] for time in times),
        "backbone_milliseconds_one": _mean(time["single"]["backbone"] for time in times),
        "load": max(one.record["machine"]["load_after"] for one in points),
        "epochs": _mean(one.record["cost"]["epochs"] for one in points),
        "minutes": _mean(one.record["cost"]["minutes"] for one in points),
        "budget": " ".join("-" if one.record["budget"] is None else f"{one.record['budget']:g}" for one in points),
        "scale": " ".join("-" if one.test["scale"] is None else f"{one.test['scale']:g}" for one in points),
        "test_examples": parts.shape[1],
        "train_rows": int(first["rows"]["train"]),
    }


def faster(point: Operating, how: str) -> float:
    """How many times faster than the packed backbone; nan at a scale that was not timed.

    Args:
        point: at a scale.
        how: "batches" or "single".
    """
    time = point.test["time"]
    return math.nan if time is None else float(time[how]["ratio"])


def table_rows(records: Sequence[Mapping[str, Any]], predictions: Predictions) -> pd.DataFrame:
    """A row for each task, backbone and system; `drop` is the fine-tuned classifier's score minus the system's.

    Over the seeds that both have; nan where they share none.
    """
    rows, scores = [], {}
    for (task, backbone, system), seeds in by_run(records).items():
        chosen = [chosen_point(points, max_drop=points[0].record["max_drop"]) for points in seeds.values()]
        rows.append(row_of([point for point, _ in chosen], [good for _, good in chosen], predictions(task)))
        found = (point.test["score"] for point, _ in chosen)
        scores[task, backbone, system] = dict(zip(seeds, found, strict=True))
    drops = []
    for (task, backbone, _), own in scores.items():
        plain = scores.get((task, backbone, FINETUNED), {})
        drops.append(_mean(plain[seed] - own[seed] for seed in own if seed in plain))
    table = pd.DataFrame(rows)
    table.insert(9, "drop", drops)
    return table


def curve_rows(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Every operating point that was read on test, one row a seed."""
    rows = []
    for (task, backbone, system), seeds in by_run(records).items():
        for seed, points in seeds.items():
            chosen, good = chosen_point(points, max_drop=points[0].record["max_drop"])
            for one in points:
                rows.append(
                    {
                        "task": task,
                        "system": system,
                        "backbone": backbone,
                        "seed": seed,
                        "budget": one.record["budget"],
                        "scale": one.test["scale"],
                        "trained": one.is_trained,
                        "in_table": one.column == chosen.column,
                        "qualified": good and one.column == chosen.column,
                        "metric": one.record["metric"],
                        "validation_score": one.validation["score"],
                        "validation_speedup": one.validation["speedup"],
                        **{name: one.test[name] for name in ("score", *SPEEDUPS)},
                        "faster": faster(one, "batches"),
                        "faster_one": faster(one, "single"),
                        "minutes": one.record["cost"]["minutes"],
                    }
                )
    return pd.DataFrame(rows)


def difference_of(own: Sequence[Operating], ours: Sequence[Operating], table: pd.DataFrame) -> dict[str, float]:
    """`difference` of two systems' scores (the first minus the second), `low` and `high` of its interval over test
    examples, `p` of the paired test.

    Args:
        own, ours: a point for each seed, the same seeds in both.
        table: the task's test predictions.
    """
    a, b = parts_of(own, table), parts_of(ours, table)
    low, high = difference_interval(a, b)
    return {"difference": mean_score(a) - mean_score(b), "low": low, "high": high, "p": swap_test(a, b)}


def paired_tests(records: Sequence[Mapping[str, Any]], predictions: Predictions) -> pd.DataFrame:
    """Each system's chosen point against AdapLeR (in whichever of its options) at least as fast, see `rival`.

    Columns: `difference` is the system's score minus AdapLeR's, with its interval over test examples; `p` of a paired
    test (`swap_test`) over test examples and the seeds that both have; `p_holm` adjusts it for the
    systems of the same task and backbone. `equal_speed`: whether AdapLeR's point is as fast, up to 10 %, on
    validation.
    """
    runs = by_run(records)
    rows: list[dict[str, Any]] = []
    for (task, backbone, system), seeds in runs.items():
        if system == FINETUNED or system_of(system).is_family:
            continue
        family = family_of(runs, task, backbone)
        common = sorted(seeds.keys() & family.keys())
        if common:
            rows.append(
                _compare([seeds[seed] for seed in common], [family[seed] for seed in common], predictions(task))
            )
    table = pd.DataFrame(rows, columns=[*TESTS] if not rows else None)
    if rows:
        groups = table.groupby(["task", "backbone"], sort=False)["p"]
        table["p_holm"] = groups.transform(lambda values: holm(values.to_numpy()))
    return table


def _compare(
    theirs: Sequence[Sequence[Operating]], family: Sequence[Sequence[Operating]], table: pd.DataFrame
) -> dict[str, Any]:
    """One row of paired_tests; the arguments have an entry for each common seed."""
    own = [chosen_point(points, max_drop=points[0].record["max_drop"])[0] for points in theirs]
    ours = [rival(points, one.validation["speedup"]) for points, one in zip(family, own, strict=True)]
    speeds = [(one.validation["speedup"], other.validation["speedup"]) for one, other in zip(own, ours, strict=True)]
    first = own[0].record
    found = difference_of(own, ours, table)
    return {
        "task": first["task"],
        "system": first["system"],
        "backbone": first["backbone"],
        "seeds": len(own),
        "metric": first["metric"],
        "score": mean_score(parts_of(own, table)),
        "adapler_score": mean_score(parts_of(ours, table)),
        **found,
        "speedup": mean_speedup(one.test["speedup"] for one in own),
        "adapler_speedup": mean_speedup(one.test["speedup"] for one in ours),
        "equal_speed": all(max(pair) / min(pair) <= NEAR + 1e-9 for pair in speeds),
        "against": " ".join(one.column.partition("/")[2] for one in ours),
    }


def as_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows; None where a number is not defined."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
