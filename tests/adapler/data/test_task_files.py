"""A task in CSV, TSV or Parquet is the task in JSON lines; a split can be read alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adapler.data.tasks import load_task
from adapler.data.tasks.labels import names_among, names_of
from adapler.data.tasks.load import is_file
from adapler.errors import DataError
from tests.adapler.data.folders import Rows, lines, task_folder, texts

ROWS: Rows = [
    {"id": "a", "text": 'so "good", they say', "label": "POS"},
    {"id": "b", "text": "two\nlines", "label": "NEG"},
    {"id": "c", "text": "caf\u00e9\u2028still", "label": "POS"},
    {"id": "d", "text": "bad", "label": "NEG"},
]


def write_table(path: Path, rows: Rows) -> Path:
    if path.suffix == ".jsonl":
        path.write_text(lines(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".tsv":
        body = ["\t".join(map(str, row.values())) for row in rows]
        path.write_text("\n".join(["\t".join(rows[0]), *body]) + "\n", encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("label", [lambda name: name, ["NEG", "POS"].index, {"NEG": "1 star", "POS": "2 stars"}.get])
def test_other_formats_are_the_same_task(tmp_path: Path, suffix: str, label: Callable[[str], Any]) -> None:
    rows = [{**row, "label": label(row["label"])} for row in ROWS]
    if suffix == ".tsv":  # which has no line ends within a field
        rows = [{**row, "text": row["text"].replace("\n", " ")} for row in rows]
    tasks = []
    for kind in (".jsonl", suffix):
        folder = tmp_path / kind / "task"
        folder.mkdir(parents=True)
        for split in ("train", "dev", "test"):
            write_table(folder / f"{split}{kind}", rows)
        tasks.append(load_task(folder))
    assert tasks[0].checksum == tasks[1].checksum
    assert tasks[0].labels == tasks[1].labels
    assert tasks[1].dataset["validation"].to_list() == tasks[0].dataset["validation"].to_list()


def test_digits_in_a_table_are_numbers_unless_they_are_names(tmp_path: Path) -> None:
    stars = [{"text": f"t {n}", "label": str(n % 10 + 1)} for n in range(30)]
    task = load_task(write_table(tmp_path / "stars.csv", stars))
    assert task.labels == tuple(map(str, range(1, 11))), "sorted as numbers"
    train = task.dataset["train"]
    assert all(int(row["text_a"].split()[1]) % 10 == row["label"] for row in train)
    folder = task_folder(tmp_path / "named", {})  # meta.json names two labels
    write_table(folder / "train.csv", texts(20))
    train = load_task(folder).dataset["train"]
    assert all(int(row["text_a"].split()[1]) % 2 == row["label"] for row in train)
    write_table(folder / "train.csv", [*texts(20), {"text": "x", "label": 2}])
    with pytest.raises(
        DataError, match="train.csv, row 21: unknown label 2, allowed are 0 to 1 or negative, positive$"
    ):
        load_task(folder)
    write_table(folder / "train.csv", [*texts(20), {"text": "x", "label": "\u00b2"}])
    with pytest.raises(DataError, match="row 21: unknown label '\u00b2'"):
        load_task(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\ngood,1\nbad\n", "train.csv, row 2: has 1 fields, the header has 2$"),
        ("text;label\ngood;1\n", "train.csv, row 1: has none of 'text', 'text_a' and 'tokens', its fields are 'text;"),
        ("text,label\n", "train.csv: holds no rows$"),
        ("", "train.csv: has no header$"),
        ("text,label\ngood,\nbad,0\n", "train.csv, row 1: 'label' must be an index or a name, found nothing$"),
        ("text,text\ngood,1\n", "train.csv: column 'text' appears twice$"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load_task(tmp_path)


def test_of_two_files_of_a_split_one_is_read_and_a_note_says_so(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "both", {"train": texts(20), "validation": texts(4, "v")})
    write_table(folder / "train.csv", texts(30, "other"))
    task = load_task(folder)
    assert len(task.dataset["train"]) == 20
    assert task.notes == ("train: train.jsonl; train.csv is not read",)


def test_a_split_alone(tmp_path: Path) -> None:
    """A folder with test rows only, and a file: all of its rows are the split that is asked for."""
    folder = task_folder(tmp_path / "only", {"test": ROWS[1:2]}, meta=None)
    with pytest.raises(DataError, match=r"only: has no train \(.jsonl, .csv, .tsv, .parquet\)$"):
        load_task(folder)
    with pytest.raises(DataError, match=r"has no train and no validation \(.*\)$"):
        load_task(folder, alone="validation")
    file = write_table(tmp_path / "mine.csv", ROWS[1:2])
    assert is_file(file) and not is_file(folder) and not is_file(tmp_path / "no.csv")
    for path in (folder, file):
        task = load_task(path, labels=("negative", "positive"), alone="test")
        assert list(task.dataset) == ["test"] and task.labels == ("NEG", "positive")
        assert task.dataset["test"]["label"][:] == [0]
    assert len(load_task(write_table(file, ROWS), alone="validation").dataset["validation"]) == 4
    folder = task_folder(tmp_path / "whole", {"train": texts(20), "test": texts(4)})
    assert set(load_task(folder, alone="test").dataset) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("found", "known", "expected"),
    [
        ({"POS"}, ("NEG", "POS"), ("NEG", "POS")),
        ({"positive"}, ("NEG", "POS"), ("NEG", "positive")),
        ({"No", "yes"}, ("no", "yes"), ("No", "yes")),
        ({1}, ("NEG", "POS"), ("NEG", "POS")),
        ({"1"}, ("NEG", "POS"), ("NEG", "POS")),
        ({"1", "4"}, ("1", "2", "3", "4"), ("1", "2", "3", "4")),
        ({"good", "bad"}, ("LABEL_0", "LABEL_1"), ("bad", "good")),
        ({"pos", "Pos"}, ("Pos", "pos"), ("Pos", "pos")),  # the case is all that parts them
    ],
)
def test_labels_of_a_split_alone(found: set[int | str], known: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert names_among(found, known, "x.csv", typed=False) == expected


@pytest.mark.parametrize("found", [{"good"}, {"NEG", "neutral"}, {"Pos", "pos"}, {"POS", "0"}, {"a", "b", "c"}])
def test_a_split_alone_with_labels_that_are_no_classifiers(found: set[int | str]) -> None:
    shown = ", ".join(sorted(map(str, found)))
    with pytest.raises(DataError, match=rf"^x: labels {shown} are not among the classifier's, NEG, POS \(or 0 to 1\)$"):
        names_among(found, ("NEG", "POS"), "x", typed=False)


def test_numbers_of_a_split_alone_are_the_classifiers(tmp_path: Path) -> None:
    """Of a classifier of "1" to "4" a table's digits are names, and a number in JSON could be either."""
    names = ("1", "2", "3", "4")
    stars = [{"text": f"t {n}", "label": str(n % 3 + 1)} for n in range(6)]
    task = load_task(write_table(tmp_path / "stars.csv", stars), labels=names, alone="test")
    assert task.labels == names and task.dataset["test"]["label"][:] == [0, 1, 2, 0, 1, 2]
    numbers = write_table(tmp_path / "stars.jsonl", [{**row, "label": int(row["label"])} for row in stars])
    with pytest.raises(DataError, match="label 1 is ambiguous"):
        load_task(numbers, labels=names, alone="test")
    file = write_table(tmp_path / "two.csv", texts(4))
    task = load_task(file, labels=["NEG", "POS"], alone="train")
    assert len(task.dataset["train"]) == 4 and list(task.dataset) == ["train"], "nothing is held out"
    assert task.notes == ("labels are numbers: 0 is NEG, 1 is POS",)


def test_a_digit_that_train_has_not_is_no_other_label(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    for split, first in (("train", 1), ("test", 0)):
        write_table(folder / f"{split}.csv", [{"text": f"t {n}", "label": n % 4 + first} for n in range(40)])
    with pytest.raises(DataError, match="test.csv, row 1: unknown label '0', allowed are 1, 2, 3, 4$"):
        load_task(folder)


def test_files_of_a_folder_have_one_format(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "task", {"train": texts(20)})
    (folder / "test.csv").write_text("other,columns\n1,2\n")
    task = load_task(folder)
    assert "test" not in task.dataset and "test: train is a .jsonl; test.csv is not read" in task.notes
    (tmp_path / "table" / "project" / "docs").mkdir(parents=True)
    write_table(tmp_path / "table" / "train.csv", texts(20))
    assert len(load_task(tmp_path / "table").dataset["train"]) == 18, "a folder of documents further below is no corpus"
    (tmp_path / "UPPER.CSV").write_text("text,label\na,0\nb,1\n")
    assert len(load_task(tmp_path / "UPPER.CSV", alone="test").dataset["test"]) == 2


def test_empty_cells_are_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("id,text,label,text_b\n,good,,\n,bad,,\n")
    task = load_task(file, labels=("NEG", "POS"), alone="test")
    assert task.dataset["test"]["id"][:] == ["test-0", "test-1"] and task.unlabelled == ("test",)
    assert task.columns == ("text_a",)
    file.write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(DataError, match=r"rows.csv: is compressed \(gzip\), give it uncompressed$"):
        load_task(file)
    file.write_text("text,label\na," + "1" * 5000 + "\nb,0\n")
    assert load_task(file, alone="test").labels == ("0", "1" * 5000)


def test_labels_that_are_digits_are_in_the_order_of_numbers() -> None:
    """Whatever file they come from: a classifier of 11 stars counts them so, too."""
    digits = [str(number) for number in range(11)]
    assert names_of(set(digits), "x.jsonl") == tuple(digits)
    assert names_of({"10", "9", "b"}, "x.jsonl") == ("10", "9", "b")
