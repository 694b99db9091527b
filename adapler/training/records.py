"""What a command leaves about itself: run.json, written whole, read with every value checked."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from adapler.data import Task
from adapler.errors import CheckpointError
from adapler.files import replacing, sha256_of
from adapler.training.arguments import precision_name
from adapler.training.settings import Execution

RECORD, CARD = "run.json", "README.md"
_SETTINGS = ("config.json", "tokenizer.json", "tokenizer_config.json")  # what a model says besides its weights


# Writing


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON record, whole or not at all; numbers that are not finite as text: JSON has none."""
    text = json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def as_recorded(value: Any) -> Any:
    """A value as it is after it was written to a record and read again."""
    return json.loads(json.dumps(_finite(value), ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Of Python, this package and those that the numbers depend on."""
    names = ("adapler", "torch", "transformers", "accelerate", "datasets", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def model_name(name_or_path: str | Path) -> str:
    """What a record calls a model: the hub's name, or of a folder its last part."""
    return Path(name_or_path).resolve().name if Path(name_or_path).is_dir() else str(name_or_path)


def model_checksum(name_or_path: str | Path) -> str | None:
    """sha256 over the names and contents of a model's weight files; two models of one name differ in it.

    Args:
        name_or_path: a folder, or a hub name, whose files are fetched if they are not at hand.

    Returns:
        None when there are no weights in safetensors; loading such a model fails with its own message.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        return _checksum(sorted(folder.glob("*.safetensors")))
    return _checksum(_fetched(name_or_path, ("model.safetensors",)))  # of shards, the name has to do


def settings_checksum(name_or_path: str | Path) -> str | None:
    """sha256 over what a model's folder says besides its weights: its configuration and its tokenizer. None when there
    is nothing of it."""
    folder = Path(name_or_path)
    if folder.is_dir():
        return _checksum([folder / name for name in _SETTINGS if (folder / name).is_file()])
    return _checksum(_fetched(name_or_path, _SETTINGS))


def _fetched(name: str | Path, files: Iterable[str]) -> list[Path]:
    """Those of a hub model's files that there are; without a network, those that are at hand."""
    from transformers.utils import cached_file

    found = []
    for file in files:
        with suppress(OSError, ValueError):
            found.append(cached_file(str(name), file))
    return [Path(path) for path in found if path is not None]


def _checksum(files: Sequence[Path]) -> str | None:
    if not files:
        return None
    return hashlib.sha256("".join(f"{file.name} {sha256_of(file)}\n" for file in files).encode()).hexdigest()


def identity_of(command: str, settings: Execution, **fields: Any) -> dict[str, Any]:
    """What makes a stage the stage it is: its settings, and the data, models and losses that a command names."""
    return {
        "command": command,
        "settings": asdict(settings),
        "precision": precision_name(settings.precision),
        **fields,
    }


def inputs_of(task: Task, encoding: Mapping[str, Any] | None, *, model: str | Path) -> dict[str, Any]:
    """What a training starts from, for its identity: the data, how they were encoded, and the model."""
    return {
        "task": task.name,
        "encoding": dict(encoding or {}),  # before the checksum: another --validation-share makes other rows
        "data_checksum": task.checksum,
        "labels": list(task.labels),
        "metric": task.metric,
        "model": model_name(model),
        "model_checksum": model_checksum(model),
        "model_settings_checksum": settings_checksum(model),
    }


def record_of(identity: Mapping[str, Any], *, started: float, **fields: Any) -> dict[str, Any]:
    """What run.json holds: identity, command line, versions, time, and what the command found."""
    return {
        **identity,
        "arguments": [_without_folders(word) for word in sys.argv],
        "versions": versions(),
        "machine": {"threads": torch.get_num_threads(), "bfloat16": identity["precision"] == "bfloat16"},
        "seconds": round(time.time() - started, 1),
        **fields,
    }


def _without_folders(word: str) -> str:
    """An absolute path by its last part, also in `--name=PATH`: where it lies here says nothing to a reader."""
    name, sign, value = word.partition("=") if "=" in word and word.startswith("--") else ("", "", word)
    return f"{name}{sign}{Path(value).name if Path(value).is_absolute() else value}"


def epochs_of(log_history: list[dict[str, Any]], *, precision: str) -> list[dict[str, Any]]:
    """The evaluation entries of a Trainer's log, one for each evaluated point, without `eval_` prefix and timings.

    `precision` is what they were computed in.
    """
    rows = []
    for entry in log_history:
        if "eval_loss" in entry:
            row = {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith("eval_")}
            for name in ("runtime", "samples_per_second", "steps_per_second"):
                row.pop(name, None)
            rows.append({"epoch": round(entry["epoch"], 4), "step": entry["step"], "precision": precision, **row})
    return rows


# Reading


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: no such file, not JSON, or something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: a JSON object is expected, found {type(content).__name__}")
    return content


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder that a training command wrote.

    Raises:
        CheckpointError: none there, not readable, or a value of the wrong type; file and field are named.
    """
    path = folder / RECORD
    if not path.is_file():
        raise CheckpointError(f"{folder}: no run.json, so no training command finished here")
    record = read_json(path)
    check_record(record, where=path)
    return record


def check_record(record: Mapping[str, Any], *, where: Path) -> None:
    """Check the fields of a run.json that other commands use, those that are there.

    Raises:
        CheckpointError: names the field, its value and what is allowed.
    """
    check = _Checker(where)
    for name in ("command", "task", "model", "metric", "data_checksum"):
        check.of_type(record, name, str)
    for name in ("settings", "objectives", "encoding", "rows", "selected", "versions", "validation"):
        check.of_type(record, name, dict)
    for name in ("epochs", "labels", "arguments"):
        check.of_type(record, name, list)
    check.of_type(record, "qualified", bool)
    for name in ("best", "reference_score"):
        check.number(record, name, most=1, optional=name == "reference_score")
    for name, value in record.get("rows", {}).items():
        if not _is_number(value) or value < 0:
            check.refuse(f"rows.{name}", value, "a number of at least 0")
    objectives = record.get("objectives", {})
    for name in ("gamma", "phi"):
        check.number(objectives, name, prefix="objectives.")
    check.of_type(objectives, "freeze_backbone", bool, prefix="objectives.")
    metric = record.get("metric", "accuracy")
    check.choice(record, "metric", ("accuracy", "f1", "agreement"))
    rows = [(f"epochs[{number}].", row) for number, row in enumerate(record.get("epochs", []))]
    for prefix, row in [*rows, *([("selected.", record["selected"])] if "selected" in record else [])]:
        if not isinstance(row, dict):
            check.refuse(prefix.rstrip("."), row, "an object")
        check.number(row, metric, prefix=prefix, most=1)
        check.number(row, "epoch", prefix=prefix)
        check.number(row, "step", prefix=prefix)
        check.number(row, "speedup", prefix=prefix, above=True)


def check_evaluation(result: Mapping[str, Any], *, where: Path) -> None:
    """Check what `adapler evaluate --output` writes.

    Raises:
        CheckpointError: names the field, its value and what is allowed.
    """
    check = _Checker(where)
    check.choice(result, "split", ("train", "validation", "test"))
    check.of_type(result, "task", str)
    check.of_type(result, "encoding", dict)
    check.of_type(result, "none", dict, needed=True)
    check.of_type(result, "hard", list, needed=True)
    check.number(result["none"], "score", prefix="none.", most=1, needed=True)
    for number, row in enumerate(result["hard"]):
        prefix = f"hard[{number}]."
        if not isinstance(row, dict):
            check.refuse(prefix.rstrip("."), row, "an object")
        check.number(row, "threshold_scale", prefix=prefix, needed=True)
        check.number(row, "score", prefix=prefix, most=1, needed=True)
        check.number(row, "speedup", prefix=prefix, above=True, needed=True)
        check.number(row, "lengths_in", prefix=prefix)
        check.of_type(row, "lengths", list, prefix=prefix)
        if not all(map(_is_number, row.get("lengths", ()))):
            check.refuse(f"{prefix}lengths", row["lengths"], "a list of numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Checker:
    """Looks at single fields of a JSON object; `where` is its file."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def refuse(self, name: str, value: Any, allowed: str) -> None:
        raise CheckpointError(f"{self.where}: {name!r} is {repr(value)[:60]}, not {allowed}")

    def of_type(
        self, values: Mapping[str, Any], name: str, expected: type, *, prefix: str = "", needed: bool = False
    ) -> None:
        names = {str: "text", dict: "an object", list: "a list", bool: "true or false"}
        if (needed or name in values) and not isinstance(values.get(name), expected):
            self.refuse(prefix + name, values.get(name), names[expected])

    def choice(self, values: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> None:
        if name in values and values[name] not in allowed:
            self.refuse(name, values[name], f"one of {', '.join(allowed)}")

    def number(
        self,
        values: Mapping[str, Any],
        name: str,
        *,
        prefix: str = "",
        most: float = math.inf,
        above: bool = False,
        optional: bool = False,
        needed: bool = False,
    ) -> None:
        """From 0 to `most`; `above`: more than 0; `optional`: None is allowed too; `needed`: it must be there."""
        value = values.get(name, None if needed else 0.5)
        if optional and value is None:
            return
        if not _is_number(value) or not 0 <= value <= most or (above and value == 0):
            upper = f"from 0 to {most:g}" if most < math.inf else "above 0" if above else "of at least 0"
            self.refuse(prefix + name, value, f"a number {upper}")
