"""Every task is loaded here: by its name, from files of one's own, or an ERASER corpus."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from adapler.data.corpus import EraserCorpus, queries_differ
from adapler.data.eraser import has_documents, holds_corpus, read_corpus
from adapler.data.tasks.folder import load_file, load_folder
from adapler.data.tasks.hub import HUB_TASKS, load_hub
from adapler.data.tasks.rows import SUFFIXES, split_files
from adapler.data.tasks.schema import HoldOut, Task, add_validation, build_task, in_label_order
from adapler.data.tasks.tables import features_of, write_rows
from adapler.errors import ArgumentError, DataError

__all__ = ["TASKS", "Task", "corpus_path", "in_label_order", "load_task", "task_of_corpus"]

TASKS = (*HUB_TASKS, "movies")

_SPLIT_NAMES = {"train": "train", "val": "validation", "test": "test"}


def load_task(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
    how: HoldOut | None = None,
    alone: str | None = None,
) -> Task:
    """Loads a task.

    Args:
        name_or_path: one of TASKS, or a path. A path is an ERASER corpus (folder or archive), a folder with
            train.jsonl (.csv, .tsv, .parquet), or a single such file (see `adapler.data.tasks.folder`). A folder that
            is called like a task is reached as ./NAME.
        data_dir: for a name of TASKS: the folder that holds DATA_DIR/NAME. Without it, "movies" lies in data/eraser,
            and the others come from the hub.
        labels: names of a classifier's classes, for rows without labels and for a split that is read alone; None: rows
            without labels are refused.
        how: how a validation split is drawn from train where the task has none.
        alone: of the user's own files: the split to read where there are no training rows, which all rows of a
            single file are.

    Raises:
        ArgumentError: a share is asked for and the task has a validation split, or `data_dir` beside a path.
        DataError: nothing is there, or what is there cannot be used; it names the file and the line.
    """
    name = os.fspath(name_or_path)
    if name == "movies":
        return _load_path(
            _movies(Path("data/eraser" if data_dir is None else data_dir)), labels=labels, how=how, alone=alone
        )
    if name in TASKS:
        if data_dir is None:
            return load_hub(name, how=how)
        local = Path(data_dir) / name
        if not local.is_dir():
            raise DataError(f"{local}: no such folder; without --data-dir the task {name} comes from the hub")
        return _load_path(local, labels=labels, how=how, alone=alone)
    if data_dir is not None:
        raise ArgumentError(f"--data-dir: of a task with a name ({', '.join(TASKS)}), and {name} is none")
    path = Path(name)
    if not path.exists():
        known = ", ".join(TASKS)
        raise DataError(f"{name}: neither a task ({known}) nor an existing path")
    return _load_path(path, labels=labels, how=how, alone=alone)


def is_file(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a task is a single file of rows."""
    path = Path(name_or_path)
    return path.suffix.lower() in SUFFIXES and path.is_file()


def is_of_hub(name_or_path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> bool:
    """Whether a task's rows come from the hub."""
    return data_dir is None and os.fspath(name_or_path) in HUB_TASKS


def task_of_corpus(corpus: EraserCorpus, *, how: HoldOut | None = None) -> Task:
    """An ERASER corpus as a task, without its rationales (read the corpus itself for those).

    Rows have `words`, and `query` where the queries of the corpus differ: then the label cannot be told from the
    document alone, and the analysis shows the query to the model too. Without val, a part of train is held out.
    """
    with_query = queries_differ(corpus)
    columns = ("words", "query") if with_query else ("words",)
    features = features_of(columns, corpus.labels)
    splits = {
        _SPLIT_NAMES[split]: write_rows(
            (
                {"id": one.id, "words": one.words, "query": one.query, "label": corpus.labels.index(one.label)}
                for one in examples
            ),
            features,
        )
        for split, examples in corpus.splits.items()
    }
    notes = add_validation(splits, where=corpus.source, how=how, missing="val.jsonl")
    return build_task(
        splits,
        name=corpus.name,
        labels=corpus.labels,
        columns=columns,
        checksum=corpus.checksum if "val" in corpus.splits else None,  # None: of the splits as they were drawn
        notes=notes,
    )


def _movies(data_dir: Path) -> Path:
    if (data_dir / "movies").is_dir():
        return data_dir / "movies"
    if data_dir.is_file() or has_documents(data_dir):
        return data_dir
    raise DataError(f"{data_dir / 'movies'}: no such folder; `adapler data download` puts the ERASER movies there")


def corpus_path(name_or_path: str | os.PathLike[str]) -> Path | None:
    """Where the ERASER corpus of a task lies; None when the task is of another kind."""
    name = os.fspath(name_or_path)
    path = _movies(Path("data/eraser")) if name == "movies" else Path(name)
    return path if name not in HUB_TASKS and _is_corpus(path) else None


def _is_corpus(path: Path) -> bool:
    if files := split_files(path)[0]:  # whose documents, where it is a corpus, lie beside them and not further below
        return has_documents(path) and any(file.path.suffix == ".jsonl" for file in files.values())
    return holds_corpus(path)


def _load_path(path: Path, *, labels: Sequence[str] | None, how: HoldOut | None, alone: str | None) -> Task:
    if _is_corpus(path):
        return task_of_corpus(read_corpus(path), how=how)
    if path.is_dir():
        if not split_files(path)[0]:
            raise DataError(
                f"{path}: neither a task (no train.jsonl, .csv, .tsv, .parquet) nor an ERASER corpus (no docs)"
            )
        return load_folder(path, labels=labels, how=how, alone=alone)
    if is_file(path):
        return load_file(path, labels=labels, how=how, alone=alone)
    raise DataError(
        f"{path}: neither a folder, nor a file of rows ({', '.join(SUFFIXES)}), nor an archive of an ERASER corpus"
    )
