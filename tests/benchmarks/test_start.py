"""What the command looks for and tidies before it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adapler.errors import DataError
from adapler.training.records import write_record
from benchmarks.tradeoff.__main__ import main
from benchmarks.tradeoff.plan import Settings
from benchmarks.tradeoff.records import predictions_file, read_records
from benchmarks.tradeoff.work import leftovers, remove_weights
from tests.benchmarks.stand_ins import some_records, write


def settings(folder: Path, **options: Any) -> Settings:
    known: dict[str, Any] = {"tasks": ("sst2",), "systems": ("adapler", "power"), "seeds": (1,)}
    runs, output = folder / "runs", folder / "out"
    return Settings(backbone="a/tiny", name="tiny", runs=runs, output=output, **{**known, **options})


def test_a_missing_column_of_predictions_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    write(tmp_path / "out", some_records())
    path = predictions_file(tmp_path / "out", "sst2")
    pd.read_parquet(path).drop(columns="tiny/power-0.001-seed-1@1").to_parquet(path)
    words = ["--backbone", "a/tiny", "--tasks", "mrpc", "--output", str(tmp_path / "out")]
    with pytest.raises(DataError, match="no column 'tiny/power-0.001-seed-1@1', but .*; remove that record"):
        main([*words, "--runs", str(tmp_path / "runs")])


def test_weights_that_a_killed_benchmark_left_are_removed_where_there_is_a_record(tmp_path: Path) -> None:
    write(tmp_path / "out", some_records())
    folders = {}
    for seed in (1, 2):
        run = tmp_path / "runs" / "tiny" / "sst2" / f"seed-{seed}"
        for budget in (0.1, 0.2):  # there is no record of the second
            folders[seed, budget] = run / f"phi-{budget}"
            write_record(folders[seed, budget] / "run.json", {"objectives": {"phi": budget}})
        write_record(run / "finetuned" / "run.json", {"command": "finetune"})
    half = tmp_path / "runs" / "tiny" / "sst2" / "seed-1" / ".power-0.001.removed"
    half.mkdir()
    records = read_records(tmp_path / "out")
    assert remove_weights(settings(tmp_path, systems=("power",)), records) == 0 and not half.exists()
    assert remove_weights(settings(tmp_path), records) == 1
    assert [key for key, folder in folders.items() if folder.exists()] == [(1, 0.2), (2, 0.1), (2, 0.2)]
    assert (tmp_path / "runs" / "tiny" / "sst2" / "seed-1" / "finetuned" / "run.json").is_file()
    assert remove_weights(settings(tmp_path), records) == 0


@pytest.mark.parametrize(
    ("theirs", "asked"), [({"changes": {"limit": 9}}, {"limit": 9}), ({"max_drop": 0.05}, {"max_drop": 0.05})]
)
def test_what_was_measured_otherwise_is_left_to_its_own_output(
    tmp_path: Path, theirs: dict[str, Any], asked: dict[str, Any]
) -> None:
    points = tmp_path / "runs" / "tiny" / "sst2" / "seed-1" / "points"
    mine, other = some_records()[:2]
    for name, one in (("mine", mine), ("theirs", other | theirs)):
        write_record(points / f"{name}.point.json", one)
    for name, options in (("mine", {}), ("theirs", asked)):
        assert [path.name for path in leftovers(settings(tmp_path, **options))] == [f"{name}.point.json"]
