"""A model is trained on the input it is judged on: `encode` and the analysis give the same ids for every document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapler.data import load_task
from adapler.eraser import queries_differ, read_corpus
from adapler.text import encode_dataset
from analysis.corpus import align
from tests.adapler.data.corpora import evidence, files_of, row, rows, write

# As in MultiRC: several examples ask different things of one document.
DOCUMENTS = {"d1": "w0 w1 w2 ab w3 .\nw4 w5 w6 w7 w8", "d2": "w9 ab", "d3": "w10 w11 w12 w13 w14 w15 w16 w17"}
QUESTIONS = [("d1", "a ab c"), ("d1", "b"), ("d1", ""), ("d2", "a ab c"), ("d3", "  d   e "), ("d3", "w1 w2")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    splits = {
        split: [
            row(f"{split}:{n}", "NEG" if n % 2 else "POS", [evidence(docid, 0, 1)], query=query, docids=[docid])
            for n, (docid, query) in enumerate(QUESTIONS)
        ]
        for split in ("train", "val", "test")
    }
    return write(tmp_path / "multirc", files_of(splits, DOCUMENTS))


def test_a_task_has_the_queries_where_they_differ(folder: Path, tmp_path: Path) -> None:
    task = load_task(folder)
    assert task.columns == ("words", "query") and queries_differ(read_corpus(folder))
    assert list(task.dataset["test"]["query"]) == [query for _, query in QUESTIONS]
    assert len(set(task.dataset["train"]["id"])) == len(QUESTIONS), "one document, several examples"
    same = write(tmp_path / "same", files_of({"train": rows()["train"], "val": rows()["train"]}))
    assert load_task(same).columns == ("words",) and not queries_differ(read_corpus(same))


@pytest.mark.parametrize("max_length", [8, 9, 12, 40])
def test_the_ids_of_training_are_those_of_the_analysis(folder: Path, bert_tokenizer: Any, max_length: int) -> None:
    task, corpus = load_task(folder), read_corpus(folder)
    options = {"columns": task.columns, "max_length": max_length}
    rows = list(encode_dataset(task.dataset["test"], bert_tokenizer, **options))
    assert len(rows) == len(corpus.splits["test"])
    for found, example in zip(rows, corpus.splits["test"], strict=True):
        (window,) = align(example, bert_tokenizer, max_length=max_length, with_query=True).windows
        assert found["example_id"] == example.id
        assert found["input_ids"] == window.input_ids.tolist()
        assert window.token_type_ids is not None and found["token_type_ids"] == window.token_type_ids.tolist()


def test_windows_and_last_have_the_analysis_query_in_every_input(folder: Path, bert_tokenizer: Any) -> None:
    """Without overlap, and where no word is cut in two, the windows are those of the policy all-windows."""
    task, corpus = load_task(folder), read_corpus(folder)
    options: dict[str, Any] = {"columns": task.columns, "max_length": 12}
    cut = encode_dataset(task.dataset["test"], bert_tokenizer, truncation="windows", stride=0, **options)
    last = encode_dataset(task.dataset["test"], bert_tokenizer, truncation="last", **options)
    several = 0
    for example, ending in zip(corpus.splits["test"], last, strict=True):
        inputs = [found["input_ids"] for found in cut if found["example_id"] == example.id]
        whole = align(example, bert_tokenizer, max_length=100, with_query=True).windows[0]
        query = whole.input_ids.tolist()[whole.special.tolist().index(True, 1) :]  # from the first [SEP] on
        document = whole.input_ids[~whole.special].tolist()
        room = 12 - 1 - len(query)
        assert all(found[-len(query) :] == query for found in inputs)
        assert [piece for found in inputs for piece in found[1 : -len(query)]] == document
        assert ending["input_ids"] == [whole.input_ids[0], *document[-room:], *query]
        windows = align(example, bert_tokenizer, max_length=12, truncation="all-windows", with_query=True).windows
        several += len(inputs) > 1
        if all(len(window) in (12, len(inputs[-1])) for window in windows):  # no word of two pieces lay on a cut
            assert inputs == [window.input_ids.tolist() for window in windows]
    assert several >= 3
