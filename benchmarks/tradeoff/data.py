"""Where a task's rows lie, and whether they are the whole published data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapler.errors import DataError
from adapler.training.records import read_json

TASK_TITLES = {
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "hatexplain": "HateXplain",
    "movies": "Movies",
    "ag_news": "AG News",
    "imdb": "IMDB",
    "dbpedia14": "DBpedia",
    "qnli": "QNLI",
    "mnli": "MNLI",
}
METRICS = {"accuracy": "accuracy", "f1": "F1"}
COMPLETE, SUBSET, AS_GIVEN = "complete", "subset", "as given"
_PUBLISHED = {"movies": {"train": 1600, "test": 199}}  # ERASER's own corpora have no meta.json


def data_of(task: str, *, root: Path | None, given: Mapping[str, str]) -> str:
    """What `--task` gets: the path that was given, a folder in the root, or the task's name for the hub.

    In the root a task is TASK, TASK.tar.gz or the one folder TASK_ANYTHING (a subset: mnli_dev).

    Raises:
        DataError: the root has none of them, or several subsets.
    """
    if task in given:
        return given[task]
    if root is None:
        return task
    for name in (task, f"{task}.tar.gz"):
        if (root / name).exists():
            return str(root / name)
    found = sorted(path for path in root.glob(f"{task}_*") if path.is_dir())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{root}: no {task}, and not one folder {task}_*, but {names}; --data {task}=PATH says where")
    return str(found[0])


def coverage(task: str, data: str, rows: Mapping[str, int], *, limit: int | None) -> str:
    """COMPLETE, SUBSET or AS_GIVEN: how the rows relate to the published data set.

    The meta.json of a folder says what was published (`published_split_sizes`); of a folder without it nothing is
    known. What comes from the hub is complete.

    Args:
        task: its name.
        data: what `data_of` gave.
        rows: examples of train and test.
        limit: of the training rows.
    """
    if limit is not None and limit < rows["train"]:
        return SUBSET
    path = Path(data)
    if not path.exists():
        return COMPLETE
    meta: dict[str, Any] = read_json(path / "meta.json") if (path / "meta.json").is_file() else {}
    published = meta.get("published_split_sizes", _PUBLISHED.get(task))
    if not isinstance(published, dict):
        return AS_GIVEN
    return COMPLETE if all(published.get(split) == number for split, number in rows.items()) else SUBSET


def task_title(task: str, coverage: str) -> str:
    """`IMDB (subset)`."""
    return f"{TASK_TITLES.get(task, task)}{' (subset)' if coverage == SUBSET else ''}"
