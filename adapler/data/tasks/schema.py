"""A task: its splits as `datasets` tables, and the few facts that training and evaluation need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict
from numpy.typing import NDArray

from adapler.data.tasks.labels import abbreviated
from adapler.data.tasks.tables import batches_of, labels_of, split_rows, with_column
from adapler.errors import ArgumentError, DataError

__all__ = [
    "NO_LABEL",
    "SPLITS",
    "HoldOut",
    "Task",
    "add_validation",
    "build_task",
    "default_max_length",
    "hold_out",
    "in_label_order",
]

SPLITS = ("train", "validation", "test")
METRICS = ("accuracy", "f1")
NO_LABEL = -1  # the label of a row that has none

_HELD_OUT_SHARE = 0.1
_HELD_OUT_MOST = 2000

# Longest input in tokens: those of the paper for its tasks.
_MAX_LENGTHS = {
    "sst2": 64,
    "mrpc": 128,
    "imdb": 512,
    "ag_news": 128,
    "dbpedia14": 128,
    "qnli": 128,
    "mnli": 128,
    "hatexplain": 72,
    "movies": 512,
}


@dataclass(frozen=True)
class Task:
    """A classification task.

    GLUE has no labelled test split: its validation split is "test" here, and a seeded, stratified part of train
    (10 %, at most 2000 rows) is "validation". Such a part is also held out where a task has no validation split.

    Attributes:
        name: of the task.
        labels: the names of the classes, in the order of their indices.
        dataset: the splits that exist, of "train", "validation", "test". Every row has `id` (unique in its split),
            the `columns`, and `label` (a ClassLabel of `labels`). A large split lies on disk, see `tables`.
        columns: what a model reads. ("words",): a list of words; ("words", "query"): a list of words, and a query
            as plain text, which may be empty; ("text_a",) or ("text_a", "text_b"): plain text.
        metric: "accuracy", or "f1" of label 1.
        max_length: the default length of an input, in tokens.
        checksum: sha256 over the rows, or the corpus' own for ERASER.
        notes: what a report should tell about the splits, a line each.
        unlabelled: the splits whose rows have no label; theirs is -1.
    """

    name: str
    labels: tuple[str, ...]
    dataset: DatasetDict
    columns: tuple[str, ...]
    metric: str
    max_length: int
    checksum: str
    notes: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()

    @property
    def is_split_into_words(self) -> bool:
        """Whether rows are lists of words; then `load_tokenizer(model, words=True)` gives the right tokenizer."""
        return self.columns[0] == "words"


def build_task(
    splits: Mapping[str, Dataset],
    *,
    name: str,
    labels: Sequence[str],
    columns: tuple[str, ...],
    metric: str = "accuracy",
    max_length: int | None = None,
    checksum: str | None = None,
    notes: Iterable[str] = (),
) -> Task:
    """A Task from checked tables: `id`, the text columns, and `label` as an index or, in a whole split, NO_LABEL."""
    ordered = {split: splits[split] for split in SPLITS if split in splits}
    if max_length is None:
        max_length = default_max_length(name, next(iter(ordered.values())), columns=columns)
    return Task(
        name=name,
        labels=tuple(labels),
        dataset=DatasetDict(ordered),
        columns=columns,
        metric=metric,
        max_length=max_length,
        checksum=checksum or _checksum(ordered),
        notes=tuple(notes),
        unlabelled=tuple(split for split, rows in ordered.items() if NO_LABEL in labels_of(rows)[:1]),
    )


def in_label_order(task: Task, names: Sequence[str]) -> Task:
    """The task with its labels numbered as a classifier numbers them, where both know the same names (in any case, and
    NEG stands for negative, see `adapler.data.tasks.labels`).

    With other names, such as LABEL_0, labels keep their numbers, and a note says so unless both are numbers alone.

    Args:
        task: any.
        names: the classifier's labels by number.

    Raises:
        DataError: the metric is f1 of label 1, and label 1 would become another one.
    """
    if tuple(names) == task.labels:
        return task
    wanted, known = [name.lower() for name in names], {label.lower(): label for label in task.labels}
    meant = abbreviated({name: number for number, name in enumerate(wanted)}, task.labels)
    if len(meant) == len(names) and sorted(wanted) != sorted(known):
        known = {wanted[number]: label for label, number in meant.items()}
        pairs = ", ".join(f"{label} is {names[number]}" for label, number in meant.items())
        task = replace(task, notes=(*task.notes, f"labels are matched: {pairs}"))
    if sorted(wanted) != sorted(known) or len(known) != len(task.labels):
        numbers = [f"label_{name}" for name in task.labels] == wanted == [f"label_{n}" for n in range(len(wanted))]
        if len(names) == len(task.labels) and not numbers:
            note = f"labels are compared by number: {', '.join(task.labels)}; the classifier's: {', '.join(names)}"
            return replace(task, notes=(*task.notes, note))
        return task
    labels = tuple(known[name] for name in wanted)
    if labels == task.labels:
        return task
    if task.metric == "f1":
        raise DataError(f"{task.name}: f1 is of label 1, {task.labels[1]!r}; the classifier's label 1 is {labels[1]!r}")
    new = np.array([labels.index(label) for label in task.labels] + [NO_LABEL])  # the last: index NO_LABEL
    dataset = DatasetDict(
        {
            split: with_column(rows, "label", new[labels_of(rows)].tolist(), kind=ClassLabel(names=list(labels)))
            for split, rows in task.dataset.items()
        }
    )
    return replace(task, labels=labels, dataset=dataset)


def default_max_length(name: str, rows: Dataset, *, columns: tuple[str, ...]) -> int:
    """The paper's length for its tasks (subsets such as qnli_dev too), 512 for documents of words, otherwise 1.3
    wordpieces for each word of the rows' 95th percentile, rounded up to a multiple of 32, at most 512.
    """
    for known, length in _MAX_LENGTHS.items():
        if name == known or name.startswith(f"{known}_"):
            return length
    if columns[0] == "words":
        return 512
    spaces = [pc.count_substring(rows.data.table.column(column), " ").to_numpy() for column in columns]
    words = sum(spaces) + len(spaces)  # (rows,)
    tokens = 1.3 * float(np.quantile(words, 0.95)) + 3
    return int(min(512, 32 * np.ceil(tokens / 32)))


@dataclass(frozen=True)
class HoldOut:
    """How a validation split is drawn from train, where a task has none.

    Attributes:
        share: of the rows; None: 10 %, at most 2000 rows.
        seed: of the draw.
        optional: whether a task with a validation split of its own may keep it, where a share is given.
    """

    share: float | None = None
    seed: int = 0
    optional: bool = False

    def rows_of(self, total: int) -> int:
        """How many of so many rows are held out, at least one."""
        asked = round((_HELD_OUT_SHARE if self.share is None else self.share) * total)
        return max(1, asked if self.share is not None else min(_HELD_OUT_MOST, asked))


def hold_out(labels: Sequence[int] | NDArray[np.int64], how: HoldOut) -> NDArray[np.bool_]:
    """(rows,) True where a row is held out.

    Held out are as many rows as `how` says, with each label's share as it is in all rows (largest remainders). A label
    never loses its last row.
    """
    values = np.asarray(labels)
    total = how.rows_of(len(values))
    kinds, counts = np.unique(values, return_counts=True)
    exact = total * counts / len(values)
    quotas = np.floor(exact).astype(int)
    for kind in np.argsort(quotas - exact, kind="stable")[: total - int(quotas.sum())]:
        quotas[kind] += 1
    random = np.random.default_rng(how.seed)
    held = np.zeros(len(values), dtype=np.bool_)
    for kind, quota, count in zip(kinds, quotas, counts, strict=True):
        rows = random.permutation(np.flatnonzero(values == kind))
        held[rows[: min(int(quota), int(count) - 1)]] = True
    return held


def add_validation(
    splits: dict[str, Dataset], *, where: str, how: HoldOut | None = None, missing: str | None = None
) -> list[str]:
    """Hold out a part of train as validation where there is none; changes `splits` and returns what to note about it.

    Args:
        splits: tables from `write_rows`; without "train", nothing is done.
        where: the source, for messages.
        how: of the draw; with a share of its own, the task must not have a validation split.
        missing: the file that is missing, for the note.

    Raises:
        ArgumentError: a share is asked for and there is a validation split.
        DataError: there are too few rows to hold any out.
    """
    if "validation" in splits or "train" not in splits:
        if how is not None and how.share is not None and not how.optional and "validation" in splits:
            raise ArgumentError(f"--validation-share: {where} has a validation split of its own")
        return []
    how = HoldOut() if how is None else how
    labels = labels_of(splits["train"])
    held = hold_out(labels, how)
    if not held.any():
        raise DataError(
            f"{where}: too few rows ({len(held)}) to hold any out for validation; a label must have at least two rows, "
            f"or the task a {missing or 'validation split'} of its own"
        )
    splits["train"], splits["validation"] = split_rows(splits["train"], held)
    why = "" if missing is None else f" (no {missing})"
    drawn = "at random" if NO_LABEL in labels[:1] else "stratified"
    return [f"validation: {held.sum()} of the {len(held)} rows of train, {drawn}, seed {how.seed}{why}"]


def _checksum(splits: Mapping[str, Dataset]) -> str:
    """sha256 over the JSON of [split, column, values] of every column, which is made a batch at a time."""
    digest = hashlib.sha256()
    for split, rows in splits.items():
        for column in sorted(rows.column_names):
            digest.update(f"{json.dumps([split, column])[:-1]}, [".encode())
            for number, batch in enumerate(batches_of(rows, column)):
                values = json.dumps(batch.column(0).to_pylist())[1:-1]
                digest.update(f"{', ' if number else ''}{values}".encode())
            digest.update(b"]]")
    return digest.hexdigest()
