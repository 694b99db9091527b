"""Tasks: folders of jsonl, labels, checksums, held-out rows, and where a name leads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from adapler.data.tasks import TASKS, in_label_order, load_task
from adapler.data.tasks.schema import HoldOut, default_max_length, hold_out
from adapler.errors import ArgumentError, DataError
from tests.adapler.data.corpora import files_of, pack, row, write
from tests.adapler.data.folders import LABELS, lines, task_folder, texts


def test_a_folder_of_jsonl(tmp_path: Path) -> None:
    folder = task_folder(
        tmp_path / "reviews",
        {
            "train": "\n" + lines([{"text": "good", "label": "positive", "id": "a"}, {"text": "bad", "label": 0}]),
            "validation": [{"text": "so so", "label": 1, "tokens": ["ignored"], "id": None}],
            "test": [{"text": "fine", "label": 1, "id": 12}],
            "test_attacked": "not even JSON",
        },
    )
    task = load_task(folder)
    assert (task.name, task.labels, task.columns) == ("reviews", ("negative", "positive"), ("text_a",))
    assert (task.metric, task.max_length, task.notes) == ("accuracy", 32, ())
    assert list(task.dataset) == ["train", "validation", "test"]
    assert list(task.dataset["train"]) == [
        {"id": "a", "text_a": "good", "label": 1},
        {"id": "train-1", "text_a": "bad", "label": 0},
    ]
    assert task.dataset["validation"][0]["id"] == "validation-0" and task.dataset["test"][0]["id"] == "12"
    assert task.dataset["train"].features["label"].names == ["negative", "positive"]


def test_pairs_and_meta(tmp_path: Path) -> None:
    rows = [{"text_a": f"a{n}", "text_b": f"b{n}", "label": n % 2} for n in range(4)]
    meta = LABELS | {"name": "pairs", "metric": "f1", "max_length": 40}
    task = load_task(task_folder(tmp_path, {"train": rows[:2], "validation": rows[2:]}, meta))
    assert (task.name, task.metric, task.max_length, task.columns) == ("pairs", "f1", 40, ("text_a", "text_b"))
    assert task.dataset["validation"][0] == {"id": "validation-0", "text_a": "a2", "text_b": "b2", "label": 0}


def test_labels_without_meta(tmp_path: Path) -> None:
    named = [{"text": "x", "label": name} for name in ("b", "a", "b")]
    indexed = [{"text": "x", "label": index} for index in (2, 0, 1)]
    splits = {"train": named, "validation": named}
    assert load_task(task_folder(tmp_path / "1", splits, None)).labels == ("a", "b")
    splits = {"train": indexed, "validation": indexed}
    assert load_task(task_folder(tmp_path / "2", splits, None)).labels == ("0", "1", "2")


def test_checksum_follows_the_rows(tmp_path: Path) -> None:
    rows = texts(4)
    one = load_task(task_folder(tmp_path / "1", {"train": rows, "validation": rows}))
    same = load_task(task_folder(tmp_path / "2", {"train": rows, "validation": rows, "other": []}))
    changed = load_task(task_folder(tmp_path / "3", {"train": rows, "validation": rows[::-1]}))
    assert one.checksum == same.checksum != changed.checksum


def test_validation_is_cut_from_train_when_missing(tmp_path: Path) -> None:
    folder = task_folder(tmp_path, {"train": texts(200), "test": texts(3), "validation_official": texts(5)})
    task = load_task(folder)
    train, validation = task.dataset["train"], task.dataset["validation"]
    assert (len(train), len(validation)) == (180, 20)
    assert set(train["id"]) | set(validation["id"]) == {f"train-{n}" for n in range(200)}
    assert Counter(validation["label"]) == {0: 10, 1: 10}
    assert task.notes == ("validation: 20 of the 200 rows of train, stratified, seed 0 (no validation.jsonl)",)
    assert load_task(folder).dataset["validation"]["id"][:] == validation["id"][:]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=400), st.integers(0, 5))
def test_hold_out_is_a_stratified_partition(labels: list[int], seed: int) -> None:
    held = hold_out(labels, HoldOut(seed=seed))
    assert held.shape == (len(labels),) and held.sum() <= max(1, round(len(labels) / 10))
    for label, count in Counter(labels).items():
        taken = sum(labels[index] == label for index in np.flatnonzero(held))
        assert taken < count and taken <= count / 10 + 1.5
    assert (hold_out(labels, HoldOut(seed=seed)) == held).all()


def test_hold_out_is_at_most_2000() -> None:
    labels = np.random.default_rng(0).integers(0, 2, 50_000).tolist()
    assert hold_out(labels, HoldOut()).sum() == 2000
    assert (hold_out(labels, HoldOut(seed=1)) != hold_out(labels, HoldOut(seed=2))).any()


def test_an_eraser_corpus_is_a_task(tmp_path: Path) -> None:
    many = {f"d{n}": f"word {n}" for n in range(20)}
    splits = {"train": [row(d, "NEG" if n % 2 else "POS") for n, d in enumerate(many)], "test": [row("d0", "POS")]}
    files = files_of(splits, many)
    folder = write(tmp_path / "data" / "movies", files)
    task = load_task(folder)
    assert (task.columns, task.labels, task.max_length, task.metric) == (("words",), ("NEG", "POS"), 512, "accuracy")
    assert task.dataset["test"][0] == {"id": "d0", "words": ["word", "0"], "label": 1}
    assert {split: len(rows) for split, rows in task.dataset.items()} == {"train": 18, "validation": 2, "test": 1}
    assert "no val.jsonl" in task.notes[0]
    for path, data_dir in [
        (pack(tmp_path / "x.tar.gz", files), None),
        (tmp_path / "data", None),
        ("movies", tmp_path / "data"),
        ("movies", folder),
    ]:
        assert load_task(path, data_dir=data_dir).checksum == task.checksum
    other = load_task(folder, how=HoldOut(seed=1))
    assert other.checksum != task.checksum, "another validation split is other data"


def test_a_task_with_a_folder_of_notes_is_not_a_corpus(tmp_path: Path) -> None:
    task_folder(tmp_path, {"train": texts(20)})
    (tmp_path / "paper" / "docs").mkdir(parents=True)
    assert load_task(tmp_path).columns == ("text_a",)


def test_with_data_dir_a_name_is_looked_up_there_alone(tmp_path: Path) -> None:
    task_folder(tmp_path / "sst2", {"train": texts(20)})
    assert load_task("sst2", data_dir=tmp_path).max_length == 64
    with pytest.raises(DataError, match="mrpc: no such folder; without --data-dir the task mrpc comes from the hub$"):
        load_task("mrpc", data_dir=tmp_path)
    with pytest.raises(ArgumentError, match=r"^--data-dir: of a task with a name \(sst2, .*and .* is none$"):
        load_task(tmp_path / "sst2", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [("sst2", 9, 64), ("qnli_dev", 9, 128), ("mine", 9, 32), ("mine", 100, 160), ("mine", 900, 512)],
)
def test_default_length(name: str, words: int, expected: int) -> None:
    rows = Dataset.from_dict({"text_a": ["w " * (words - 1) + "w"] * 3})
    assert default_max_length(name, rows, columns=("text_a",)) == expected


@pytest.mark.slow
def test_every_development_task_loads(development_data: Callable[[str], Path]) -> None:
    folders = sorted(path for path in development_data("tasks").iterdir() if path.is_dir())
    assert folders
    for folder in folders:
        meta = json.loads((folder / "meta.json").read_text())
        task = load_task(folder)
        assert task.labels == tuple(meta["labels"])
        assert len(task.dataset["test"]) == meta["split_sizes"]["test"]
        cut = 0 if (folder / "validation.jsonl").is_file() else len(task.dataset["validation"])
        assert len(task.dataset["train"]) + cut == meta["split_sizes"]["train"]


def test_names() -> None:
    assert set(TASKS) == set("sst2 mrpc imdb ag_news dbpedia14 qnli mnli hatexplain movies".split())


def test_labels_in_a_classifiers_order(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": i % 3} for i in range(12)]
    meta = {"labels": ["Entailment", "neutral", "contradiction"]}
    task = load_task(task_folder(tmp_path, {"train": rows, "validation": rows[:6]}, meta))
    other = in_label_order(task, ["contradiction", "ENTAILMENT", "neutral"])
    assert other.labels == ("contradiction", "Entailment", "neutral")
    for split, table in task.dataset.items():
        said = [task.labels[label] for label in table["label"]]
        assert [other.labels[label] for label in other.dataset[split]["label"]] == said
        assert other.dataset[split].features["label"].names == list(other.labels)
        assert other.dataset[split]["text_a"] == table["text_a"]
    assert other.checksum == task.checksum and other.notes == task.notes
    short = in_label_order(task, ["CON", "ENTAIL", "NEU"])  # NEG stands for negative, as in an evaluation of rationales
    assert short.labels == other.labels
    assert short.notes == ("labels are matched: Entailment is ENTAIL, neutral is NEU, contradiction is CON",)
    assert short.dataset["train"]["label"] == other.dataset["train"]["label"]
    assert in_label_order(task, list(task.labels)) is task
    (note,) = in_label_order(task, ["LABEL_0", "LABEL_1", "LABEL_2"]).notes
    assert note.endswith("by number: Entailment, neutral, contradiction; the classifier's: LABEL_0, LABEL_1, LABEL_2")
    numbered = replace(task, labels=("0", "1", "2"))
    assert in_label_order(numbered, ["LABEL_0", "LABEL_1", "LABEL_2"]) is numbered, "they say the same"
    assert in_label_order(task, ["a", "b"]) is task, "their number is checked where the model is loaded"
    assert in_label_order(task, ["a", "b", "c"]).notes == (
        "labels are compared by number: Entailment, neutral, contradiction; the classifier's: a, b, c",
    )
