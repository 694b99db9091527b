"""Tasks from the Hugging Face hub: where each lies, and how its columns become ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import datasets

from adapler.data.tasks.schema import HoldOut, Task, add_validation, build_task
from adapler.data.tasks.tables import BATCH, features_of, write_rows
from adapler.errors import DataError

__all__ = ["HUB_TASKS", "HubTask", "load_hub"]


@dataclass(frozen=True)
class HubTask:
    """`texts` are the hub's text columns, one or two; `splits` maps our names to the hub's, where it has them."""

    repository: str
    config: str | None
    texts: tuple[str, ...]
    splits: Mapping[str, str]
    metric: str = "accuracy"
    revision: str | None = None
    note: str | None = None
    # For a data set whose columns are not simply texts and a label; rows may have an id.
    rows: Callable[[Any], Iterator[dict[str, Any]]] | None = None
    labels: tuple[str, ...] | None = None


_GLUE = "GLUE's test split has no labels: its validation split is the test split here"
_TRAIN_TEST = {"train": "train", "test": "test"}


def load_hub(name: str, *, how: HoldOut | None = None) -> Task:
    """Loads one of HUB_TASKS with `datasets.load_dataset` (the hub, or the cache of an earlier call).

    Raises DataError when it cannot be loaded or has other columns than expected.
    """
    spec = HUB_TASKS[name]
    try:
        options = {} if spec.revision is None else {"revision": spec.revision}
        loaded = datasets.load_dataset(spec.repository, spec.config, **options)
    except Exception as error:  # the libraries below raise a dozen kinds, none of them ours
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"task {name!r}: {spec.repository} cannot be loaded from the hub ({reason:.160}); "
            "a local folder with train.jsonl can be given instead"
        ) from error
    columns = ("text_a", "text_b")[: len(spec.texts)]
    splits: dict[str, datasets.Dataset] = {}
    for ours, theirs in spec.splits.items():
        if theirs not in loaded:
            raise DataError(f"task {name!r}: {spec.repository} has no split {theirs!r}, only {', '.join(loaded)}")
        if spec.rows is None:
            _check_columns(loaded[theirs], spec, name)
        rows = spec.rows(loaded[theirs]) if spec.rows else _plain_rows(loaded[theirs], spec.texts)
        labels = spec.labels or tuple(loaded[theirs].features["label"].names)
        numbered = ({"id": f"{ours}-{number}", **row} for number, row in enumerate(rows))
        splits[ours] = write_rows(numbered, features_of(columns, labels))
    notes = [spec.note] if spec.note else []
    notes += add_validation(splits, where=f"task {name!r}", how=how)
    return build_task(
        splits,
        name=name,
        labels=spec.labels or tuple(loaded["train"].features["label"].names),
        columns=columns,
        metric=spec.metric,
        notes=notes,
    )


def _check_columns(split: Any, spec: HubTask, name: str) -> None:
    missing = [column for column in (*spec.texts, "label") if column not in split.column_names]
    if missing:
        raise DataError(
            f"task {name!r}: {spec.repository} has no column {missing[0]!r}, only {', '.join(split.column_names)}"
        )


def _plain_rows(split: Any, texts: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Rows of `text_a`, `text_b` where there are two texts, and `label`."""
    columns = [*texts, "label"]
    names = (*("text_a", "text_b")[: len(texts)], "label")
    for batch in split.select_columns(columns).iter(batch_size=BATCH):
        for values in zip(*(batch[column] for column in columns), strict=True):
            yield dict(zip(names, values, strict=True))


def _hatexplain_rows(split: Any) -> Iterator[dict[str, Any]]:
    """Text and label of the majority of the three annotators; posts on which all three differ are left out."""
    for row in split:
        annotators = row["annotators"]
        # A sequence of structs comes as a dict of lists or as a list of dicts, depending on the version.
        votes = annotators["label"] if isinstance(annotators, dict) else [one["label"] for one in annotators]
        label, count = Counter(votes).most_common(1)[0]
        if 2 * count > len(votes):
            yield {"id": row["id"], "text_a": " ".join(row["post_tokens"]), "label": label}


def _glue(config: str, *texts: str, metric: str = "accuracy", validation: str = "validation") -> HubTask:
    splits = {"train": "train", "test": validation}
    return HubTask("nyu-mll/glue", config, texts, splits, metric=metric, note=_GLUE)


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
        {"train": "train", "validation": "validation", "test": "test"},
        # The repository itself is a loading script, which `datasets` no longer runs.
        revision="refs/convert/parquet",
        note="label: majority of the annotators; posts without a majority are left out",
        rows=_hatexplain_rows,
        labels=("hatespeech", "normal", "offensive"),
    ),
}
