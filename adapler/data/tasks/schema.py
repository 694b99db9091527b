"""A task: its splits as `datasets` tables, and the few facts that training and evaluation need."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

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

Columns = dict[str, list[Any]]  # one split: column name -> values, all of one length


@dataclass(frozen=True)
class Task:
    """A classification task.

    GLUE has no labelled test split: its validation split is "test" here, and a seeded, stratified part of train
    (10 %, at most 2000 rows) is "validation". Such a part is also held out where a task has no validation split.

    Attributes:
        name: of the task.
        labels: the names of the classes, in the order of their indices.
        dataset: the splits that exist, of "train", "validation", "test". Every row has `id` (unique in its split),
            the `columns`, and `label` (a ClassLabel of `labels`).
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
    splits: Mapping[str, Columns],
    *,
    name: str,
    labels: Sequence[str],
    columns: tuple[str, ...],
    metric: str = "accuracy",
    max_length: int | None = None,
    checksum: str | None = None,
    notes: Iterable[str] = (),
) -> Task:
    """A Task from checked columns: `id`, the text columns, and `label` as an index or, in a whole split, NO_LABEL."""
    texts = {column: List(Value("string")) if column == "words" else Value("string") for column in columns}
    features = Features({"id": Value("string"), **texts, "label": ClassLabel(names=list(labels))})
    ordered = {split: splits[split] for split in SPLITS if split in splits}
    if max_length is None:
        max_length = default_max_length(name, ordered, columns)
    return Task(
        name=name,
        labels=tuple(labels),
        dataset=DatasetDict({split: Dataset.from_dict(rows, features=features) for split, rows in ordered.items()}),
        columns=columns,
        metric=metric,
        max_length=max_length,
        checksum=checksum or _checksum(ordered),
        notes=tuple(notes),
        unlabelled=tuple(split for split, rows in ordered.items() if NO_LABEL in rows["label"][:1]),
    )


def in_label_order(task: Task, names: Sequence[str]) -> Task:
    """The task with its labels numbered as a classifier numbers them, where both know the same names (in any case).

    With other names, such as LABEL_0, labels keep their numbers, and a note says so unless those names say nothing.

    Args:
        task: any.
        names: the classifier's labels by number.

    Raises:
        DataError: the metric is f1 of label 1, and label 1 would become another one.
    """
    wanted, known = [name.lower() for name in names], {label.lower(): label for label in task.labels}
    if sorted(wanted) != sorted(known) or len(known) != len(task.labels):
        if len(names) == len(task.labels) and not all(name.startswith("label_") for name in wanted):
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
            split: with_column(
                rows, "label", new[np.asarray(rows["label"])].tolist(), kind=ClassLabel(names=list(labels))
            )
            for split, rows in task.dataset.items()
        }
    )
    return replace(task, labels=labels, dataset=dataset)


def with_column(rows: Dataset, name: str, values: Sequence[Any], *, kind: Any) -> Dataset:
    """The same rows with one column replaced; the others are neither read nor copied, and no cache file is written."""
    # A given fingerprint spares `datasets` a checksum of all values.
    kept = rows.remove_columns(name)
    changed: Dataset = kept.add_column(name, list(values), new_fingerprint=uuid.uuid4().hex, feature=kind)
    return changed


def default_max_length(name: str, splits: Mapping[str, Columns], columns: tuple[str, ...]) -> int:
    """The paper's length for its tasks (subsets such as qnli_dev too), 512 for documents of words, otherwise 1.3
    wordpieces for each word of the 95th percentile of the first split, rounded up to a multiple of 32, at most 512.
    """
    for known, length in _MAX_LENGTHS.items():
        if name == known or name.startswith(f"{known}_"):
            return length
    if columns[0] == "words":
        return 512
    rows = next(iter(splits.values()))
    words = sum(np.array([text.count(" ") + 1 for text in rows[column]]) for column in columns)
    tokens = 1.3 * float(np.quantile(words, 0.95)) + 3
    return int(min(512, 32 * np.ceil(tokens / 32)))


@dataclass(frozen=True)
class HoldOut:
    """How a validation split is drawn from train, where a task has none.

    Attributes:
        share: of the rows; None: 10 %, at most 2000 rows.
        seed: of the draw.
    """

    share: float | None = None
    seed: int = 0

    def rows_of(self, total: int) -> int:
        """How many of so many rows are held out, at least one."""
        asked = round((_HELD_OUT_SHARE if self.share is None else self.share) * total)
        return max(1, asked if self.share is not None else min(_HELD_OUT_MOST, asked))


def hold_out(labels: Sequence[int], *, how: HoldOut | None = None, seed: int = 0) -> tuple[list[int], list[int]]:
    """Row numbers that stay and row numbers that are held out, both ascending.

    Held out are as many rows as `how` says (default: HoldOut with this seed), with each label's share as it is in all
    rows (largest remainders). A label never loses its last row.
    """
    how = HoldOut(seed=seed) if how is None else how
    values = np.asarray(labels)
    total = how.rows_of(len(values))
    kinds, counts = np.unique(values, return_counts=True)
    exact = total * counts / len(values)
    quotas = np.floor(exact).astype(int)
    for kind in np.argsort(quotas - exact, kind="stable")[: total - int(quotas.sum())]:
        quotas[kind] += 1
    random = np.random.default_rng(how.seed)
    held: list[int] = []
    for kind, quota, count in zip(kinds, quotas, counts, strict=True):
        rows = random.permutation(np.flatnonzero(values == kind))
        held += rows[: min(int(quota), int(count) - 1)].tolist()
    held.sort()
    return sorted(set(range(len(values))).difference(held)), held


def add_validation(
    splits: dict[str, Columns], *, where: str, how: HoldOut | None = None, missing: str | None = None
) -> list[str]:
    """Hold out a part of train as validation where there is none; changes `splits` and returns what to note about it.

    Args:
        splits: columns of each split; without "train", nothing is done.
        where: the source, for messages.
        how: of the draw; with a share of its own, the task must not have a validation split.
        missing: the file that is missing, for the note.

    Raises:
        ArgumentError: a share is asked for and there is a validation split.
        DataError: there are too few rows to hold any out.
    """
    if "validation" in splits or "train" not in splits:
        if how is not None and how.share is not None and "validation" in splits:
            raise ArgumentError(f"--validation-share: {where} has a validation split of its own")
        return []
    how = HoldOut() if how is None else how
    rows = splits["train"]
    kept, held = hold_out(rows["label"], how=how)
    if not held:
        raise DataError(f"{where}: too few rows ({len(kept)}) to hold out a validation split, give one")
    splits["train"], splits["validation"] = _take(rows, kept), _take(rows, held)
    why = "" if missing is None else f" (no {missing})"
    return [f"validation: {len(held)} of the {len(kept) + len(held)} rows of train, stratified, seed {how.seed}{why}"]


def _take(rows: Columns, numbers: list[int]) -> Columns:
    return {column: [values[number] for number in numbers] for column, values in rows.items()}


def _checksum(splits: Mapping[str, Columns]) -> str:
    digest = hashlib.sha256()
    for split, rows in splits.items():
        for column in sorted(rows):
            digest.update(json.dumps([split, column, rows[column]]).encode())
    return digest.hexdigest()
