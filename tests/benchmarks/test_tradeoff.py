"""The comparison's table and tests, from records made here by hand."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from benchmarks import tradeoff
from benchmarks.sweep import write, write_predictions

GOLD = np.array([0, 1] * 20)


def record(results: Path, system: str, speed: float, seed: int, wrong: int, **more: Any) -> None:
    """A trained point that has the first `wrong` test rows wrong."""
    predicted = np.where(np.arange(40) < wrong, 1 - GOLD, GOLD)
    name = f"{system}-{speed:g}x-seed-{seed}"
    known = {
        "task": "sst2",
        "system": system,
        "seed": seed,
        "target": speed,
        "budget": 1.0,
        "trained": speed,
        "near": True,
    }
    known |= {
        "validation": 0.9,
        "test": 1 - wrong / 40,
        "speedup": speed,
        "speedup_executed": speed,
        "metric": "accuracy",
    }
    known |= {"rows": {"train": 100}, "minutes": {"training": 1.0}}
    write_predictions(results / "trained" / "sst2.parquet", GOLD, name, predicted)
    write(results / "trained" / "sst2" / f"{name}.json", {**known, **more})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (42, 43):
        record(tmp_path, "classifier", 1, seed, wrong=2)
        record(tmp_path, "adapler", 4, seed, wrong=4)
        record(tmp_path, "power", 4, seed, wrong=20)
        record(tmp_path, "ltp", 4, seed, wrong=5, near=False, trained=3.0)
    scales = [
        {"scale": scale, "score": 0.8, "speedup": speed, "speedup_executed": speed}
        for scale, speed in ((1.0, 2.1), (2.0, 4.0))
    ]
    old = {"backbone": "MiniLM-L6", "task": "sst2", "system": "adapler-finetuned-contextual", "seed": 42, "budget": 0.1}
    old |= {
        "metric": "accuracy",
        "rows": {"train": 100},
        "validation": scales,
        "test": scales,
        "cost": {"own_minutes": 3},
    }
    write(tmp_path / "records" / "MiniLM-L6" / "sst2" / "old.json", old)
    return tmp_path


def test_only_points_at_the_scale_of_training_count_as_trained(results: Path) -> None:
    table = tradeoff.read_table(results)
    ours = table[table.system == "adapler"]
    assert ours.kind.tolist() == ["trained", "extrapolated", "trained", "trained"]  # by seed, then by trained speed
    assert ours[ours.scale == 2].target.isna().all()
    assert ours[ours.budget == 0.1].target.dropna().tolist() == [2.0]
    np.testing.assert_allclose(table[table.system == "power"].lost, 18 / 40)
    assert set(table[table.system == "ltp"].kind) == {"missed"}
    assert "ltp" not in set(tradeoff.chosen(table).system)


def test_tests_pair_examples_over_the_same_seeds(results: Path) -> None:
    found = tradeoff.tests(results, tradeoff.chosen(tradeoff.read_table(results)))
    [row] = found.to_dict("records")
    assert (row["system"], row["speed"], row["seeds"], row["by_seed"]) == ("power", 4.0, 2, "+40.00 +40.00")
    assert row["significant"] and row["p"] < 0.01


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_a_permutation_is_the_exact_test_of_few_examples(metric: str) -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(0, 2, 9)
    first, second = np.where(rng.random(9) < 0.9, gold, 1 - gold), np.where(rng.random(9) < 0.3, gold, 1 - gold)

    def score(predicted: Any) -> float:
        return float(f1_score(gold, predicted) if metric == "f1" else (gold == predicted).mean())

    observed, found = score(first) - score(second), []
    for swap in itertools.product([False, True], repeat=9):
        found.append(score(np.where(swap, second, first)) - score(np.where(swap, first, second)))
    exact = np.mean(np.abs(found) >= abs(observed) - 1e-9)
    one, other = (tradeoff.parts(predicted, gold, metric)[None] for predicted in (first, second))
    assert tradeoff.permutation(one, other) == pytest.approx(exact, abs=0.03)


def test_pages_say_what_was_missed_and_who_is_better(results: Path) -> None:
    record(results, "trbert", 4, 42, wrong=10, near=False, trained=3.2)
    record(results, "trbert", 4, 43, wrong=8)
    assert tradeoff.main(["--results", str(results)]) == 0
    text = (results / "table.md").read_text()
    assert (
        "| AdapLeR (ours) |  | **90.0 (4.00x; 2)** > 1 |" in text and "| AdapLeR (ours) |  | 80.0 (2.10x; 1) |" in text
    )
    assert "| LTP |  | 87.5 (4.00x; 2, missed) |" in text and "| PoWER-BERT |  | 50.0 (4.00x; 2) |" in text
    assert "| TR-BERT |  | 80.0 (4.00x; 1) 75.0 (4.00x; 1, missed) |" in text
    assert (results / "losses.png").stat().st_size > 10_000
    assert len(pd.read_csv(results / "table.csv")) == 12


def test_the_committed_records_make_the_committed_table() -> None:
    results = Path(__file__).parents[2] / "results" / "tradeoff"
    table = tradeoff.read_table(results)
    assert len(table) == len(pd.read_csv(results / "table.csv"))
    for path in sorted((results / "trained").glob("*/*.json")):
        said = json.loads(path.read_text())
        predictions = pd.read_parquet(path.parent.with_suffix(".parquet"))
        correct = predictions[path.stem] == predictions.label
        if said["metric"] == "accuracy":
            assert correct.mean() == pytest.approx(said["test"], abs=1e-9), path
