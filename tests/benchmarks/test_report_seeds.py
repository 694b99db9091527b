"""The report over seeds whose times, costs and scores differ."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from benchmarks.tradeoff import timing
from benchmarks.tradeoff.records import predictions, read_records
from benchmarks.tradeoff.report.comparison import (
    bootstrap,
    curve_rows,
    difference_interval,
    paired_tests,
    swap_test,
    table_rows,
)
from benchmarks.tradeoff.report.figures import means_over_seeds, scores_figure
from benchmarks.tradeoff.report.levels import best_other, level_rows
from benchmarks.tradeoff.selection import chosen_point, operating_points, whole_seeds
from benchmarks.tradeoff.timing import summary, take_turns
from tests.benchmarks.stand_ins import GOLD, candidate, predicted, record, some_records, write
from tests.benchmarks.test_report import parts
from tests.conftest import tiny_adapler

RIGHT, WRONG = np.array(GOLD), 1 - np.array(GOLD)


def plain(seed: int = 1, **more: Any) -> dict[str, Any]:
    return record("finetuned", tested={None: predicted([0])}, validation=[candidate(None, 0.9, 1.0)], seed=seed, **more)


def test_a_row_is_the_mean_over_seeds(tmp_path: Path) -> None:
    records = [plain(seed) for seed in (1, 2)]
    for one, seed in zip(records, (1, 2), strict=True):
        batches = {"milliseconds": 2.0 * seed, "best": 1.0, "backbone": 4.0, "ratio": 1.0}
        one["test"][0]["time"] = {
            "batches": batches,
            "single": {**batches, "milliseconds": 10.0 * seed, "backbone": 9.0},
        }
        one["machine"]["load_after"] = float(seed)
    write(tmp_path, records)
    row = table_rows(read_records(tmp_path), lambda task: predictions(tmp_path, task)).iloc[0]
    assert (row["milliseconds"], row["milliseconds_one"]) == (3.0, 15.0)
    assert (row["backbone_milliseconds"], row["backbone_milliseconds_one"]) == (4.0, 9.0)
    assert row["load"] == 2.0, "the busiest"
    assert row["epochs"] == 6.0 and row["minutes"] == 5.0, "with what they share"
    assert row["validation_score"] == pytest.approx(0.9) != row["score"]


def test_no_p_is_0() -> None:
    assert swap_test(parts(RIGHT), parts(WRONG), swaps=99) == 1 / 100


def test_an_interval_is_of_the_mean_over_seeds() -> None:
    one, other = parts(RIGHT, WRONG), parts(WRONG, RIGHT)
    assert difference_interval(one, other, resamples=50) == (0.0, 0.0), "the means over both seeds are the same"


def test_an_interval_leaves_2_5_percent_on_each_side() -> None:
    """Of 1000 examples, four fifths right, it is that of the binomial distribution; nothing else is drawn."""
    right = np.stack([np.arange(1000) % 5 > 0, np.ones(1000)], axis=1)[None].astype(float)  # (1, E, 2)
    expected = pytest.approx(np.array(binom.interval(0.95, 1000, 0.8)) / 1000, abs=0.0015)
    assert bootstrap(right) == expected
    assert difference_interval(right, right * [0, 1]) == expected, "minus a score of 0"


def power(seed: int, score: float, **more: Any) -> dict[str, Any]:
    found = [candidate(1.0, score, 2.1)]
    return record("power", tested={1.0: predicted(range(12))}, validation=found, budget=0.1, seed=seed, **more)


def adapler(**more: Any) -> dict[str, Any]:
    found = [candidate(1.0, 0.88, 2.1)]
    return record("adapler", tested={1.0: predicted([0])}, validation=found, budget=0.1, **more)


def test_a_point_is_useful_where_it_is_in_every_seed(tmp_path: Path) -> None:
    write(tmp_path, [plain(1), plain(2), power(1, 0.89), power(2, 0.70)])
    rows = level_rows(read_records(tmp_path), lambda task: predictions(tmp_path, task))
    assert rows["seeds"].tolist() == [2, 2] and not rows["useful"].any(), "one of two seeds is far below"


def test_holm_is_within_a_task(tmp_path: Path) -> None:
    records = [
        make(task=task) for task in ("sst2", "mrpc") for make in (plain, adapler, lambda **more: power(1, 0.89, **more))
    ]
    write(tmp_path, records)
    rows = level_rows(read_records(tmp_path), lambda task: predictions(tmp_path, task))
    other = rows[rows["system"] == "power"]
    assert len(other) == 4 and (other["p"] < 0.05).all()
    assert other["p_holm"].tolist() == other["p"].tolist(), "one other system on each task"


def test_the_tests_of_another_task_or_backbone_are_another_family(tmp_path: Path) -> None:
    own = [plain(), adapler(), power(1, 0.89)]
    write(
        tmp_path, [one | {"task": task, "backbone": name} for task in ("sst2", "mrpc") for name in "ab" for one in own]
    )
    tests = paired_tests(read_records(tmp_path), lambda task: predictions(tmp_path, task))
    assert len(tests) == 4 and (tests["p"] < 0.05).all() and tests["p_holm"].tolist() == tests["p"].tolist()


def test_speeds_are_equal_where_they_are_in_every_seed(tmp_path: Path) -> None:
    fast = record("adapler", tested={1.0: predicted([0])}, validation=[candidate(1.0, 0.88, 4.0)], budget=0.1, seed=2)
    write(tmp_path, [plain(1), plain(2), power(1, 0.89), power(2, 0.87), adapler(), fast])
    read, table = read_records(tmp_path), lambda task: predictions(tmp_path, task)
    assert not paired_tests(read, table)["equal_speed"].any()
    assert paired_tests([one for one in read if one["seed"] == 1], table)["equal_speed"].all()
    for rows in (table_rows(read, table), level_rows(read, table)):
        assert rows.loc[rows["system"] == "power", "validation_score"].to_numpy() == pytest.approx(0.88)


def test_of_equally_good_systems_the_fastest_is_the_best_other(tmp_path: Path) -> None:
    """On validation, whatever test says of them."""
    better = record("ltp", tested={1.0: predicted([0])}, validation=[candidate(1.0, 0.89, 1.9)], budget=0.1)
    write(tmp_path, [plain(), power(1, 0.89), better])
    rows = level_rows(read_records(tmp_path), lambda task: predictions(tmp_path, task))
    found = best_other(rows, 1.5)
    assert found is not None and found["system"] == "power"


def curves_of(scores: list[float]) -> pd.DataFrame:
    rows = [{"seed": seed, "score": score} for seed, score in enumerate(scores)]
    own = pd.DataFrame(rows).assign(task="sst2", backbone="tiny", system="power", budget=0.1, scale=1.0, speedup=2.0)
    return own.assign(validation_score=0.9, validation_speedup=2.0)


def test_a_band_goes_from_the_lowest_to_the_highest_seed() -> None:
    found = means_over_seeds(curves_of([0.7, 0.9, 0.95]))
    assert found[["score", "low", "high"]].iloc[0].tolist() == pytest.approx([0.85, 0.7, 0.95])


def test_a_bar_too() -> None:
    curves = curves_of([0.7, 0.9, 0.95])
    table = curves.head(1).assign(score=0.85, coverage="complete", metric="accuracy")
    (ax,) = scores_figure(curves, table).axes
    (bar,) = [one for drawn in ax.collections if hasattr(drawn, "get_segments") for one in drawn.get_segments()]
    assert bar[:, 1].tolist() == pytest.approx([70, 95])


def test_points_are_chosen_against_the_best_reference() -> None:
    fast = record(
        "adapler", tested={1.0: predicted([])}, validation=[candidate(1.0, 0.79, 5.0)], budget=0.1, reference=0.8
    )
    good = record("adapler", tested={1.0: predicted([])}, validation=[candidate(1.0, 0.90, 2.0)], budget=0.2)
    point, qualified = chosen_point([*operating_points(fast), *operating_points(good)], max_drop=0.01)
    assert qualified and point.key.budget == 0.2


def test_a_point_is_qualified_where_it_is_the_chosen_one(tmp_path: Path) -> None:
    write(tmp_path, some_records())
    curves = curve_rows(read_records(tmp_path))
    assert curves["qualified"].tolist() == curves["in_table"].tolist()
    assert curves["in_table"].sum() == 2 * 3


def test_times_are_medians_of_rounds() -> None:
    found = summary([1.0, 2.0, 4.0], [3.0, 2.0, 8.0], texts=2)
    assert found == {"milliseconds": 1000.0, "best": 500.0, "backbone": 1500.0, "ratio": 2.0}, "of 3, 1 and 2 times"
    calls: list[str] = []
    seconds = take_turns([lambda: calls.append("a"), lambda: calls.append("b")], rounds=3)
    assert calls == ["a", "b"] * 4 and [len(one) for one in seconds] == [3, 3], "the first round warms up"


@pytest.mark.parametrize(("score", "useful"), [(0.75, True), (0.749, False)])
def test_a_point_is_useful_up_to_15_points_below_the_classifier(score: float, useful: bool) -> None:
    """On validation, whatever the last digit of .9 - .15 is."""
    (point,) = operating_points(power(1, score))
    assert point.is_useful is useful


def test_of_unlike_seeds_those_count_of_which_there_are_most() -> None:
    points = {seed: operating_points(power(seed, 0.89) | {"budget": 0.1 + (seed > 1)}) for seed in (1, 2, 3)}
    assert whole_seeds(points) == [2, 3] and whole_seeds({seed: points[seed] for seed in (1, 2)}) == [1]


def test_records_are_in_the_order_of_their_budgets_as_numbers(tmp_path: Path) -> None:
    write(tmp_path, [power(seed, 0.89) | {"budget": budget} for seed in (1, 2) for budget in (10.0, 2.0)])
    found = [(one["budget"], one["seed"]) for one in read_records(tmp_path)]
    assert found == [(2.0, 1), (2.0, 2), (10.0, 1), (10.0, 2)]


def test_one_by_one_a_time_is_of_the_texts_that_run_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int | None]] = []
    seconds, model = count(), tiny_adapler()  # a call takes one
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    monkeypatch.setattr(timing, "predict_rows", lambda _, rows, **how: seen.append((len(rows), how["token_budget"])))
    (found,), facts = timing.measure_times([(model, {})] * 2, [{}] * 9, pad_token_id=0, texts=8, single=2, rounds=1)
    assert (found["batches"]["milliseconds"], found["single"]["milliseconds"]) == (125.0, 500.0)
    assert set(seen) == {(8, None), (2, 1)} and (facts["texts"], facts["single"]) == (8, 2)
