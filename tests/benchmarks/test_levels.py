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
from benchmarks.tradeoff.selection import at_least, operating_points
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
    ]
    assert "| PoWER-BERT | 70.0 (2.10x)- | 70.0 (2.10x)- | - | - | - | - |" in text
    assert "| AdapLeR, any option | 92.5 (1.70x) |" in text
    assert len(pd.read_csv(output / "levels.csv")) == 17
