"""What is known of a trained point: a JSON record, and its test predictions as columns of its task's Parquet.

    OUTPUT/records/BACKBONE/TASK/SYSTEM-BUDGET-seed-SEED.json
    OUTPUT/predictions/TASK.parquet     example_id, label, and a column of predicted labels for each tested scale

A record is written last and whole, so that a point with a record is finished, whatever became of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from adapler.errors import ArgumentError, DataError
from adapler.files import replacing, visible
from adapler.inference.passes import ratio_of, score_parts
from adapler.training.records import read_json, write_record
from benchmarks.tradeoff.checks import check_point
from benchmarks.tradeoff.systems import SYSTEMS, TASKS

PREDICTIONS = "predictions"  # of a point that was measured, before it becomes a record and columns
_MOST_LABELS = 127  # an int8 holds them


@dataclass(frozen=True)
class Key:
    """Which point: a trained model of the table."""

    backbone: str
    task: str
    system: str
    seed: int
    budget: float | None

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.system}{'' if self.budget is None else f'-{self.budget:g}'}-seed-{self.seed}"

    def path(self, output: Path) -> Path:
        """Of its record."""
        return output / "records" / self.backbone / self.task / f"{self.name}.json"

    def column(self, scale: float | None) -> str:
        """Of its test predictions at a threshold scale."""
        return f"{self.backbone}/{self.name}{'' if scale is None else f'@{scale:g}'}"

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Key:
        """The key of a record."""
        return cls(*(record[name] for name in ("backbone", "task", "system", "seed", "budget")))


def predictions_file(output: Path, task: str) -> Path:
    """The Parquet of a task."""
    return output / PREDICTIONS / f"{task}.parquet"


def collect(output: Path, measured: Path) -> Key:
    """Take a measured point into the output folder: first its predictions, then its record.

    Args:
        output: the results folder.
        measured: the file that `benchmarks.tradeoff.measure` wrote.

    Raises:
        DataError: the task's predictions so far are of other examples.
    """
    record = read_json(measured)
    found = record.pop(PREDICTIONS)
    key = Key.of(record)
    columns = {
        key.column(test["scale"]): values for test, values in zip(record["test"], found["predicted"], strict=True)
    }
    examples = {"ids": found["example_ids"], "labels": found["labels"]}
    add_predictions(output, key.task, **examples, columns=columns, point=key.column(None))
    write_record(key.path(output), record)
    return key


def add_predictions(
    output: Path,
    task: str,
    *,
    ids: Sequence[str],
    labels: Sequence[int],
    columns: Mapping[str, Sequence[int]],
    point: str,
) -> None:
    """Put a point's columns into a task's Parquet, in place of all that it had there, at other scales too.

    Raises:
        DataError: it holds other examples or cannot be read, or there are more labels than an int8 holds.
    """
    path = predictions_file(output, task)
    if max(labels) > _MOST_LABELS:
        raise DataError(f"{task}: label {max(labels)}, at most {_MOST_LABELS} can be stored")
    table = pd.DataFrame({"example_id": list(ids), "label": np.asarray(labels, dtype=np.int8)})
    if path.is_file():
        before = _read_parquet(path)
        if before["example_id"].tolist() != table["example_id"].tolist() or (before["label"] != table["label"]).any():
            raise DataError(f"{path}: holds predictions on other test examples than the new ones; use another --output")
        table = before
    added = pd.DataFrame({name: np.asarray(values, dtype=np.int8) for name, values in columns.items()})
    others = [name for name in table if name != point and not name.startswith(f"{point}@")]
    table = pd.concat([table[others], added], axis=1)
    with replacing(path) as partial:
        table.to_parquet(partial, index=False, compression="zstd")


def predictions(output: Path, task: str, *, records: Sequence[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """example_id, label, and a column for each tested scale of each point.

    Args:
        output, task: of the file.
        records: of the task; all their columns must be there, and have the scores that they say.

    Raises:
        DataError: no such file, one that cannot be read, a column that is not there, or one of another measurement.
    """
    path = predictions_file(output, task)
    if not path.is_file():
        raise DataError(f"{path}: no such file, but there are records of {task}")
    table = _read_parquet(path)
    for record in records:
        key = Key.of(record)
        for test in record["test"]:
            column, again = key.column(test["scale"]), "remove that record, and the point is measured anew"
            if column not in table:
                raise DataError(f"{path}: no column {column!r}, but {key.path(output)} was tested there; {again}")
            parts = score_parts(table[column].to_numpy(), table["label"].to_numpy(), metric=record["metric"])
            score, said = float(ratio_of(parts.sum(0))), test["score"]
            if not math.isclose(score, said, abs_tol=1e-9):
                raise DataError(
                    f"{path}: column {column!r} has a score of {score:.6g}, but {key.path(output)} says {said:.6g}, so "
                    f"they are of two measurements; {again}"
                )
    return table


def check_predictions(output: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Look, before anything is trained, for what the report will need of the records' predictions.

    Raises:
        DataError: see `predictions`.
    """
    for task in dict.fromkeys(record["task"] for record in records):
        predictions(output, task, records=[record for record in records if record["task"] == task])


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({' '.join(str(error).split()):.100})") from error
    if missing := [name for name in ("example_id", "label") if name not in table]:
        raise DataError(f"{path}: no column {missing[0]!r}")
    return table


def read_records(output: Path) -> list[dict[str, Any]]:
    """All records of a results folder, in the order of tasks and systems.

    Raises:
        CheckpointError: one that is no JSON object. DataError: one that lacks a field, see `check_point`.
    """
    found = []
    for path in visible((output / "records").rglob("*.json")):
        record = read_json(path)
        check_point(record, path=path)
        found.append(record)

    def place(record: Mapping[str, Any]) -> tuple[Any, ...]:
        task = TASKS.index(record["task"]) if record["task"] in TASKS else len(TASKS)
        bases = [name for name in SYSTEMS if record["system"].startswith(name)]
        system = list(SYSTEMS).index(max(bases, key=len)) if bases else len(SYSTEMS)
        return (record["backbone"], task, system, record["system"], record["budget"] or 0.0, record["seed"])

    return sorted(found, key=place)


def check_same(
    record: Mapping[str, Any], *, changes: Mapping[str, Any], path: Path, max_drop: float | None = None
) -> None:
    """Refuse to take a record of a quick run (`--limit`, `--epochs`) for one of a whole run, and the reverse; and one
    whose scale was chosen with another `--max-drop` (None: whatever it was).

    Raises:
        ArgumentError: names the option and both values.
    """
    for name in sorted({*changes, *record.get("changes", {})}):
        found, wanted = record.get("changes", {}).get(name), changes.get(name)
        if found != wanted:
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(f"{option}: {wanted} is asked for, {path} is of {found}; use another --output")
    if max_drop is not None:
        check_max_drop(record, max_drop, path=path)


def check_max_drop(record: Mapping[str, Any], max_drop: float, *, path: Path) -> None:
    """ArgumentError for a record whose scale was chosen with another `--max-drop`."""
    if record.get("max_drop", max_drop) != max_drop:
        raise ArgumentError(
            f"--max-drop: {max_drop:g} is asked for, {path} is of {record['max_drop']:g}; use another --output"
        )


def check_rows(records: Iterable[Mapping[str, Any]], checksum: str, *, data: str, output: Path) -> None:
    """ArgumentError for a record whose scores would stand beside new ones and is of other rows than `data` holds."""
    for record in records:
        if record.get("data_checksum", checksum) != checksum:
            path = Key.of(record).path(output)
            raise ArgumentError(f"--data: {data} holds other rows than {path} is of; use another --output and --runs")


def check_encoder(records: Iterable[Mapping[str, Any]], checksum: str | None, output: Path) -> None:
    """ArgumentError for a record of another encoder that is called the same; older records do not say of which."""
    for record in records:
        found = record.get("encoder_checksum")
        if None not in (found, checksum) and found != checksum:
            raise ArgumentError(
                f"--backbone: another encoder than that of {Key.of(record).path(output)}; give another --backbone-name"
            )


def starting_points(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each task, backbone and seed whose points start from several classifiers, as far as records say."""
    found: dict[tuple[str, str, int], dict[str, int]] = {}
    for record in records:
        if (checksum := record.get("classifier_checksum")) is not None:
            counts = found.setdefault((record["task"], record["backbone"], record["seed"]), {})
            counts[checksum] = counts.get(checksum, 0) + 1
    return [
        f"{task}, {backbone}, seed {seed}: the points start from {len(counts)} classifiers of one recipe "
        f"({', '.join(map(str, counts.values()))} points), which differ by their training"
        for (task, backbone, seed), counts in found.items()
        if len(counts) > 1
    ]
