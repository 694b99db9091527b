"""What training took: minutes of each system on each task, and on which processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from benchmarks.tradeoff.data import TASK_TITLES
from benchmarks.tradeoff.systems import in_order, system_of

COSTS_NOTE = """\
Minutes of training of one model, from the encoder on: the mean over a system's budgets and seeds. In brackets its own,
without what systems of a task share: the fine-tuned classifier, and the targets that AdapLeR learns. The letter is the
processor; where there are several, the mean is over unlike ones. Below the own minutes of all models, in hours.
"""

Record = Mapping[str, Any]


def cost_table(records: Sequence[Record]) -> list[list[str]]:
    """Rows of cells, the heads first; the last one has the hours of each task.

    Args:
        records: of one backbone.
    """
    tasks = list(dict.fromkeys(record["task"] for record in records))
    letters = machine_letters(records)
    rows = [["system", *(TASK_TITLES.get(task, task) for task in tasks)]]
    for system in in_order([record["system"] for record in records]):
        own = [[one for one in records if (one["system"], one["task"]) == (system, task)] for task in tasks]
        rows.append([system_of(system).title, *(_cell(some, letters) if some else "" for some in own)])
    hours = [sum(one["cost"]["own_minutes"] for one in records if one["task"] == task) / 60 for task in tasks]
    return [*rows, ["hours", *(f"{some:.1f}" for some in hours)]]


def machine_letters(records: Sequence[Record]) -> dict[str, str]:
    """A letter for each processor, in the order of their names."""
    return dict(zip(sorted({record["machine"]["device"] for record in records}), ascii_lowercase, strict=False))


def _cell(records: Sequence[Record], letters: Mapping[str, str]) -> str:
    whole, own = (sum(one["cost"][name] for one in records) / len(records) for name in ("minutes", "own_minutes"))
    machines = "".join(sorted({letters[one["machine"]["device"]] for one in records}))
    return f"{whole:.0f}{'' if whole == own else f' ({own:.0f})'} {machines}"
