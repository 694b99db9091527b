"""Annotated documents, with tokens and queries, are tasks too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapler.data.tasks import load_task
from adapler.errors import DataError
from analysis.documents.corpora import read_json_lines
from tests.adapler.data.folders import Rows, task_folder

LABELS_AB = {"labels": ["a", "b"]}


def tokens(count: int, **extra: Any) -> Rows:
    return [{"tokens": ["t", str(n)], "label": "ab"[n % 2], "rationale": [0, 1], **extra} for n in range(count)]


def test_annotated_documents_are_a_task(tmp_path: Path) -> None:
    """What the analysis evaluates (`tokens`) can be trained on: a folder, and a single file."""
    folder = task_folder(tmp_path / "posts", {"train": tokens(20), "dev": tokens(4), "test": tokens(2)}, None)
    task = load_task(folder)
    assert (task.name, task.labels, task.columns, task.max_length) == ("posts", ("a", "b"), ("words",), 512)
    assert task.is_split_into_words and task.notes == ()
    assert task.dataset["validation"].num_rows == 4, "dev.jsonl is the analysis' name of it"
    assert task.dataset["test"][1] == {"id": "test-1", "words": ["t", "1"], "label": 1}
    alone = load_task(folder / "train.jsonl")
    assert (alone.name, list(alone.dataset)) == ("train", ["train", "validation"])
    assert alone.dataset["train"].num_rows == 18 and "2 of the 20 rows of train" in alone.notes[0]
    corpus = read_json_lines(folder, split="test")
    assert [list(e.words) for e in corpus.splits["test"]] == list(task.dataset["test"]["words"])
    assert [e.label for e in corpus.splits["test"]] == [task.labels[label] for label in task.dataset["test"]["label"]]


def test_queries_of_annotated_documents(tmp_path: Path) -> None:
    splits = {"train": tokens(4, query="why ?"), "validation": tokens(2, query="why ?")}
    assert load_task(task_folder(tmp_path / "same", splits, LABELS_AB)).columns == ("words",)
    del splits["validation"][1]["query"]
    task = load_task(task_folder(tmp_path / "differ", splits, LABELS_AB))
    assert task.columns == ("words", "query") and task.max_length == 512
    assert list(task.dataset["validation"]["query"]) == ["why ?", ""]


def test_rows_of_text_and_tokens_are_text_and_a_note_says_so(tmp_path: Path) -> None:
    rows = [{**row, "text": "t"} for row in tokens(4)]
    task = load_task(task_folder(tmp_path, {"train": rows, "validation": rows, "val": rows}, LABELS_AB))
    assert task.columns == ("text_a",)
    assert task.notes == (
        "validation: validation.jsonl; val.jsonl is not read",
        "rows have both text and tokens: text is read here, tokens by the analysis",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": "a b"}, r"train\.jsonl:2: field 'tokens' must be a list of strings, found 'a b'"),
        ({"tokens": ["a", 3]}, r":2: field 'tokens' must be a list of strings"),
        ({"tokens": None, "text": "a"}, r":2: field 'tokens' must be a list of strings, found nothing"),
        ({"tokens": ["", " "]}, r":2: field 'tokens' holds no word"),
    ],
)
def test_bad_tokens(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_task(task_folder(tmp_path, {"train": [*tokens(1), {**tokens(1)[0], **change}]}, LABELS_AB))
