"""Tasks from a folder of the user's own: {train,validation,test}.jsonl and, if need be, meta.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapler.data.archive import FileTree, json_lines, open_folder
from adapler.data.tasks.schema import (
    METRICS,
    SPLITS,
    Columns,
    Task,
    build_task,
    hold_out_rows,
)
from adapler.errors import DataError

__all__ = ["load_folder"]


def load_folder(path: Path) -> Task:
    """Reads a folder with train.jsonl and, if they are there, validation.jsonl, test.jsonl and meta.json.

    A row has `text`, or `text_a` and `text_b`, a `label` (an index or a name) and optionally an `id`; rows without
    one are named after their split and row number from 0, train-17. meta.json may give `labels` (names in the
    order of their indices), `name`, `metric` ("accuracy" or "f1") and `max_length`. Other files and fields are
    ignored. Without a validation split, a slice of train is held out. Raises DataError with file and line.
    """
    tree = open_folder(path, "*.json", "*.jsonl")
    if "train.jsonl" not in tree.files:
        raise DataError(f"{path}: has no train.jsonl")
    meta = _read_meta(tree)
    splits: dict[str, Columns] = {}
    columns: tuple[str, ...] = ()
    labels = _meta_labels(meta, tree.where("meta.json"))
    for split in SPLITS:
        name = f"{split}.jsonl"
        if name in tree.files:
            numbered = list(json_lines(tree.read(name), tree.where(name)))
            if not numbered:
                raise DataError(f"{tree.where(name)}: holds no rows")
            columns = columns or _find_columns(numbered[0][1], f"{tree.where(name)}:{numbered[0][0]}")
            labels = labels or _train_labels(numbered, tree.where(name))
            splits[split] = _read_rows(numbered, split, tree.where(name), columns=columns, labels=labels)
    notes = []
    if "validation" not in splits:
        where = tree.where("train.jsonl")
        splits["train"], splits["validation"], note = hold_out_rows(splits["train"], where)
        notes.append(f"{note} (no validation.jsonl)")
    return build_task(
        splits,
        name=meta.get("name", path.resolve().name),
        labels=labels,
        columns=columns,
        metric=_metric(meta, labels, tree.where("meta.json")),
        max_length=meta.get("max_length"),
        notes=notes,
    )


def _read_meta(tree: FileTree) -> dict[str, Any]:
    if "meta.json" not in tree.files:
        return {}
    where = tree.where("meta.json")
    try:
        meta = json.loads(tree.read("meta.json"))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}:{error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(meta, dict):
        raise DataError(f"{where}: a JSON object is expected, found {type(meta).__name__}")
    if not isinstance(meta.get("name", ""), str):
        raise DataError(f"{where}: 'name' must be a string, found {meta['name']!r}")
    length = meta.get("max_length", 512)
    if not isinstance(length, int) or isinstance(length, bool) or length < 8:
        raise DataError(f"{where}: 'max_length' must be a whole number of at least 8, found {length!r}")
    return meta


def _meta_labels(meta: dict[str, Any], where: str) -> tuple[str, ...]:
    names = meta.get("labels")
    if names is None:
        return ()
    valid = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not valid or len(names) < 2 or len(set(names)) != len(names):
        raise DataError(f"{where}: 'labels' must be two or more different names, found {names!r}")
    return tuple(names)


def _metric(meta: dict[str, Any], labels: tuple[str, ...], where: str) -> str:
    name = meta.get("name", "")
    metric = meta.get("metric") or ("f1" if name == "mrpc" else "accuracy")  # as GLUE and the paper report MRPC
    if metric not in METRICS:
        raise DataError(f"{where}: 'metric' must be one of {', '.join(METRICS)}, found {metric!r}")
    if metric == "f1" and len(labels) != 2:
        raise DataError(f"{where}: 'metric' f1 is for two labels, the task has {len(labels)}")
    return str(metric)


def _find_columns(row: dict[str, Any], where: str) -> tuple[str, ...]:
    """Our names of the text columns, from the first row; `text` becomes text_a."""
    if "text_a" in row:
        return ("text_a", "text_b") if "text_b" in row else ("text_a",)
    if "text" in row:
        return ("text_a",)
    raise DataError(f"{where}: has neither 'text' nor 'text_a', its fields are {', '.join(map(repr, row))}")


def _train_labels(numbered: list[tuple[int, dict[str, Any]]], where: str) -> tuple[str, ...]:
    """Label names without meta.json: the sorted strings of train, or its indices 0, 1, ... as strings."""
    for line, row in numbered:
        _label_of(row, f"{where}:{line}")
    found = {row["label"] for _, row in numbered}
    if all(isinstance(label, str) for label in found):
        names = tuple(sorted(found))
    elif found == set(range(len(found))):
        names = tuple(str(index) for index in sorted(found))
    else:
        shown = ", ".join(sorted(map(repr, found))[:6])
        raise DataError(f"{where}: labels without meta.json must be strings or 0, 1, 2, ..., found {shown}")
    if len(names) < 2:
        raise DataError(f"{where}: only one label, {names[0]!r}; two are needed")
    return names


def _read_rows(
    numbered: list[tuple[int, dict[str, Any]]],
    split: str,
    where: str,
    *,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
) -> Columns:
    rows: Columns = {column: [] for column in ("id", *columns, "label")}
    indices = {name: index for index, name in enumerate(labels)}
    seen: set[str] = set()
    for number, (line, row) in enumerate(numbered):
        identifier = row.get("id")
        identifier = f"{split}-{number}" if identifier is None else str(identifier)
        if identifier in seen:
            raise DataError(f"{where}:{line}: id {identifier!r} appears twice in this split")
        seen.add(identifier)
        rows["id"].append(identifier)
        for column in columns:
            rows[column].append(_text_of(row, column, f"{where}:{line}"))
        label = _label_of(row, f"{where}:{line}")
        index = indices.get(label, -1) if isinstance(label, str) else label
        if not 0 <= index < len(labels):
            allowed = f"0 to {len(labels) - 1} or {', '.join(labels[:20])}"
            raise DataError(f"{where}:{line}: unknown label {label!r}, allowed are {allowed}")
        rows["label"].append(index)
    return rows


def _text_of(row: dict[str, Any], column: str, where: str) -> str:
    field = "text" if column == "text_a" and "text_a" not in row else column
    text = row.get(field)
    if not isinstance(text, str):
        raise DataError(f"{where}: field {field!r} must be a string, found {repr(text)[:40]}")
    if not text.strip():
        raise DataError(f"{where}: field {field!r} is empty")
    return text


def _label_of(row: dict[str, Any], where: str) -> int | str:
    if "label" not in row:
        raise DataError(f"{where}: has no 'label', its fields are {', '.join(map(repr, row))}")
    label = row["label"]
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise DataError(f"{where}: 'label' must be an index or a name, found {repr(label)[:40]}")
    return label
