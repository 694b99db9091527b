"""Tasks that cannot be read: one line that names the file, and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapler.data.tasks import load_task
from adapler.errors import DataError
from tests.adapler.data.folders import Rows, task_folder, texts


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("{", r"train\.jsonl:1: not JSON"),
        ("\n{", r"train\.jsonl:2: not JSON"),
        ('{"text": "a", "label": 0, "text": "b"}', r"train\.jsonl:1: the key 'text' comes twice"),
        ("", r"train\.jsonl: holds no rows"),
        ([{"text": "x"}], r"train\.jsonl:1: has no 'label', its fields are 'text'"),
        ([{"text": "x", "label": 0}, {"text": "x"}], r"train\.jsonl:2: has no 'label'"),
        ([{"text": "x", "label": 2}], r":1: unknown label 2, allowed are 0 to 1 or negative, positive"),
        ([{"text": "x", "label": -1}], r":1: unknown label -1"),
        ([{"text": "x", "label": "Positive"}], r":1: unknown label 'Positive'"),
        ([{"text": "x", "label": True}], r":1: 'label' must be an index or a name, found True"),
        ([{"text": "x", "label": 1.0}], r":1: 'label' must be an index or a name, found 1.0"),
        ([{"text": "x", "label": None}], r":1: 'label' must be an index or a name, found nothing"),
        (
            [{"tokens": ["x"], "query": ["why"], "label": 0}],
            r":1: field 'query' must be a text or null, found \['why'\]",
        ),
        ([{"text": "", "label": 0}], r":1: field 'text' is empty"),
        ([{"text": " \t\n", "label": 0}], r":1: field 'text' is empty"),
        ([{"text_a": "x", "text_b": " ", "label": 0}], r":1: field 'text_b' is empty"),
        (
            [{"text_a": "x", "text_b": "y", "label": 0}, {"text_a": "x", "label": 0}],
            r":2: field 'text_b' must be",
        ),
        ([{"text": "x", "text_b": "y", "label": 0}], r":1: has 'text' and 'text_b'; the texts of a pair are 'text_a'"),
        (
            [{"text_a": "x", "label": 0}, {"text_a": "x", "text_b": "y", "label": 0}],
            r":2: has a 'text_b', and the first row has none",
        ),
        ([{"text": ["x"], "label": 0}], r":1: field 'text' must be a string, found \['x'\]"),
        (
            [{"sentence": "x", "label": 0}],
            r":1: has none of 'text', 'text_a' and 'tokens', its fields are 'sent",
        ),
        ([{"text": "x", "label": 0, "id": "a"}] * 2, r":2: id 'a' appears twice"),
        ([{"text": "\ud800", "label": 0}], r":1: holds half of a surrogate pair"),
        ([{"text": "x", "label": 0}], r"train\.jsonl: too few rows \(1\) to hold any out.* two rows"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, train: Rows | str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_task(task_folder(tmp_path, {"train": train}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([{"text": "x", "label": 0}, {"text": "x", "label": 2}], "must be strings or 0, 1, 2, ..., found 0, 2"),
        ([{"text": "x", "label": 0}, {"text": "x", "label": "a"}], "must be strings or 0, 1, 2"),
        ([{"text": "x", "label": "a"}], "only one label, 'a'"),
        ([{"text": "x", "label": "a"}, {"text": "x", "label": ""}], ":2: 'label' must be an index or a name, found ''"),
        ([{"text": "x", "label": "a"}, {"text": "x", "label": " "}], ":2: 'label' must be an index or a name"),
    ],
)
def test_labels_that_cannot_be_inferred(tmp_path: Path, train: Rows, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_task(task_folder(tmp_path, {"train": train}, None))


def test_label_unknown_to_train(tmp_path: Path) -> None:
    train = [{"text": "x", "label": name} for name in "ab"]
    splits = {"train": train, "test": [{"text": "x", "label": "c"}]}
    with pytest.raises(DataError, match=r"test\.jsonl:1: unknown label 'c'"):
        load_task(task_folder(tmp_path, splits, None))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (1, "label 1 is ambiguous: index 1 is '2', and there is a label called '1'; write it as text"),
        (3, "label 3 is ambiguous: there is no such index, but there is a label called '3'; write it as text"),
    ],
)
def test_a_number_that_is_an_index_and_another_label(tmp_path: Path, label: int, message: str) -> None:
    """Of labels that are called by numbers, unless they are their own indices."""
    train, test = [{"text": "x", "label": name} for name in "123" * 8], [{"text": "x", "label": label}]
    with pytest.raises(DataError, match=rf"test\.jsonl:1: {message}"):
        load_task(task_folder(tmp_path / "names", {"train": train, "test": test}, None))
    with pytest.raises(DataError, match=rf"test\.jsonl:1: {message}"):
        load_task(task_folder(tmp_path / "meta", {"train": train, "test": test}, {"labels": ["1", "2", "3"]}))
    test[0]["label"] = str(label)
    assert (
        load_task(task_folder(tmp_path / "text", {"train": train, "test": test}, None)).dataset["test"][0]["label"] < 3
    )
    train = [{"text": "x", "label": name} for name in "0123" * 8]
    own = load_task(task_folder(tmp_path / "own", {"train": train, "test": [{"text": "x", "label": label}]}, None))
    assert own.dataset["test"][0]["label"] == label


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("{", r"meta\.json:1: not JSON"),
        ("[" * 100_000, r"meta\.json: not JSON \("),
        ('{"max_length": ' + "9" * 5000 + "}", r"meta\.json: not JSON \("),
        ("[]", r"meta\.json: a JSON object is expected, found list"),
        ('{"labels": ["a"]}', "'labels' must be two or more different names"),
        ('{"labels": ["a", "a"]}', "'labels' must be two or more different names"),
        ('{"labels": {"0": "a"}}', "'labels' must be two or more different names"),
        ('{"name": 3}', "'name' must be a string"),
        ('{"metric": "bleu"}', "'metric' must be one of accuracy, f1, found 'bleu'"),
        ('{"metric": "f1", "labels": ["a", "b", "c"]}', "f1 is for two labels, the task has 3"),
        ('{"max_length": true}', "'max_length' must be a whole number of at least 8, found True"),
    ],
)
def test_bad_meta(tmp_path: Path, meta: str, message: str) -> None:
    folder = task_folder(tmp_path, {"train": texts(20)}, None)
    (folder / "meta.json").write_text(meta)
    with pytest.raises(DataError, match=message):
        load_task(folder)


@pytest.mark.parametrize(("name", "meta"), [("pairs", '{"metric": "f1"}'), ("any", '{"name": "mrpc"}'), ("mrpc", "{}")])
def test_f1_needs_to_know_which_label_it_is_of(tmp_path: Path, name: str, meta: str) -> None:
    rows = [{**row, "label": ("same", "other")[row["label"]]} for row in texts(20)]
    folder = task_folder(tmp_path / name, {"train": rows}, None)
    (folder / "meta.json").write_text(meta)
    with pytest.raises(DataError, match="'labels' must name them in order, found none for 'other' and 'same'"):
        load_task(folder)


def test_neither_task_nor_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sst3: neither a task \(sst2, mrpc, .*movies\) nor an existing path"):
        load_task("sst3")
    with pytest.raises(DataError, match="neither a task .no train.jsonl, .csv, .* nor an ERASER corpus .no docs."):
        load_task(tmp_path)
    (tmp_path / "x.json").write_text("x")
    with pytest.raises(DataError, match=r"nor a file of rows \(.jsonl, .csv, .tsv, .parquet\), nor an archive"):
        load_task(tmp_path / "x.json")


def test_movies_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="^data/eraser/movies: no such folder; `adapler data download` puts"):
        load_task("movies")


def test_a_split_that_is_no_file(tmp_path: Path) -> None:
    """A part of train must not take the place of a validation split that somebody meant to give."""
    folder = task_folder(tmp_path, {"train": texts(20)})
    (folder / "dev.jsonl").symlink_to("moved-away.jsonl")
    with pytest.raises(DataError, match=r"/dev.jsonl: is no file, but a folder or a link that leads nowhere$"):
        load_task(folder)
    (folder / "dev.jsonl").unlink()
    (folder / "validation.jsonl").mkdir()
    with pytest.raises(DataError, match=r"/validation.jsonl: is no file, but a folder or"):
        load_task(folder)
