"""The hub's columns become ours; `load_dataset` is replaced, no network is touched."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from adapler.data.tasks import load_task
from adapler.errors import DataError


def table(texts: tuple[str, ...], names: list[str], count: int, *, labelled: bool = True, mark: str = "") -> Dataset:
    columns: dict[str, list[Any]] = {text: [f"{mark}{text} {n}" for n in range(count)] for text in texts}
    columns["label"] = [n % len(names) if labelled else -1 for n in range(count)]
    features = Features({**dict.fromkeys(texts, Value("string")), "label": ClassLabel(names=names)})
    return Dataset.from_dict(columns, features=features)


class Hub:
    """Stands for `datasets.load_dataset`: remembers the call, returns the tables it holds."""

    def __init__(self, tables: dict[str, Dataset]) -> None:
        self.tables = tables
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, repository: str, config: str | None = None, **options: Any) -> DatasetDict:
        self.calls.append((repository, config, options))
        return DatasetDict(self.tables)


def glue(texts: tuple[str, ...], names: list[str], validation: str = "validation") -> dict[str, Dataset]:
    return {
        "train": table(texts, names, 60),
        validation: table(texts, names, 6, mark="dev "),
        "test": table(texts, names, 6, labelled=False),
    }


@pytest.mark.parametrize(
    ("name", "texts", "names", "metric", "length"),
    [
        ("sst2", ("sentence",), ["negative", "positive"], "accuracy", 64),
        ("mrpc", ("sentence1", "sentence2"), ["not_equivalent", "equivalent"], "f1", 128),
        ("qnli", ("question", "sentence"), ["entailment", "not_entailment"], "accuracy", 128),
        ("mnli", ("premise", "hypothesis"), ["entailment", "neutral", "contradiction"], "accuracy", 128),
    ],
)
def test_glue(
    monkeypatch: pytest.MonkeyPatch, name: str, texts: tuple[str, ...], names: list[str], metric: str, length: int
) -> None:
    hub = Hub(glue(texts, names, "validation_matched" if name == "mnli" else "validation"))
    monkeypatch.setattr(datasets, "load_dataset", hub)
    task = load_task(name)
    assert hub.calls == [("nyu-mll/glue", name, {})]
    assert (task.name, task.labels, task.metric, task.max_length) == (name, tuple(names), metric, length)
    assert {split: len(rows) for split, rows in task.dataset.items()} == {"train": 54, "validation": 6, "test": 6}
    expected = {"id": "test-1", "text_a": f"dev {texts[0]} 1", "label": 1}
    if len(texts) == 2:
        expected["text_b"] = f"dev {texts[1]} 1"
    assert task.dataset["test"][1] == expected
    # A row keeps its number in the hub's train, whichever split it is in now.
    for split in ("train", "validation"):
        assert all(f"{texts[0]} {row['id'].removeprefix('train-')}" == row["text_a"] for row in task.dataset[split])
    assert "validation split is the test split" in task.notes[0] and "6 of the 60 rows" in task.notes[1]


@pytest.mark.parametrize(
    ("name", "repository", "text"),
    [
        ("imdb", "stanfordnlp/imdb", "text"),
        ("ag_news", "fancyzhx/ag_news", "text"),
        ("dbpedia14", "fancyzhx/dbpedia_14", "content"),
    ],
)
def test_tasks_without_validation(monkeypatch: pytest.MonkeyPatch, name: str, repository: str, text: str) -> None:
    tables = {"train": table((text, "title"), ["a", "b"], 40), "test": table((text, "title"), ["a", "b"], 4)}
    hub = Hub(tables | {"unsupervised": table((text,), ["a", "b"], 4, labelled=False)})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    task = load_task(name)
    assert hub.calls == [(repository, None, {})]
    assert {split: len(rows) for split, rows in task.dataset.items()} == {"train": 36, "validation": 4, "test": 4}
    assert task.dataset["test"][3] == {"id": "test-3", "text_a": f"{text} 3", "label": 1}
    assert task.columns == ("text_a",) and len(task.notes) == 1


@pytest.mark.parametrize("as_list", [True, False])
def test_hatexplain_takes_the_majority(monkeypatch: pytest.MonkeyPatch, as_list: bool) -> None:
    votes = [[0, 0, 2], [0, 1, 2], [1, 1, 1]]
    annotators = [[{"label": v} for v in three] if as_list else {"label": three} for three in votes]
    shape = List({"label": Value("int64")}) if as_list else {"label": List(Value("int64"))}
    split = Dataset.from_dict(
        {"id": ["p", "q", "r"], "annotators": annotators, "post_tokens": [["a", "b"], ["c"], ["d"]]},
        features=Features({"id": Value("string"), "annotators": shape, "post_tokens": List(Value("string"))}),
    )
    hub = Hub({"train": split, "validation": split, "test": split})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    task = load_task("hatexplain")
    assert hub.calls == [("Hate-speech-CNERG/hatexplain", None, {"revision": "refs/convert/parquet"})]
    assert list(task.dataset["validation"]) == [
        {"id": "p", "text_a": "a b", "label": 0},
        {"id": "r", "text_a": "d", "label": 1},
    ]
    assert task.labels == ("hatespeech", "normal", "offensive")


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach\n 'nyu-mll/glue' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"task 'sst2': nyu-mll/glue cannot be loaded .*Couldn't reach 'nyu.*local"):
        load_task("sst2")


def test_other_columns_or_splits_than_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", Hub(glue(("text",), ["a", "b"])))
    with pytest.raises(DataError, match="has no column 'sentence', only text, label"):
        load_task("sst2")
    monkeypatch.setattr(datasets, "load_dataset", Hub({"train": table(("text",), ["a", "b"], 4)}))
    with pytest.raises(DataError, match="has no split 'test', only train"):
        load_task("imdb")
