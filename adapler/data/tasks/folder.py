"""Tasks from the user's own JSON lines: {train,validation,test}.jsonl in a folder, or one file."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapler.data.archive import FileTree, excerpt, json_lines, open_folder
from adapler.data.tasks.schema import METRICS, NO_LABEL, HoldOut, Task, add_validation, build_task
from adapler.data.tasks.tables import features_of, write_rows
from adapler.errors import DataError

__all__ = ["load_file", "load_folder"]

_HINT = " (only `adapler run --classifier ... --freeze-backbone` and its stages can do without)"

_Lines = Iterator[tuple[int, dict[str, Any]]]  # line number from 1, and the row; never a whole file at once

# The file of each split; of several names the first that is there.
_FILES = {"train": ("train",), "validation": ("validation", "val", "dev"), "test": ("test",)}


def load_folder(path: Path, *, labels: Sequence[str] | None = None, how: HoldOut | None = None) -> Task:
    """Reads a folder with train.jsonl and, if they are there, validation.jsonl (or val, dev), test.jsonl, meta.json.

    A row has a `label` (an index or a name), optionally an `id`, and one of:

    * `text`, or `text_a` and `text_b`: plain text;
    * `tokens`: a list of words, and optionally `query`. This is the format that the analysis reads as annotated
      documents (`analysis.documents.corpora`): its `rationale` is ignored here. The query is a second segment where
      queries differ, as in the analysis.

    The first row of train decides which; a row with both `text` and `tokens` is read as text, and a note says so.
    Rows without an id are named after their split and row number from 0, train-17. meta.json may give `labels`
    (names in the order of their indices), `name`, `metric` ("accuracy" or "f1") and `max_length`. Other files and
    fields are ignored. Without a validation split, a part of train is held out.

    Args:
        path: of the folder.
        labels: names of the classes where no row of train has a label (meta.json wins); None: a label is needed.
        how: how validation is held out.

    Raises:
        DataError: a file or a row that cannot be used; it names the file and the line.
    """
    tree = open_folder(path, "*.json", "*.jsonl")
    files: dict[str, str] = {}
    notes = []
    for split, stems in _FILES.items():
        there = [f"{stem}.jsonl" for stem in stems if os.path.lexists(path / f"{stem}.jsonl")]
        if unread := [name for name in there if name not in tree.files]:
            raise DataError(f"{path / unread[0]}: is no file, but a folder or a link that leads nowhere")
        if there:
            files[split] = there[0]
        if there[1:]:
            notes.append(f"{split}: {there[0]}; {', '.join(there[1:])} is not read")
    if "train" not in files:
        raise DataError(f"{path}: has no train.jsonl")
    return _load(tree, files, name=path.resolve().name, notes=notes, given=labels, how=how)


def load_file(path: Path, *, labels: Sequence[str] | None = None, how: HoldOut | None = None) -> Task:
    """Reads one .jsonl file as the training split; a part of it is held out for validation.

    Rows and arguments are as in `load_folder`. A meta.json beside the file is read. Raises DataError.
    """
    files: dict[str, Path | bytes] = {path.name: path}
    meta = path.with_name("meta.json")
    if meta.is_file():
        files["meta.json"] = meta
    tree = FileTree(str(path.parent), files)
    return _load(tree, {"train": path.name}, name=path.stem, notes=[], given=labels, how=how)


def _load(
    tree: FileTree,
    files: dict[str, str],
    *,
    name: str,
    notes: list[str],
    given: Sequence[str] | None,
    how: HoldOut | None,
) -> Task:
    """The task in the files of each split; `name` is what meta.json may overrule."""
    meta = _read_meta(tree)
    where = {split: tree.where(file) for split, file in files.items()}
    firsts = {split: _first_row(tree, file) for split, file in files.items()}
    line, first = firsts["train"]
    columns = _find_columns(first, f"{where['train']}:{line}")
    if "tokens" in first and columns[0] != "words":
        notes.append("rows have both text and tokens: text is read here, tokens by the analysis")
    if columns == ("words",) and _queries_differ(tree, files):
        columns = ("words", "query")
    labels = _meta_labels(meta, tree.where("meta.json"))
    if given is not None and first.get("label") is None:
        labels = labels or tuple(given)
    labels = labels or _train_labels(_lines_of(tree, files["train"]), where["train"])
    splits = {}
    for split, file in files.items():
        # Where labels are optional, all rows of a split have one, or none has.
        unlabelled = given is not None and firsts[split][1].get("label") is None
        rows = _read_rows(tree, file, split, columns=columns, labels=labels, unlabelled=unlabelled)
        splits[split] = write_rows(rows, features_of(columns, labels))
    notes += add_validation(splits, where=where["train"], how=how, missing="validation.jsonl")
    return build_task(
        splits,
        name=meta.get("name", name),
        labels=labels,
        columns=columns,
        metric=_metric(meta, labels, name=meta.get("name", name), where=tree.where("meta.json")),
        max_length=meta.get("max_length"),
        notes=notes,
    )


def _lines_of(tree: FileTree, file: str) -> _Lines:
    return json_lines(tree.lines(file), tree.where(file))


def _first_row(tree: FileTree, file: str) -> tuple[int, dict[str, Any]]:
    found = next(_lines_of(tree, file), None)
    if found is None:
        raise DataError(f"{tree.where(file)}: holds no rows")
    return found


def _queries_differ(tree: FileTree, files: dict[str, str]) -> bool:
    """Whether there are two queries in all; reading ends at the second one."""
    found: set[str] = set()
    for file in files.values():
        for line, row in _lines_of(tree, file):
            found.add(_query_of(row, f"{tree.where(file)}:{line}"))
            if len(found) > 1:
                return True
    return False


def _read_meta(tree: FileTree) -> dict[str, Any]:
    if "meta.json" not in tree.files:
        return {}
    where = tree.where("meta.json")
    try:
        meta = json.loads(tree.read("meta.json"))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}:{error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists nested thousands deep
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(meta, dict):
        raise DataError(f"{where}: a JSON object is expected, found {type(meta).__name__}")
    if not isinstance(meta.get("name", ""), str):
        raise DataError(f"{where}: 'name' must be a string, found {excerpt(meta['name'])}")
    length = meta.get("max_length", 512)
    if not isinstance(length, int) or isinstance(length, bool) or length < 8:
        raise DataError(f"{where}: 'max_length' must be a whole number of at least 8, found {excerpt(length)}")
    return meta


def _meta_labels(meta: dict[str, Any], where: str) -> tuple[str, ...]:
    names = meta.get("labels")
    if names is None:
        return ()
    valid = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not valid or len(names) < 2 or len(set(names)) != len(names):
        raise DataError(f"{where}: 'labels' must be two or more different names, found {excerpt(names, 80)}")
    return tuple(names)


def _metric(meta: dict[str, Any], labels: tuple[str, ...], *, name: str, where: str) -> str:
    metric = meta.get("metric") or ("f1" if name == "mrpc" else "accuracy")  # as GLUE and the paper report MRPC
    if metric not in METRICS:
        raise DataError(f"{where}: 'metric' must be one of {', '.join(METRICS)}, found {excerpt(metric)}")
    if metric == "f1" and len(labels) != 2:
        raise DataError(f"{where}: 'metric' f1 is for two labels, the task has {len(labels)}")
    if metric == "f1" and not meta.get("labels") and labels != ("0", "1"):
        names = " and ".join(map(repr, labels))
        raise DataError(
            f"{where}: F1 is of the second label, so 'labels' must name them in order, found none for {names}"
        )
    return str(metric)


def _find_columns(row: dict[str, Any], where: str) -> tuple[str, ...]:
    """Our names of the text columns, from the first row; `text` becomes text_a, `tokens` becomes words."""
    if "text_a" in row:
        return ("text_a", "text_b") if "text_b" in row else ("text_a",)
    if "text" in row:
        if "text_b" in row:
            raise DataError(f"{where}: has 'text' and 'text_b'; the texts of a pair are 'text_a' and 'text_b'")
        return ("text_a",)
    if "tokens" in row:
        return ("words",)
    fields = ", ".join(map(repr, row)) or "none"
    raise DataError(f"{where}: has none of 'text', 'text_a' and 'tokens', its fields are {fields}")


def _train_labels(numbered: _Lines, where: str) -> tuple[str, ...]:
    """Label names without meta.json: the sorted strings of train, or its indices 0, 1, ... as strings."""
    found = {_label_of(row, f"{where}:{line}") for line, row in numbered}
    texts = [label for label in found if isinstance(label, str)]
    if len(texts) == len(found):
        names = tuple(sorted(texts))
    elif found == set(range(len(found))):
        names = tuple(str(index) for index in sorted(found))
    else:
        shown = ", ".join(sorted(map(repr, found))[:6])
        raise DataError(f"{where}: labels without meta.json must be strings or 0, 1, 2, ..., found {shown}")
    if len(names) < 2:
        raise DataError(f"{where}: only one label, {names[0]!r}; two are needed")
    return names


def _read_rows(
    tree: FileTree,
    file: str,
    split: str,
    *,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    unlabelled: bool,
) -> Iterator[dict[str, Any]]:
    """The rows of a split, one after the other, as a table has them."""
    indices = {name: index for index, name in enumerate(labels)}
    hashes = array("q")  # of the ids: eight bytes a row, where a set of the ids would take a hundred
    own = False  # whether a row brings an id of its own, so that two can be the same
    for number, (line, row) in enumerate(_lines_of(tree, file)):
        where = f"{tree.where(file)}:{line}"
        own = own or row.get("id") is not None
        identifier = _id_of(row, split, number)
        hashes.append(hash(identifier))
        values = {column: _value_of(row, column, where) for column in columns}
        if columns == ("text_a",) and row.get("text_b") is not None:
            raise DataError(f"{where}: has a 'text_b', and the first row has none")
        if unlabelled and row.get("label") is not None:
            raise DataError(f"{where}: has a 'label', and the rows before it have none")
        label = NO_LABEL if unlabelled else _index_of(row, where, indices=indices, labels=labels)
        yield {"id": identifier, **values, "label": label}
    if own:
        _refuse_repeated(tree, file, split, hashes)


def _refuse_repeated(tree: FileTree, file: str, split: str, hashes: array[int]) -> None:
    """Raises DataError for the first id that is there twice; the file is read again only if two hashes are the same."""
    values = np.sort(np.frombuffer(hashes, dtype=np.int64))
    suspects = set(values[1:][values[1:] == values[:-1]].tolist())
    seen = set()
    for number, (line, row) in enumerate(_lines_of(tree, file) if suspects else ()):
        identifier = _id_of(row, split, number)
        if identifier in seen:
            raise DataError(f"{tree.where(file)}:{line}: id {identifier!r} appears twice in this split")
        if hash(identifier) in suspects:
            seen.add(identifier)


def _id_of(row: dict[str, Any], split: str, number: int) -> str:
    identifier = row.get("id")
    return f"{split}-{number}" if identifier is None else str(identifier)


def _index_of(row: dict[str, Any], where: str, *, indices: dict[str, int], labels: tuple[str, ...]) -> int:
    label = _label_of(row, where)
    index = indices.get(label, -1) if isinstance(label, str) else label
    # Names that are numbers in another order, such as "1" and "2": which one a number means cannot be known.
    if not isinstance(label, str) and indices.get(str(label), label) != label:
        means = (
            f"index {label} is {labels[label]!r}, and" if 0 <= label < len(labels) else "there is no such index, but"
        )
        raise DataError(
            f"{where}: label {label} is ambiguous: {means} there is a label called {str(label)!r}; write it as text"
        )
    if not 0 <= index < len(labels):
        allowed = f"0 to {len(labels) - 1} or {', '.join(labels[:20])}"
        raise DataError(f"{where}: unknown label {label!r}, allowed are {allowed}")
    return index


def _value_of(row: dict[str, Any], column: str, where: str) -> str | list[str]:
    if column == "words":
        return _words_of(row, where)
    if column == "query":
        return _query_of(row, where)
    field = "text" if column == "text_a" and "text_a" not in row else column
    text = row.get(field)
    if not isinstance(text, str):
        raise DataError(f"{where}: field {field!r} must be a string, found {excerpt(text)}")
    if not text.strip():
        raise DataError(f"{where}: field {field!r} is empty")
    return text


def _words_of(row: dict[str, Any], where: str) -> list[str]:
    words = row.get("tokens")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{where}: field 'tokens' must be a list of strings, found {excerpt(words)}")
    if not any(word.strip() for word in words):
        raise DataError(f"{where}: field 'tokens' holds no word")
    return words


def _query_of(row: dict[str, Any], where: str) -> str:
    query = row.get("query")
    if not isinstance(query, str | None):  # of a list of words nothing would be read
        raise DataError(f"{where}: field 'query' must be a text or null, found {excerpt(query)}")
    return query or ""


def _label_of(row: dict[str, Any], where: str) -> int | str:
    if "label" not in row:
        raise DataError(f"{where}: has no 'label', its fields are {', '.join(map(repr, row))}{_HINT}")
    label = row["label"]
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "" or str(label).isspace():
        raise DataError(f"{where}: 'label' must be an index or a name, found {excerpt(label)}")
    return label
