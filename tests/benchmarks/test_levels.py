"""Scores where a speedup is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.metrics.statistics import paired_permutation_test
from benchmarks.tradeoff.records import predictions, read_records
from benchmarks.tradeoff.report.levels import ANY, ASKED, LEVELS, best_other, level_rows
from benchmarks.tradeoff.report.tables import write_results
from benchmarks.tradeoff.selection import at_least, by_run, family_of, left_out, operating_points
from tests.benchmarks.stand_ins import GOLD, candidate, predicted, record, write


def curve(system: str, points: dict[float, tuple[float, float, int]], **more: Any) -> dict[str, Any]:
    """A record of a system; points: scale -> validation score, speedup, wrong answers on test."""
    return record(
        system,
        tested={scale: predicted(range(wrong)) for scale, (_, _, wrong) in points.items()},
        validation=[candidate(scale, score, speedup) for scale, (score, speedup, _) in points.items()],
        **({"budget": 0.1} | more),
    )


def some() -> list[dict[str, Any]]:
    """A classifier; AdapLeR in two options; PoWER-BERT up to 2.1x, useless beyond; half of the layers."""
    return [
        record("finetuned", tested={None: predicted([])}, validation=[candidate(None, 0.9, 1.0)]),
        curve("adapler", {1.0: (0.88, 1.6, 2), 1.5: (0.85, 4.0, 4)}),
        curve("adapler-post-hoc", {1.0: (0.89, 1.7, 3), 1.5: (0.80, 4.4, 1)}),
        curve("power", {1.0: (0.89, 2.1, 12), 2.0: (0.74, 3.1, 20)}),
        curve("distilbert", {1.0: (0.87, 1.999, 1)}, budget=None),
    ]


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    write(tmp_path / "out", some())
    return level_rows(read_records(tmp_path / "out"), lambda task: predictions(tmp_path / "out", task))


def test_the_best_on_validation_of_those_fast_enough() -> None:
    points = operating_points(curve("adapler", {1.0: (0.9, 2.0, 0), 0.5: (0.95, 1.5, 0), 1.5: (0.9, 3.0, 0)}))
    assert at_least(points, 1.5).test["scale"] == 0.5  # type: ignore[union-attr]
    assert at_least(points, 2.0).test["scale"] == 1.5  # type: ignore[union-attr]  # equal scores: the fastest
    assert at_least(points, 3.02).test["scale"] == 1.5  # type: ignore[union-attr]  # nearly as fast is enough
    assert at_least(points, 3.1) is None


def test_a_row_for_each_speed_that_is_reached(rows: pd.DataFrame) -> None:
    assert tuple(rows.columns) == LEVELS
    reached = {name: part["asked"].tolist() for name, part in rows.groupby("system")}
    assert reached == {
        "adapler": [1.5, 2.0, 3.0, 4.0],
        "adapler-post-hoc": [1.5, 2.0, 3.0, 4.0],
        ANY: [1.5, 2.0, 3.0, 4.0],
        "power": [1.5, 2.0, 3.0],
        "distilbert": [1.5, 2.0],
    }
    own = rows.set_index(["system", "asked"])
    assert own.loc[(ANY, 1.5), "point"] == "adapler-post-hoc-0.1-seed-1@1", "the best option on validation"
    assert own.loc[(ANY, 2.0), "point"] == "adapler-0.1-seed-1@1.5" and own.loc[(ANY, 2.0), "score"] == 36 / 40
    assert own.loc[("power", 2.0), "useful"] and not own.loc[("power", 3.0), "useful"]
    assert own.loc[("adapler", 3.0), ["difference", "p", "p_holm"]].isna().all()


def test_differences_are_from_adapler_where_the_same_is_asked_for(rows: pd.DataFrame) -> None:
    own = rows.set_index(["system", "asked"])
    power = own.loc[("power", 2.0)]
    assert power["difference"] == pytest.approx(28 / 40 - 36 / 40)
    right = [(np.array(predicted(range(wrong))) == GOLD).astype(float) for wrong in (12, 4)]
    assert power["p"] == pytest.approx(float(paired_permutation_test(*right)), abs=0.01)
    assert power["p_holm"] == pytest.approx(2 * power["p"]), "of two systems"
    assert power["difference_low"] < power["difference"] < power["difference_high"] < 0


def test_the_best_other_system(rows: pd.DataFrame) -> None:
    assert best_other(rows, 1.5)["system"] == "power"  # type: ignore[index]  # on validation, not on test
    assert best_other(rows, 3.0) is None, "it is useless there"
    assert best_other(rows, ASKED[-1]) is None


def test_the_tables(tmp_path: Path) -> None:
    output = tmp_path / "out"
    write(output, some())
    write_results(output)
    text = (output / "table.md").read_text(encoding="utf-8")
    found = [line for line in text.splitlines() if line.startswith(("| SST-2 (subset) | 100.0 |", "|  |  | best"))]
    assert found == [
        "| SST-2 (subset) | 100.0 | AdapLeR | **92.5 (1.70x)** | **90.0 (4.00x)** "
        "| 90.0 (4.00x) | 90.0 (4.00x) | - | - |",
        "|  |  | best other | 70.0 PoWER-BERT (2.10x) | 70.0 PoWER-BERT (2.10x) | - | - | - | - |",
        # where the speedup is of executed FLOPs, a tenth more here
        "| SST-2 (subset) | 100.0 | AdapLeR | **92.5 (1.87x)** | **90.0 (4.40x)** "
        "| 90.0 (4.40x) | 90.0 (4.40x) | - | - |",
        "|  |  | best other | 70.0 PoWER-BERT (2.31x) | 70.0 PoWER-BERT (2.31x) | - | - | - | - |",
    ]
    assert len(pd.read_csv(output / "levels_executed.csv")) == 17
    assert "| PoWER-BERT | 70.0 (2.10x)- | 70.0 (2.10x)- | - | - | - | - |" in text
    assert "| AdapLeR, any option | 92.5 (1.70x) |" in text
    assert len(pd.read_csv(output / "levels.csv")) == 17


def test_a_speed_of_executed_flops(tmp_path: Path) -> None:
    """What is 1.9 times as fast in the paper's convention, and 2.09 times in executed FLOPs."""
    write(tmp_path / "out", [curve("power", {1.0: (0.89, 1.9, 2)}), curve("adapler", {1.0: (0.88, 1.7, 2)})])
    records = read_records(tmp_path / "out")
    for count, asked in (("speedup", [1.5]), ("speedup_executed", [1.5, 2.0])):
        rows = level_rows(records, lambda task: predictions(tmp_path / "out", task), count=count)  # type: ignore[arg-type]
        own = rows[rows["system"] == "power"]
        assert own["asked"].tolist() == asked
        assert own["validation_speedup"].tolist() == pytest.approx([{1: 1.9, 2: 2.09}[len(asked)]] * len(asked))


def of_seeds(
    system: str, points: dict[float, tuple[float, float, int]], *seeds: int, **more: Any
) -> list[dict[str, Any]]:
    return [curve(system, points, seed=seed, **more) for seed in seeds]


def test_a_system_counts_in_the_seeds_that_have_all_of_its_points(tmp_path: Path) -> None:
    """A second seed of one budget would else take the cells away that the first seed's other budget has."""
    slow, fast = {1.0: (0.89, 2.0, 2)}, {1.0: (0.85, 4.0, 4)}
    records = [
        *of_seeds("power", slow, 3, 1, 2, budget=0.1),
        *of_seeds("power", fast, 1, budget=0.5),
        *of_seeds("ltp", slow, 3, 1, 2),
    ]
    runs = by_run(records)
    assert {name: list(seeds) for (_, _, name), seeds in runs.items()} == {"power": [1], "ltp": [1, 2, 3]}
    names = ["tiny/sst2/power-0.1-seed-3", "tiny/sst2/power-0.1-seed-2"]
    assert left_out(records) == names and left_out(of_seeds("ltp", slow, 3, 1)) == []
    write(
        tmp_path, [record("finetuned", tested={None: predicted([])}, validation=[candidate(None, 0.9, 1.0)]), *records]
    )
    rows = level_rows(read_records(tmp_path), lambda task: predictions(tmp_path, task)).set_index(["system", "asked"])
    assert rows.loc[("power", 4.0), "seeds"] == 1 and rows.loc[("ltp", 2.0), "seeds"] == 3
    write_results(tmp_path)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert f"lack other points of the same system: {', '.join(sorted(names))}." in text
    assert "| LTP | 95.0 (2.00x; 3) | 95.0 (2.00x; 3) | - |" in text


def test_adapler_over_its_options_counts_in_the_seeds_that_have_all_of_them() -> None:
    """Else one seed would choose among two options and the next have one only."""
    records = [
        *of_seeds("adapler", {1.0: (0.88, 1.6, 2)}, 1, 2),
        *of_seeds("adapler-post-hoc", {1.0: (0.89, 1.7, 3)}, 2, 3),
    ]
    family = family_of(by_run(records), "sst2", "tiny")
    assert {seed: [one.key.system for one in points] for seed, points in family.items()} == {
        2: ["adapler", "adapler-post-hoc"]
    }
    alone = [*of_seeds("power", {1.0: (0.8, 2.0, 2)}, 2, budget=0.1), *of_seeds("power", {1.0: (0.8, 2.0, 2)}, 1)]
    assert list(by_run([one | {"budget": 0.1 * one["seed"]} for one in alone])["sst2", "tiny", "power"]) == [1], (
        "no seed has both budgets: the first"
    )


def test_a_sign_stands_between_two_scores_of_the_same_seeds(tmp_path: Path) -> None:
    """AdapLeR is better in the seed that both have, and its mean over two seeds is worse: no sign says either."""
    plain = [candidate(None, 0.9, 1.0)]
    records = [
        *(record("finetuned", tested={None: predicted([])}, validation=plain, seed=seed) for seed in (1, 2)),
        *of_seeds("adapler", {1.0: (0.89, 2.0, 2)}, 1),
        *of_seeds("adapler", {1.0: (0.89, 6.0, 30)}, 2),
        *of_seeds("power", {1.0: (0.88, 2.0, 14)}, 1),
        *of_seeds("ltp", {1.0: (0.70, 2.0, 2)}, 1, 2),
    ]
    write(tmp_path, records)
    write_results(tmp_path)
    rows = pd.read_csv(tmp_path / "levels.csv").set_index(["system", "asked"])
    power, ours = rows.loc[("power", 2.0)], rows.loc[(ANY, 2.0)]
    assert power["p_holm"] < 0.05 and power["difference"] < 0 < power["score"] - ours["score"]
    assert not power["same_seeds"] and rows.loc[("ltp", 2.0), "same_seeds"]
    assert ours["speedup"] == pytest.approx(3.0), "two texts of cost 1/2 and 1/6 cost 1/3 each"
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| PoWER-BERT | 65.0 (2.00x) | 65.0 (2.00x) |" in text
    assert "| best other | 65.0 PoWER-BERT (2.00x) | 65.0 PoWER-BERT (2.00x) |" in text and "**" not in text


def test_no_sign_where_one_of_both_has_no_useful_point(tmp_path: Path) -> None:
    plain = record("finetuned", tested={None: predicted([])}, validation=[candidate(None, 0.9, 1.0)])
    lost, good = curve("adapler", {1.0: (0.70, 2.0, 30)}), curve("power", {1.0: (0.88, 2.0, 1)})
    write(tmp_path, [plain, lost, good])
    write_results(tmp_path)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert pd.read_csv(tmp_path / "levels.csv")["p_holm"].min() < 0.001
    assert "| AdapLeR | - | - | - |" in text and "best other | 97.5 PoWER-BERT (2.00x) |" in text
    assert "| PoWER-BERT | 97.5 (2.00x) | 97.5 (2.00x) | - |" in text
