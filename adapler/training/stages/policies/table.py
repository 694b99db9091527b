"""The table of a run folder: which rows of earlier runs are points of the same trade-off."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from adapler.errors import ArgumentError, CheckpointError
from adapler.training.policies.base import training_class
from adapler.training.policies.settings import PolicySettings
from adapler.training.records import RECORD, read_record
from adapler.training.resume import WHERE

# Of a record: what a training started from.
INPUTS = (
    *("task", "data_checksum", "encoding", "saliency_checksum", "max_drop"),
    *("start", "model", "model_checksum", "reinit_head", "teacher_checksum"),
)

# Numbers as they were written: before 3.1 pandas may change their last digit, and from there on it warns of the option.
_OLD_PANDAS = tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
_EXACT: dict[str, Any] = {"float_precision": "round_trip"} if _OLD_PANDAS else {}


def _training_of(folder: Path) -> dict[str, Any] | None:
    """How a model was trained but for its budget, by its record; None where there is none."""
    if not (folder / RECORD).is_file():
        return None
    try:
        record = read_record(folder)
    except CheckpointError:  # of an earlier run: this one's table is written all the same
        return {}
    policy = {one.name: record.get(one.name) for one in fields(PolicySettings)}
    policy |= {name: value for name, value in _usual_of(record).items() if policy[name] is None}
    policy |= {"policy_weight": None, "keep": None}
    objectives = {**record.get("objectives", {}), "phi": None, "target_speedup": None}
    inputs = {name: record.get(name) for name in INPUTS}
    settings = {**record.get("settings", {}), **dict.fromkeys(WHERE)}
    return {**policy, **inputs, "objectives": objectives, "settings": settings}


def _usual_of(record: dict[str, Any]) -> dict[str, Any]:
    """What null stands for in a record of an older version, where its policy is still there."""
    name, rate = record.get("policy"), record.get("settings", {}).get("learning_rate")
    try:
        return training_class(str(name)).usual_values(str(name), task=str(record.get("task")), learning_rate=rate)
    except ArgumentError:
        return {}


def with_earlier(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows, after those of earlier runs in this folder with other budgets, whose models are still there.

    A model that was trained otherwise in more than its budget is no point of the same trade-off.
    """
    try:
        earlier = pd.read_csv(path, **_EXACT)
        names = earlier["model"].astype(str)
    except (OSError, ValueError, KeyError):  # none yet, no table, or one of a version that did not name the models
        return table
    here = _training_of(path.parent / table["model"][0])
    kept = []
    for name in names:
        found = _training_of(path.parent / name)
        kept.append(name not in set(table["model"]) and found == here)
        if found not in (None, here):
            print(f"note: {path.name}: without {name}, whose record does not say the same settings")
    return pd.concat([earlier[kept], table], ignore_index=True) if any(kept) else table
