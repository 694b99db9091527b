"""The sweep: which models a plan asks for, how a budget is searched, what is resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import sweep
from benchmarks.sweep import Cell, Sweep, cells, next_budget, read_splits


def names(**block: Any) -> list[str]:
    return [cell.name for cell in cells([{"tasks": ["sst2"], "seeds": [42], **block}])]


def test_a_cell_comes_after_what_it_starts_from() -> None:
    asked = names(systems=["student-adapler", "ltp"], speeds=[4])
    assert asked == ["classifier-1x-seed-42", "distilbert-2x-seed-42", "student-adapler-4x-seed-42", "ltp-4x-seed-42"]


def test_a_student_has_the_speeds_of_whole_layers() -> None:
    asked = names(systems=["distilbert"], speeds=[4, 6])
    assert set(asked) == {"classifier-1x-seed-42", *(f"distilbert-{speed}x-seed-42" for speed in (2, 3, 6))}


@pytest.mark.parametrize(
    ("share", "speed_of"), [(False, lambda b: 1 + 40 * b**0.7), (True, lambda b: 1 + 12 * (1 - b) ** 1.7)]
)
@pytest.mark.parametrize("wanted", [2.0, 4.0, 6.0])
def test_three_budgets_reach_a_speed(share: bool, speed_of: Any, wanted: float) -> None:
    """On a smooth curve that the search does not know, from a first guess that is three times too small."""
    first = 1 - 0.1 if share else 0.01
    own: list[tuple[float, float]] = []
    for _ in range(sweep.MOST_BUDGETS):
        budget = next_budget(own, [], wanted, first={wanted: first}, share=share)
        own.append((budget, speed_of(budget)))
    assert min(abs(math.log(speed / wanted)) for _, speed in own) < math.log(1.1)


def test_a_budget_lies_between_its_neighbours() -> None:
    found = next_budget([(0.1, 1.5), (1.0, 5.0), (10.0, 9.0)], [], 3.0, first={}, share=False)
    assert 0.1 < found < 1.0


def test_other_seeds_say_where_the_search_begins() -> None:
    assert next_budget([], [(0.5, 4.0), (0.1, 2.0)], 4.0, first={4.0: 99.0}, share=False) == pytest.approx(0.5)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "sst2"
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"name": "sst2", "labels": ["bad", "good"]}))
    for split, number in (("train", 40), ("test", 6)):
        rows = [{"text": f"text {n}", "label": ("bad", "good")[n % 2], "other": 1} for n in range(number)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_splits_have_indices_of_labels_and_a_validation_of_their_own(task: Path) -> None:
    splits = read_splits(task)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 36, "test": 6, "validation": 4}
    assert splits["test"].to_dict("list") == {"text": [f"text {n}" for n in range(6)], "label": [0, 1] * 3}
    assert not set(splits["train"].text) & set(splits["validation"].text)


def test_a_killed_sweep_goes_on_and_one_failure_ends_no_other(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, trained = tmp_path / "plan.yaml", []
    plan.write_text("[{tasks: [sst2], systems: [ltp, power], speeds: [2], seeds: [42]}]")

    def train(self: Sweep, cell: Cell) -> None:
        trained.append(cell.name)
        if cell.system == "ltp":
            raise OSError("no")
        sweep.write(self.record_file(cell), {"trained": 2.0, "test": 0.5})

    monkeypatch.setattr(Sweep, "train", train)
    words = [str(plan), "--data", str(task.parent), "--encoder", "none", "--output", str(tmp_path / "records")]
    assert sweep.main(words) == 1 and trained == ["classifier-1x-seed-42", "ltp-2x-seed-42", "power-2x-seed-42"]
    assert sweep.main(words) == 1 and trained[3:] == ["ltp-2x-seed-42"]


def test_predictions_of_other_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sst2.parquet"
    sweep.write_predictions(path, [0, 1], "a", [1, 1])
    sweep.write_predictions(path, [0, 1], "b", [0, 1])
    assert pd.read_parquet(path).to_dict("list") == {"label": [0, 1], "a": [1, 1], "b": [0, 1]}
    with pytest.raises(SystemExit, match="other test rows"):
        sweep.write_predictions(path, [1, 1], "c", [0, 1])
