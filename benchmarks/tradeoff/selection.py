"""What is chosen on validation, and only there: a scale of each point, a point of each system, one at a speedup that is
asked for, and AdapLeR's rival.

An operating point is a trained point at one of the threshold scales that were read on test: the scale that it was
trained at, and the one that validation chose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.tradeoff.records import Key
from benchmarks.tradeoff.systems import system_of

Count = Literal["speedup", "speedup_executed"]  # the paper's convention, or what this library computes
NEAR = 1.1  # two speedups are called equal up to this factor
ALMOST = 0.99  # of a speedup that is asked for is enough: half of the layers are 1.999x, since the head is not halved
USELESS = 0.15  # of the score: nobody wants what is so far below the classifier
_SLACK = 1e-9  # .865 - .855 is not to fail for a rounding error


@dataclass(frozen=True)
class Operating:
    """A trained point at a scale.

    Attributes:
        record: of the trained point.
        validation: what validation says of the scale: scale, score and speedups.
        test: the same on test, with lengths and times.
    """

    record: Mapping[str, Any]
    validation: Mapping[str, Any]
    test: Mapping[str, Any]

    @property
    def key(self) -> Key:
        """Of the trained point."""
        return Key.of(self.record)

    @property
    def column(self) -> str:
        """Of its test predictions."""
        return self.key.column(self.test["scale"])

    @property
    def is_useful(self) -> bool:
        """Whether it is at most USELESS below the classifier, on validation."""
        return bool(self.validation["score"] >= self.record["reference"] - USELESS - _SLACK)

    @property
    def is_trained(self) -> bool:
        """Whether it is at the scale that training ended with."""
        return self.test["scale"] in (None, 1.0)


Seeds = dict[int, list[Operating]]  # seed -> operating points
Runs = dict[tuple[str, str, str], Seeds]  # (task, backbone, system) -> those of each seed


def choose(candidates: Sequence[Mapping[str, Any]], *, reference: float, max_drop: float) -> tuple[int, bool]:
    """Which of several candidates is the fastest that keeps the score.

    Args:
        candidates: with `score` and `speedup` on validation.
        reference: the fine-tuned classifier's score on the same rows.
        max_drop: how far below it a candidate may be.

    Returns:
        its place, and whether it qualifies. When none does: the best score, of equal ones the fastest.
    """
    good = [n for n, one in enumerate(candidates) if one["score"] >= reference - max_drop - _SLACK]
    if good:
        return max(good, key=lambda n: candidates[n]["speedup"]), True
    return max(range(len(candidates)), key=lambda n: (candidates[n]["score"], candidates[n]["speedup"])), False


def operating_points(record: Mapping[str, Any]) -> list[Operating]:
    """The operating points of a record."""
    by_scale = {one["scale"]: one for one in record["validation"]}
    return [Operating(record, by_scale[test["scale"]], test) for test in record["test"]]


def chosen_point(points: Iterable[Operating], *, max_drop: float) -> tuple[Operating, bool]:
    """The point of a system that stands in the table, of those of one task, backbone and seed; whether it qualifies."""
    ordered = list(points)
    reference = max(point.record["reference"] for point in ordered)
    place, good = choose([point.validation for point in ordered], reference=reference, max_drop=max_drop)
    return ordered[place], good


def rival(points: Iterable[Operating], speedup: float) -> Operating:
    """AdapLeR at another system's speedup: of its points that are at least as fast on validation (up to ALMOST), but at
    most NEAR times, the one with the best validation score; if there is none, the nearest of the faster ones, and if
    there is none of these either, the fastest.

    Args:
        points: AdapLeR's, in all its options, of one task, backbone and seed.
        speedup: the other system's on validation.
    """
    ordered = list(points)
    near = [point for point in ordered if point.validation["speedup"] <= NEAR * speedup + _SLACK]
    if found := at_least(near, speedup):
        return found
    faster = [point for point in ordered if point.validation["speedup"] >= speedup]
    if faster:
        return min(faster, key=lambda point: float(point.validation["speedup"]))
    return max(ordered, key=lambda point: float(point.validation["speedup"]))


def at_least(points: Iterable[Operating], speedup: float, *, count: Count = "speedup") -> Operating | None:
    """A system where a speedup is asked for: of its points at least as fast on validation (up to ALMOST), the one with
    the best validation score, of equal ones the fastest; None if it has none.

    Args:
        points: of one system, task, backbone and seed.
        speedup: the one that is asked for.
        count: the convention in which it is.
    """
    fast = [point for point in points if point.validation[count] >= ALMOST * speedup]
    return max(fast, key=lambda point: (point.validation["score"], point.validation[count]), default=None)


def whole_seeds(points: Mapping[int, Iterable[Operating]]) -> list[int]:
    """The seeds that count: those with the most trained points, where several have other ones the set that most of them
    have. A mean over seeds that lack a budget or an option would be one of other things in each.

    Args:
        points: of each seed, of one system or of AdapLeR in all its options.
    """
    trained = {seed: frozenset((one.key.system, one.key.budget) for one in own) for seed, own in points.items()}
    count = Counter(trained.values())
    best = max(count, key=lambda one: (len(one), count[one], -min(s for s, own in trained.items() if own == one)))
    return sorted(seed for seed, own in trained.items() if own == best)


def by_run(records: Iterable[Mapping[str, Any]]) -> Runs:
    """(task, backbone, system) -> seed, in order -> operating points; seeds that lack some are left out, see
    `whole_seeds`."""
    found: Runs = {}
    for record in records:
        name = (record["task"], record["backbone"], record["system"])
        found.setdefault(name, {}).setdefault(record["seed"], []).extend(operating_points(record))
    return {name: {seed: seeds[seed] for seed in whole_seeds(seeds)} for name, seeds in found.items()}


def left_out(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The points that `by_run` leaves out, by the names of their records."""
    known = list(records)
    runs = by_run(known)
    return [
        f"{record['backbone']}/{record['task']}/{Key.of(record).name}"
        for record in known
        if record["seed"] not in runs[record["task"], record["backbone"], record["system"]]
    ]


def family_of(runs: Runs, task: str, backbone: str) -> Seeds:
    """seed -> AdapLeR's operating points, in all its options, of a task and backbone; empty without one.

    Of the seeds that have all of its options (`whole_seeds`).

    Args:
        runs: of by_run.
        task, backbone: of the points.
    """
    found: Seeds = {}
    for (of_task, of_backbone, system), seeds in runs.items():
        if (of_task, of_backbone) == (task, backbone) and system_of(system).is_family:
            for seed, points in seeds.items():
                found.setdefault(seed, []).extend(points)
    return {seed: found[seed] for seed in whole_seeds(found)} if found else {}
