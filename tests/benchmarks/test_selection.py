"""What validation chooses."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapler.errors import ArgumentError, DataError
from adapler.policies import policy_class, policy_names
from benchmarks.tradeoff.measure import scales_of
from benchmarks.tradeoff.plan import Settings, missing
from benchmarks.tradeoff.report.tables import write_results
from benchmarks.tradeoff.selection import choose, chosen_point, operating_points, rival
from benchmarks.tradeoff.systems import Recipe, system_of
from tests.benchmarks.stand_ins import candidate, predicted, record, write


def test_the_fastest_that_keeps_the_score() -> None:
    some = [candidate(1.0, 0.90, 2.0), candidate(1.5, 0.89, 3.0), candidate(2.0, 0.88, 4.0)]
    assert choose(some, reference=0.9, max_drop=0.01) == (1, True)  # .9 - .01 is .89, whatever the last digit
    assert choose(some, reference=0.9, max_drop=0.0) == (0, True)
    assert choose(some, reference=0.95, max_drop=0.01) == (0, False)  # none qualifies: the best score
    level = [candidate(1.0, 0.8, 2.0), candidate(2.0, 0.8, 3.0)]
    assert choose(level, reference=0.95, max_drop=0.01) == (1, False)  # of equal scores the fastest


@pytest.mark.parametrize("name", policy_names())
def test_scales_end_below_a_bar_that_nothing_reaches(name: str) -> None:
    """A probability can be 1 at most: where half the scale is its bar, scale 2 is the end and no point of a curve."""
    scales, last = scales_of(SimpleNamespace(policy=name)), policy_class(name).last_scale
    assert scales[0] == 1.0 and len(set(scales)) == len(scales)
    assert last == {"trbert": 2.0, "transkimmer": 2.0}.get(name, math.inf)
    assert scales[5:] == ((2.0,) if math.isinf(last) else (1.8, 1.9))


def of(budget: float, validation: list[Any], scales: list[float]) -> dict[str, Any]:
    tested = {scale: predicted([]) for scale in scales}
    return record("adapler", tested=tested, validation=validation, budget=budget)


def test_a_point_of_another_max_drop_is_not_taken_for_done(tmp_path: Path) -> None:
    plain = record("finetuned", tested={None: predicted([])}, validation=[candidate(None, 0.9, 1.0)])
    write(tmp_path / "out", [plain])
    asked: dict[str, Any] = {
        "tasks": ("sst2",),
        "systems": ("finetuned",),
        "seeds": (1,),
        "backbone": "b",
        "name": "tiny",
    }
    recipe = Recipe(Path("r.yaml"), plain["recipe"], (None,))
    for drop in (0.01, 0.05):
        settings = Settings(**asked, output=tmp_path / "out", max_drop=drop)
        if drop == 0.01:
            assert missing(settings, "sst2", system_of("finetuned"), seed=1, recipe=recipe) == ()
            continue
        with pytest.raises(ArgumentError, match="^--max-drop: 0.05 is asked for, .*json is of 0.01; use another --out"):
            missing(settings, "sst2", system_of("finetuned"), seed=1, recipe=recipe)
    other = record("power", tested={1.0: predicted([1])}, validation=[candidate(1.0, 0.9, 2.0)], budget=0.1)
    write(tmp_path / "out", [other | {"max_drop": 0.05}])
    with pytest.raises(DataError, match="out: records of --max-drop 0.01 and 0.05, but a table is of one"):
        write_results(tmp_path / "out")
    assert not (tmp_path / "out" / "table.csv").exists()


def test_a_system_s_point_is_chosen_over_budgets_and_scales() -> None:
    slow = of(0.1, [candidate(1.0, 0.9, 2.0), candidate(2.0, 0.5, 9.0)], [1.0])
    fast = of(0.2, [candidate(1.0, 0.80, 6.0), candidate(0.5, 0.895, 3.0)], [1.0, 0.5])
    points = operating_points(slow) + operating_points(fast)
    point, good = chosen_point(points, max_drop=0.01)
    assert good and point.column == "tiny/adapler-0.2-seed-1@0.5" and not point.is_trained
    # scale 2 of the slow one is faster still, but it was not read on test, since it loses too much
    assert [one.validation["speedup"] for one in points] == [2.0, 6.0, 3.0]


def test_the_rival_is_at_least_as_fast_and_of_those_the_best() -> None:
    points = operating_points(of(0.1, [candidate(1.0, 0.90, 2.0)], [1.0]))
    points += operating_points(of(0.2, [candidate(1.0, 0.88, 3.0), candidate(1.5, 0.89, 3.2)], [1.0, 1.5]))
    assert rival(points, 3.02).test["scale"] == 1.5  # both are within 10 %, one almost as fast: the better score
    assert rival(points, 2.9).validation["speedup"] == 3.0  # 3.2 is 10.3 % faster
    assert rival(points, 2.1).validation["speedup"] == 3.0  # a better one is within 10 %, but slower
    assert rival(points, 9.0).validation["speedup"] == 3.2  # none is as fast: the fastest
    assert rival(points, 1.0).validation["speedup"] == 2.0  # none is near: the nearest faster one
