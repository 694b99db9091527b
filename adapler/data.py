"""Classification tasks as `datasets` tables: from the hub by name, from files of your own, or from an ERASER corpus.

A file of rows is .jsonl, .csv (quotes as in RFC 4180), .tsv (no quoting) or .parquet. A row has a `label` (index or
name), optionally an `id`, and one of

* `text`, or `text_a` and `text_b`: plain text;
* `tokens`: a list of words, and optionally `query`. This is the format that the analysis reads as annotated documents;
  the `rationale` is ignored here. The query is a second segment where queries differ, as in the analysis.

A folder has train.jsonl and, if they exist, validation (or val, dev) and test. A meta.json next to the rows may give
`labels` (names in the order of their indices), `name`, `metric` ("accuracy" or "f1") and `max_length`. Other files and
fields are ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, Field, StrictInt, StrictStr, ValidationError

from adapler.eraser import (
    EraserCorpus,
    balanced_indices,
    corpus_statistics,
    find_leaks,
    find_shared,
    has_documents,
    holds_corpus,
    install_movies,
    match_labels,
    misquoted_note,
    queries_differ,
    read_corpus,
    sizes,
)
from adapler.errors import ArgumentError, DataError, excerpt, validation_reason
from adapler.options import ambiguous, option, parse
from adapler.system import read_rows

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
NO_LABEL = -1  # label of a row that has none

_STEMS = {"train": ("train",), "validation": ("validation", "val", "dev"), "test": ("test",)}

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
    """

    name: str
    labels: tuple[str, ...]  # names of the classes, in the order of their indices
    dataset: DatasetDict  # train, validation, test; a row has id, the columns, and label
    columns: tuple[str, ...]  # ("words",), ("words", "query"), ("text_a",) or ("text_a", "text_b")
    metric: str  # "accuracy", or "f1" of label 1
    max_length: int  # default length of an input, in tokens
    checksum: str  # sha256 over the rows, or the corpus' own for ERASER
    notes: tuple[str, ...] = ()  # what a report should tell about the splits
    unlabelled: tuple[str, ...] = ()  # splits whose rows have no label; theirs is NO_LABEL

    @property
    def is_split_into_words(self) -> bool:
        """Whether rows are lists of words; then `load_tokenizer(model, words=True)` gives the right tokenizer."""
        return self.columns[0] == "words"


@dataclass(frozen=True)
class HoldOut:
    """Settings for holding out a validation split from the training rows."""

    share: float | None = None  # of the rows; None: 10 %, at most 2000 rows
    seed: int = 0
    optional: bool = False  # whether a task with a validation split of its own may keep it, where a share is given


# ---- Loading


def load_task(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
    how: HoldOut | None = None,
    alone: str | None = None,
) -> Task:
    """Load a task: one of TASKS, or a path (./NAME of a folder that is called like a task).

    Args:
        data_dir: of a name of TASKS, the folder that holds DATA_DIR/NAME. Without it, "movies" lies in data/eraser,
            and the others come from the hub.
        labels: names of a classifier's classes, for rows without labels and for a split that is read alone; None: rows
            without labels are an error.
        how: how a validation split is drawn from train where the task has none.
        alone: of your own files: the split to read, whole, if there are no training rows; all rows of a single file
            are this split.
    """
    path = _located(name_or_path, data_dir)
    if path is None:
        return _load_hub(os.fspath(name_or_path), how)
    if _is_corpus(path):
        return task_of_corpus(read_corpus(path), how=how)
    if is_file(path):
        return _load_files({alone or "train": path}, path.stem, labels, how, alone)
    files, name = _split_files(path), path.resolve().name
    if "train" in files:
        return _load_files(files, name, labels, how, None)
    if alone not in files:
        raise DataError(f"{path}: neither rows (no {alone or 'train'}{', '.join(SUFFIXES)}) nor an ERASER corpus")
    return _load_files({alone: files[alone]}, name, labels, how, alone)


def task_of_corpus(corpus: EraserCorpus, *, how: HoldOut | None = None) -> Task:
    """An ERASER corpus as a task, without its rationales. Rows have `words`, and `query` where queries differ: then the
    label cannot be told from the document alone."""
    columns = ("words", "query") if queries_differ(corpus) else ("words",)
    tables, number = {}, corpus.labels.index
    for split, examples in corpus.splits.items():
        rows = [{"id": e.id, "words": list(e.words), "query": e.query, "label": number(e.label)} for e in examples]
        tables["validation" if split == "val" else split] = _table(rows, columns, corpus.labels)
    leaks = find_leaks(corpus)
    return _build(
        tables,
        name=corpus.name,
        columns=columns,
        where=corpus.source,
        how=how,
        checksum=corpus.checksum if "val" in corpus.splits else None,  # None: of the splits as they are drawn
        notes=[f"{len(leaks)} examples are in two splits, the first: {leaks[0]}"] if leaks else [],
    )


def is_file(name_or_path: str | os.PathLike[str]) -> bool:
    path = Path(name_or_path)
    return path.suffix.lower() in SUFFIXES and path.is_file()


def is_of_hub(name_or_path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> bool:
    return data_dir is None and os.fspath(name_or_path) in HUB_TASKS


def _located(name_or_path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The file or folder of a task; None: it comes from the hub."""
    name, folder = os.fspath(name_or_path), Path("data/eraser" if data_dir is None else data_dir)
    if is_of_hub(name, data_dir):
        return None
    if name not in TASKS:
        if data_dir is not None:
            raise ArgumentError(f"--data-dir: only for a named task ({', '.join(TASKS)}), not {name}")
        if not Path(name).exists():
            raise DataError(f"{name}: neither a task ({', '.join(TASKS)}) nor an existing path")
        return Path(name)
    if (folder / name).is_dir():
        return folder / name
    if name == "movies" and (folder.is_file() or has_documents(folder)):
        return folder
    other = f"without --data-dir the task {name} comes from the hub"
    if name == "movies":
        other = "`adapler data download` puts the ERASER movies there"
    raise DataError(f"{folder / name}: no such folder; {other}")


def _is_corpus(path: Path) -> bool:
    # A corpus beside split files has its documents there too; a folder below may hold anything.
    return has_documents(path) if path.is_dir() and _split_files(path) else holds_corpus(path)


def _split_files(folder: Path) -> dict[str, Path]:
    found = {}
    for split, stems in _STEMS.items():
        files = [file for stem in stems for suffix in SUFFIXES if (file := folder / f"{stem}{suffix}").is_file()]
        if len(files) > 1:
            raise DataError(f"{folder}: {' and '.join(file.name for file in files)} would be one split, {split}")
        if files:
            found[split] = files[0]
    return found


# ---- Files of rows


class _Row(BaseModel, coerce_numbers_to_str=True):
    id: str | None = None
    label: StrictInt | StrictStr | None = None
    text_a: str | None = Field(default=None, validation_alias=AliasChoices("text_a", "text"))
    text_b: str | None = None
    tokens: list[str] | None = None
    query: str | None = None

    def inputs(self) -> dict[str, Any]:
        """The text columns, under the names of `Task.columns`."""
        if self.text_a is not None:
            return {"text_a": self.text_a} if self.text_b is None else {"text_a": self.text_a, "text_b": self.text_b}
        return {} if self.tokens is None else {"words": self.tokens, "query": self.query or ""}


class _Meta(BaseModel):
    name: str | None = None
    labels: list[str] | None = Field(default=None, min_length=2)
    metric: Literal["accuracy", "f1"] | None = None
    max_length: int | None = Field(default=None, ge=8)


def read_meta(path: Path) -> _Meta:
    """The fields of meta.json, defaults without the file; DataError for a file that is not valid."""
    try:
        meta = _Meta.model_validate_json(path.read_bytes()) if path.is_file() else _Meta()
    except ValidationError as error:
        raise DataError(f"{path}: {validation_reason(error)}") from error
    if meta.labels and len(set(meta.labels)) < len(meta.labels):
        raise DataError(f"{path}: 'labels' must be different names, found {excerpt(meta.labels, 80)}")
    return meta


def _read_split(path: Path, split: str) -> list[dict[str, Any]]:
    """Each row's id, text columns, label as written, and place for messages; all but the label is checked."""
    rows: list[dict[str, Any]] = []
    ids: set[str] = set()
    for _, place, fields in read_rows(path):
        try:  # an empty field of a table is none
            row = _Row.model_validate({name: None if value == "" else value for name, value in fields.items()})
        except ValidationError as error:
            raise DataError(f"{place}: {validation_reason(error)}") from error
        inputs = {"id": f"{split}-{len(rows)}" if row.id is None else row.id, **row.inputs()}
        if len(inputs) == 1:
            raise DataError(f"{place}: has none of 'text', 'text_a' and 'tokens', its fields are {', '.join(fields)}")
        if rows and list(inputs) != list(rows[0])[:-2]:
            raise DataError(f"{place}: has {', '.join(inputs)}, the rows before it {', '.join(list(rows[0])[:-2])}")
        if any(not "".join(text).strip() for name, text in inputs.items() if name != "query"):
            raise DataError(f"{place}: a text is empty")
        if inputs["id"] in ids:
            raise DataError(f"{place}: id {inputs['id']!r} appears twice in this split")
        ids.add(inputs["id"])
        rows.append({**inputs, "label": row.label, "place": place})
    if not rows:
        raise DataError(f"{path}: holds no rows")
    return rows


def _load_files(
    files: Mapping[str, Path], name: str, given: Sequence[str] | None, how: HoldOut | None, alone: str | None
) -> Task:
    """The task in the files of each split; of one that is read `alone` nothing is held out, and it may lack labels."""
    main = files.get("train") or next(iter(files.values()))
    meta_path = main.parent / "meta.json"
    meta = read_meta(meta_path)
    name = meta.name or name
    splits = {split: _read_split(path, split) for split, path in files.items()}
    first = splits.get("train") or next(iter(splits.values()))
    columns = tuple(column for column in first[0] if column not in ("id", "label", "place"))
    if columns == ("words", "query") and len({row["query"] for rows in splits.values() for row in rows}) < 2:
        columns = ("words",)
    labels = _label_names(first, main, meta, given, alone=alone is not None)
    tables = {}
    for split, rows in splits.items():
        if missing := [column for column in columns if column not in rows[0]]:
            raise DataError(f"{files[split]}: has no {missing[0]!r}, {main} has")
        _number_labels(rows, labels, optional=given is not None)
        tables[split] = _table(rows, columns, labels)
    metric = meta.metric or ("f1" if name == "mrpc" else "accuracy")  # as GLUE and the paper report MRPC
    if metric == "f1" and (len(labels) != 2 or not meta.labels and labels != ("0", "1")):
        raise DataError(f"{meta_path}: f1 is of the second of two 'labels', which must be named in order")
    return _build(
        tables,
        name=name,
        columns=columns,
        where=str(main),
        how=how,
        hold=alone is None,
        metric=metric,
        max_length=meta.max_length,
    )


def _label_names(
    rows: Sequence[Mapping[str, Any]], path: Path, meta: _Meta, given: Sequence[str] | None, *, alone: bool
) -> tuple[str, ...]:
    """Names of meta.json, else of the classifier, else of the rows: sorted texts, or indices 0, 1, ... as texts."""
    if meta.labels:
        return tuple(meta.labels)
    found = {row["label"] for row in rows} - {None}
    texts = [label for label in found if isinstance(label, str)]
    shown = ", ".join(sorted(map(str, found))[:6])
    if given is not None and (alone or not found):
        if texts and match_labels(texts, given) is None:
            raise DataError(f"{path}: labels {shown} are not among the classifier's, {', '.join(given)}")
        return tuple(given)
    if not found:
        raise DataError(f"{rows[0]['place']}: has no 'label', and only a classifier's predictions can take its place")
    if len(texts) == len(found):
        names = sorted(texts, key=int if all(map(str.isdecimal, texts)) else None)
    elif found == set(range(len(found))):
        names = [str(index) for index in range(len(found))]
    else:
        raise DataError(f"{path}: labels without meta.json must be strings or 0, 1, 2, ..., found {shown}")
    if len(names) < 2:
        raise DataError(f"{path}: only one label, {names[0]!r}; two are needed")
    return tuple(names)


def _number_labels(rows: Sequence[dict[str, Any]], names: tuple[str, ...], *, optional: bool) -> None:
    """Put the index of each row's label in its place; NO_LABEL in all rows if labels are optional and the first row
    has none."""
    bare = optional and rows[0]["label"] is None
    texts = sorted({row["label"] for row in rows if isinstance(row["label"], str)})
    known: dict[Any, int] = {index: index for index in range(len(names))}
    known |= dict(zip(texts, match_labels(texts, names) or (), strict=False)) or {n: i for i, n in enumerate(names)}
    for row in rows:
        place, label = row["place"], row["label"]
        if bare and label is not None:
            raise DataError(f"{place}: has a 'label', and the rows before it have none")
        if reason := ambiguous(label, dict(enumerate(names))):
            raise DataError(f"{place}: label {reason}")
        if not bare and label not in known:
            raise DataError(f"{place}: unknown label {excerpt(label)}, allowed are {', '.join(names[:20])}")
        row["label"] = NO_LABEL if bare else known[label]


# ---- Labels of a data set and of a model


def in_label_order(task: Task, names: Sequence[str]) -> Task:
    """The task with its labels numbered as a classifier numbers them, which calls them `names`; see `match_labels`.
    DataError where it lacks one, or f1 would become that of another label."""
    if len(names) != len(task.labels):  # the caller says what it needs of the number of labels
        return task
    indices = match_labels(task.labels, names)
    if indices is None:
        raise DataError(
            f"{task.name}: labels {', '.join(task.labels)} are not the classifier's, {', '.join(names)}; `labels` in "
            "meta.json names them in the order of their indices"
        )
    if indices == list(range(len(names))):
        return task
    labels = tuple(label for _, label in sorted(zip(indices, task.labels, strict=True)))
    if task.metric == "f1":
        raise DataError(f"{task.name}: f1 is of label 1, {task.labels[1]!r}; the classifier's label 1 is {labels[1]!r}")
    new = np.array([*indices, NO_LABEL])  # the last: index NO_LABEL
    dataset = DatasetDict()
    for split, rows in task.dataset.items():
        values = new[np.asarray(rows["label"][:])].tolist()
        dataset[split] = rows.remove_columns("label").add_column("label", values, feature=ClassLabel(names=[*labels]))
    return replace(task, labels=labels, dataset=dataset)


# ---- Tasks from tables


def _table(rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...], labels: Sequence[str]) -> Dataset:
    texts = {column: List(Value("string")) if column == "words" else Value("string") for column in columns}
    features = Features({"id": Value("string"), **texts, "label": ClassLabel(names=list(labels))})
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


def _build(
    tables: dict[str, Dataset],
    *,
    name: str,
    columns: tuple[str, ...],
    where: str,
    how: HoldOut | None,
    hold: bool = True,
    metric: str = "accuracy",
    max_length: int | None = None,
    checksum: str | None = None,
    notes: Sequence[str] = (),
) -> Task:
    """A task from tables of checked rows; where there is no validation split, a part of train is held out."""
    notes = list(notes)
    if how is not None and how.share is not None and not how.optional and "validation" in tables:
        raise ArgumentError(f"--validation-share: {where} has a validation split of its own")
    if hold and "train" in tables and "validation" not in tables:
        train, how = tables["train"], how or HoldOut()
        labels = np.asarray(train["label"][:])
        held = hold_out(labels, how)
        if not held.any():
            raise DataError(f"{where}: too few rows ({len(held)}) to hold any out for validation; a label needs two")
        tables["train"], tables["validation"] = (train.select(np.flatnonzero(rows)) for rows in (~held, held))
        drawn = "at random" if NO_LABEL in labels[:1] else "stratified"
        notes.append(f"validation: {held.sum()} of the {len(held)} rows of train, {drawn}, seed {how.seed}")
    dataset = DatasetDict({split: tables[split] for split in _STEMS if split in tables})
    first = next(iter(dataset.values()))
    return Task(
        name=name,
        labels=tuple(first.features["label"].names),
        dataset=dataset,
        columns=columns,
        metric=metric,
        max_length=max_length or default_max_length(name, first, columns=columns),
        checksum=checksum or _checksum(dataset),
        notes=tuple(notes),
        unlabelled=tuple(split for split, rows in dataset.items() if rows["label"][0] == NO_LABEL),
    )


def hold_out(labels: Sequence[int] | NDArray[np.int64], how: HoldOut) -> NDArray[np.bool_]:
    """(rows,) True for rows that are held out: each label keeps its share (largest remainders) and its last row."""
    values = np.asarray(labels)
    total = max(1, min(2000, round(0.1 * len(values))) if how.share is None else round(how.share * len(values)))
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


def default_max_length(name: str, rows: Dataset, *, columns: tuple[str, ...]) -> int:
    """The paper's length for its tasks (subsets such as qnli_dev too), 512 for documents of words, otherwise 1.3
    wordpieces for each word of the rows' 95th percentile, rounded up to a multiple of 32, at most 512."""
    for known, length in _MAX_LENGTHS.items():
        if name == known or name.startswith(f"{known}_"):
            return length
    if columns[0] == "words":
        return 512
    words = sum(np.array([text.count(" ") + 1 for text in rows[column]]) for column in columns)  # (rows,)
    tokens = 1.3 * float(np.quantile(words, 0.95)) + 3
    return int(min(512, 32 * np.ceil(tokens / 32)))


def _checksum(dataset: DatasetDict) -> str:
    digest = hashlib.sha256()
    for split, rows in dataset.items():
        for column in sorted(rows.column_names):
            digest.update(json.dumps([split, column, rows[column][:]]).encode())
    return digest.hexdigest()


# ---- Smaller samples


def balanced_sample(dataset: Dataset, n: int, *, seed: int) -> Dataset:
    """A random sample of `n` rows of a data set, balanced over its labels; see `balanced_indices`."""
    return dataset.select(balanced_indices(dataset["label"][:], n, seed=seed))


# ---- The hub


@dataclass(frozen=True)
class HubTask:
    """A task's place on the hub (arguments of `datasets.load_dataset`), and its columns."""

    repository: str
    config: str | None
    texts: tuple[str, ...]  # one or two columns
    splits: Mapping[str, str]  # our names -> the hub's
    metric: str = "accuracy"
    revision: str | None = None
    note: str | None = None  # about the splits
    convert: Callable[[Dataset], Dataset] | None = None  # of a table with other columns than texts and a label


def _glue(config: str, *texts: str, metric: str = "accuracy", validation: str = "validation") -> HubTask:
    note = "GLUE's test split has no labels: its validation split is the test split here"
    return HubTask("nyu-mll/glue", config, texts, {"train": "train", "test": validation}, metric=metric, note=note)


def _hatexplain(split: Dataset) -> Dataset:
    """Text and label of the majority of the three annotators; posts on which all three differ are left out."""
    rows: list[dict[str, Any]] = []
    for row in split:
        annotators = row["annotators"]
        # A sequence of structs comes as a dict of lists or as a list of dicts, depending on the version.
        votes = annotators["label"] if isinstance(annotators, dict) else [one["label"] for one in annotators]
        label, count = Counter(votes).most_common(1)[0]
        if 2 * count > len(votes):
            rows.append({"id": row["id"], "text_a": " ".join(row["post_tokens"]), "label": label})
    return _table(rows, ("text_a",), ("hatespeech", "normal", "offensive"))


_TRAIN_TEST = {"train": "train", "test": "test"}

HUB_TASKS: Mapping[str, HubTask] = {
    "sst2": _glue("sst2", "sentence"),
    "mrpc": _glue("mrpc", "sentence1", "sentence2", metric="f1"),
    "qnli": _glue("qnli", "question", "sentence"),
    "mnli": _glue("mnli", "premise", "hypothesis", validation="validation_matched"),
    "imdb": HubTask("stanfordnlp/imdb", None, ("text",), _TRAIN_TEST),
    "ag_news": HubTask("fancyzhx/ag_news", None, ("text",), _TRAIN_TEST),
    "dbpedia14": HubTask("fancyzhx/dbpedia_14", None, ("content",), _TRAIN_TEST),
    "hatexplain": HubTask(
        "Hate-speech-CNERG/hatexplain",
        None,
        ("post_tokens",),
        {**_TRAIN_TEST, "validation": "validation"},
        # The repository itself is a loading script, which `datasets` no longer runs.
        revision="refs/convert/parquet",
        note="label: majority of the annotators; posts without a majority are left out",
        convert=_hatexplain,
    ),
}
TASKS = (*HUB_TASKS, "movies")


def _load_hub(name: str, how: HoldOut | None) -> Task:
    """One of HUB_TASKS, from the hub or the cache of an earlier call."""
    spec = HUB_TASKS[name]
    columns = ("text_a", "text_b")[: len(spec.texts)]
    tables = {}
    try:
        loaded = datasets.load_dataset(spec.repository, spec.config, revision=spec.revision)
        for ours, theirs in spec.splits.items():
            rows = loaded[theirs]
            if spec.convert is None:
                rows = rows.select_columns([*spec.texts, "label"])
                rows = rows.rename_columns(dict(zip(spec.texts, columns, strict=True)))
                tables[ours] = rows.add_column("id", [f"{ours}-{number}" for number in range(len(rows))])
            else:
                tables[ours] = spec.convert(rows)
    except Exception as error:  # the libraries below raise a dozen kinds, none of them ours
        reason = " ".join(str(error).split()) or type(error).__name__
        said = f"task {name!r}: {spec.repository} cannot be loaded from the hub ({reason:.160})"
        raise DataError(f"{said}; a local folder with train.jsonl can be given instead") from error
    notes = [spec.note] if spec.note else []
    return _build(tables, name=name, columns=columns, where=f"task {name!r}", how=how, metric=spec.metric, notes=notes)


# ---- The command `adapler data`: download the ERASER movies; sizes, labels, lengths and leaks of a corpus or a task

_USAGE = """usage: adapler data {download,show} ...

  adapler data download                                  the ERASER movies, to data/eraser/movies
  adapler data download --archive ~/movies.tar.gz        the same from a file at hand, without a network
  adapler data show data/eraser/sample                   sizes, labels, lengths, rationale density, leaks"""


@dataclass
class DownloadOptions:
    """Install the ERASER movies in TARGET/movies."""

    target: str = option("folder", default="data/eraser", basic=True)
    archive: str | None = option("archive to take instead of the official download", default=None, basic=True)
    sha256: str | None = option("checksum that the archive must have", default=None, basic=True)


@dataclass
class ShowOptions:
    """Sizes, labels, lengths, rationale density and leaks of data, split by split."""

    path: str = option(
        "ERASER corpus (folder or .tar.gz), folder with train.jsonl (.csv, .tsv, .parquet), file of rows, or one of "
        + ", ".join(TASKS),
        basic=True,
    )
    json: bool = option("print JSON instead of a table", default=False, basic=True)


def data_command(words: Sequence[str]) -> None:
    """The command `adapler data`, from the words after it."""
    action, *words = words or ["--help"]
    if action == "download":
        _download(parse(DownloadOptions, words, prog="adapler data download"))
    elif action == "show":
        _show(parse(ShowOptions, words, prog="adapler data show", positional="path"))
    elif action in ("-h", "--help"):
        print(_USAGE)
    else:
        raise ArgumentError(f"adapler data: {action!r} is neither download nor show")


def _download(options: DownloadOptions) -> None:
    folder = install_movies(options.target, archive=options.archive, expected_sha256=options.sha256)
    record = json.loads((folder / "SOURCE.json").read_text(encoding="utf-8"))
    print(f"{folder}: {', '.join(f'{n} {split}' for split, n in record['examples'].items())}")
    print(f"sha256 of the archive: {record['sha256']}")


def _show(options: ShowOptions) -> None:
    path = _located(options.path, None)
    if path is not None and _is_corpus(path):
        corpus = read_corpus(path)
        name, checksum, rows, leaks = corpus.name, corpus.checksum, corpus_statistics(corpus), find_leaks(corpus)
        notes = [note for split in corpus.splits if (note := misquoted_note(corpus, split))]
    else:
        task = load_task(options.path)
        name, checksum, notes = task.name, task.checksum, list(task.notes)
        texts, rows = {}, []
        for split, table in task.dataset.items():
            parts = zip(*(table[column] for column in task.columns), strict=True)
            lines = ["\n".join(part if isinstance(part, str) else " ".join(part) for part in row) for row in parts]
            texts[split] = list(zip(table["id"], lines, strict=True))
            labels = [task.labels[label] for label in table["label"]]
            rows.append(sizes(split, [len(line.split()) for line in lines], labels, task.labels))
        leaks = find_shared(texts)
    if options.json:
        found = {"name": name, "checksum": checksum, "splits": rows, "notes": notes, "leaks": leaks}
        print(json.dumps(found, indent=1))
        return
    print(f"{name}  (checksum {checksum[:16]})")
    counts = [", ".join(f"{label} {count}" for label, count in row["labels"].items()) for row in rows]
    table = pd.DataFrame(rows).assign(labels=counts)
    print(table.to_string(index=False, float_format="{:.3g}".format, na_rep="-"))
    for note in notes:
        print(f"note: {note}")
    print(f"{len(leaks) or 'no'} example{'' if len(leaks) == 1 else 's'} in two splits")
    for leak in leaks[:20]:
        print(f"  {leak}")
