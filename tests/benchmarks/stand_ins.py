"""Records as a benchmark leaves them, without a model: what the report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapler.inference.metrics import score_predictions
from adapler.training.records import write_record
from benchmarks.tradeoff.records import PREDICTIONS, collect
from benchmarks.tradeoff.systems import system_of

GOLD = [number % 2 for number in range(40)]


def predicted(wrong: Sequence[int], gold: Sequence[int] = tuple(GOLD)) -> list[int]:
    """The gold labels, but for the rows in `wrong`."""
    return [1 - label if row in wrong else label for row, label in enumerate(gold)]


def candidate(scale: float | None, score: float, speedup: float) -> dict[str, Any]:
    return {
        "scale": scale,
        "score": score,
        "speedup": speedup,
        "speedup_executed": 1.1 * speedup,
        "speedup_padded": 2 * speedup,
        "lengths": [4.0],
        "lengths_in": 8.0,
    }


def record(
    system: str,
    *,
    tested: Mapping[float | None, Sequence[int]],
    validation: Sequence[dict[str, Any]],
    task: str = "sst2",
    seed: int = 1,
    budget: float | None = None,
    metric: str = "accuracy",
    reference: float = 0.9,
    gold: Sequence[int] = tuple(GOLD),
    **changes: Any,
) -> dict[str, Any]:
    """A measured point; `tested` maps scales to the predicted labels of the test examples."""
    by_scale = {one["scale"]: one for one in validation}
    time = {"milliseconds": 2.0, "best": 1.9, "backbone": 4.0, "ratio": 2.0}
    return {
        "backbone": "tiny",
        "task": task,
        "system": system,
        "seed": seed,
        "budget": budget,
        "title": system_of(system).title,
        "budget_option": system_of(system).budget,
        "coverage": "subset",
        "metric": metric,
        "reference": reference,
        "max_drop": 0.01,
        "qualified": True,
        "chosen": list(tested)[-1],
        "validation": list(validation),
        "test": [
            {
                **by_scale[scale],
                "score": score_predictions(labels, gold, metric=metric),
                "time": {"batches": time, "single": {**time, "ratio": 1.5}},
            }
            for scale, labels in tested.items()
        ],
        "rows": {"train": 100},
        "cost": {"epochs": 6.0, "minutes": 5.0, "own_epochs": 3.0, "own_minutes": 3.0},
        "epoch_flops": 1e12,
        "recipe": {"epochs": 3},
        "changes": {},
        "machine": {"device": "A processor", "load_after": 1.0, "jobs": 1},
        PREDICTIONS: {
            "example_ids": [f"test-{row}" for row in range(len(gold))],
            "labels": list(gold),
            "predicted": [list(labels) for labels in tested.values()],
        },
        **changes,
    }


def write(output: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Records and predictions into a results folder, as a benchmark takes them in."""
    for one in records:
        write_record(output.parent / "measured.json", one)
        collect(output, output.parent / "measured.json")


def some_records(*, task: str = "sst2", metric: str = "accuracy") -> list[dict[str, Any]]:
    """Two seeds of the classifier, AdapLeR at two budgets and PoWER-BERT at one."""
    found = []
    shared: dict[str, Any] = {"task": task, "metric": metric}
    for seed in (1, 2):
        plain = [candidate(None, 0.9, 1.0)]
        found.append(record("finetuned", tested={None: predicted([0, 1])}, validation=plain, seed=seed, **shared))
        slow = [candidate(1.0, 0.9, 2.0), candidate(1.5, 0.85, 2.5)]
        found.append(
            record(
                "adapler", tested={1.0: predicted([0, 1, seed + 1])}, validation=slow, budget=0.01, seed=seed, **shared
            )
        )
        fast = [candidate(1.0, 0.85, 5.0), candidate(0.5, 0.895, 3.0)]
        tested = {1.0: predicted(range(8)), 0.5: predicted(range(4))}
        found.append(record("adapler", tested=tested, validation=fast, budget=0.1, seed=seed, **shared))
        power = [candidate(1.0, 0.895, 1.9)]
        found.append(
            record("power", tested={1.0: predicted(range(7))}, validation=power, budget=0.001, seed=seed, **shared)
        )
    return found
