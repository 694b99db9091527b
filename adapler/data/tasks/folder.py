"""Tasks from the user's own files: {train,validation,test}.jsonl (.csv, .tsv, .parquet) in a folder, or one file."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapler.data.archive import FileTree, excerpt
from adapler.data.tasks.labels import index_of, label_of, names_among, names_of
from adapler.data.tasks.rows import SUFFIXES, SplitFile, split_files
from adapler.data.tasks.schema import METRICS, NO_LABEL, HoldOut, Task, add_validation, build_task
from adapler.data.tasks.tables import features_of, write_rows
from adapler.errors import DataError

__all__ = ["load_file", "load_folder"]


def load_folder(
    path: Path, *, labels: Sequence[str] | None = None, how: HoldOut | None = None, alone: str | None = None
) -> Task:
    """Reads a folder with a file train and, if they are there, validation (or val, dev), test and meta.json.

    A file is called train.jsonl, train.csv, train.tsv or train.parquet, and so on. A row has a `label` (an index or a
    name), optionally an `id`, and one of:

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
        labels: names of a classifier's classes, for rows without labels and for a split that is read alone, which may
            lack some of them; None: a label is needed. meta.json wins.
        how: how validation is held out.
        alone: the split to read, all of it, where there are no training rows.

    Raises:
        DataError: a file or a row that cannot be used; it names the file and the row.
    """
    files, notes = split_files(path)
    if "train" not in files:
        if alone not in files:
            also = "" if alone in (None, "train") else f" and no {alone}"
            raise DataError(f"{path}: has no train{also} ({', '.join(SUFFIXES)})")
        files = {split: file for split, file in files.items() if split == alone}
        notes = [note for note in notes if note.startswith(f"{alone}:")]
    whole = "train" not in files
    return _load(files, path, name=path.resolve().name, notes=notes, given=labels, how=how, whole=whole)


def load_file(
    path: Path, *, labels: Sequence[str] | None = None, how: HoldOut | None = None, alone: str | None = None
) -> Task:
    """Reads one file as the training split, of which a part is held out for validation, or as the split `alone`.

    Rows and arguments are as in `load_folder`. A meta.json beside the file is read. Raises DataError.
    """
    files = {alone or "train": SplitFile(path)}
    return _load(files, path.parent, name=path.stem, notes=[], given=labels, how=how, whole=alone is not None)


def _load(
    files: dict[str, SplitFile],
    folder: Path,
    *,
    name: str,
    notes: list[str],
    given: Sequence[str] | None,
    how: HoldOut | None,
    whole: bool,
) -> Task:
    """The task in the files of each split. `name` is what the meta.json in the folder may overrule; of a split that is
    alone the labels may be some of a classifier's, and as a `whole` nothing is held out of it."""
    meta, meta_path = _read_meta(folder), str(folder / "meta.json")
    firsts = {split: file.first() for split, file in files.items()}
    main = "train" if "train" in files else next(iter(files))
    at, first = firsts[main]
    columns = _find_columns(first, at)
    if "tokens" in first and columns[0] != "words":
        notes.append("rows have both text and tokens: text is read here, tokens by the analysis")
    if columns == ("words",) and _queries_differ(files.values()):
        columns = ("words", "query")
    labels = _meta_labels(meta, meta_path)
    if given is not None and first.get("label") is None:
        labels = labels or tuple(given)
    labels = labels or _labels_in(files[main], among=given if whole else None)
    written = first.get("label")
    if whole and list(labels) == list(given or ()) and written is not None and str(written) not in labels:
        notes.append("labels are numbers: " + ", ".join(f"{number} is {one}" for number, one in enumerate(labels)))
    splits = {}
    for split, file in files.items():
        # Where labels are optional, all rows of a split have one, or none has.
        unlabelled = given is not None and firsts[split][1].get("label") is None
        rows = _read_rows(file, split, columns=columns, labels=labels, unlabelled=unlabelled)
        splits[split] = write_rows(rows, features_of(columns, labels))
    if not whole:
        missing = f"validation{files[main].path.suffix}"
        notes += add_validation(splits, where=str(files[main].path), how=how, missing=missing)
    return build_task(
        splits,
        name=meta.get("name", name),
        labels=labels,
        columns=columns,
        metric=_metric(meta, labels, name=meta.get("name", name), where=meta_path),
        max_length=meta.get("max_length"),
        notes=notes,
    )


def _queries_differ(files: Iterable[SplitFile]) -> bool:
    """Whether there are two queries in all; reading ends at the second one."""
    found: set[str] = set()
    for file in files:
        for at, row in file.rows():
            found.add(_query_of(row, at))
            if len(found) > 1:
                return True
    return False


def _read_meta(folder: Path) -> dict[str, Any]:
    where = folder / "meta.json"
    if not where.is_file():
        return {}
    try:
        meta = json.loads(FileTree(str(folder), {where.name: where}).read(where.name))
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
        return ("text_a", "text_b") if row.get("text_b") is not None else ("text_a",)
    if "text" in row:
        if row.get("text_b") is not None:
            raise DataError(f"{where}: has 'text' and 'text_b'; the texts of a pair are 'text_a' and 'text_b'")
        return ("text_a",)
    if "tokens" in row:
        return ("words",)
    fields = ", ".join(map(repr, row)) or "none"
    raise DataError(f"{where}: has none of 'text', 'text_a' and 'tokens', its fields are {fields}")


def _labels_in(file: SplitFile, *, among: Sequence[str] | None) -> tuple[str, ...]:
    """Label names without meta.json, from all rows of a file; `among`: those of a classifier, some of which it has."""
    found = {label_of(row, at) for at, row in file.rows()}
    if among is None:
        return names_of(found, str(file.path))
    return names_among(found, among, str(file.path), typed=file.is_typed)


def _read_rows(
    file: SplitFile, split: str, *, columns: tuple[str, ...], labels: tuple[str, ...], unlabelled: bool
) -> Iterator[dict[str, Any]]:
    """The rows of a split, one after the other, as a table has them."""
    names = {name: index for index, name in enumerate(labels)}
    hashes = array("q")  # of the ids: eight bytes a row, where a set of the ids would take a hundred
    own = False  # whether a row brings an id of its own, so that two can be the same
    for number, (at, row) in enumerate(file.rows()):
        own = own or row.get("id") is not None
        identifier = _id_of(row, split, number)
        hashes.append(hash(identifier))
        values = {column: _value_of(row, column, at) for column in columns}
        if columns == ("text_a",) and row.get("text_b") is not None:
            raise DataError(f"{at}: has a 'text_b', and the first row has none")
        if unlabelled and row.get("label") is not None:
            raise DataError(f"{at}: has a 'label', and the rows before it have none")
        label = NO_LABEL if unlabelled else index_of(row, at, names=names, typed=file.is_typed)
        yield {"id": identifier, **values, "label": label}
    if own:
        _refuse_repeated(file, split, hashes)


def _refuse_repeated(file: SplitFile, split: str, hashes: array[int]) -> None:
    """Raises DataError for the first id that is there twice; the file is read again only if two hashes are the same."""
    values = np.sort(np.frombuffer(hashes, dtype=np.int64))
    suspects = set(values[1:][values[1:] == values[:-1]].tolist())
    seen = set()
    for number, (at, row) in enumerate(file.rows() if suspects else ()):
        identifier = _id_of(row, split, number)
        if identifier in seen:
            raise DataError(f"{at}: id {identifier!r} appears twice in this split")
        if hash(identifier) in suspects:
            seen.add(identifier)


def _id_of(row: Mapping[str, Any], split: str, number: int) -> str:
    identifier = row.get("id")
    return f"{split}-{number}" if identifier is None else str(identifier)


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
