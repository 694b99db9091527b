"""Texts of a corpus and out of files: parts that the model reads whole, labels, uploads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapler.eraser import read_corpus
from adapler.errors import ArgumentError, DataError
from app.documents import Document, of_split, parts_of, read_upload


def test_documents_of_a_split(app_corpus: Path) -> None:
    one = of_split(read_corpus(app_corpus), "test", title="films")[0]
    assert (one.name, one.label, one.spans, one.query, one.source) == ("neg_1", "NEG", ((3, 5),), "", "films, test")
    assert one.called() == "NEG: the film is not good and the ..."
    assert one.gold_index(["positive", "negative"]) == 1 and one.gold_index(["a", "b"]) is None
    part = one.between(4, 8, part="part 2")
    assert part.words == ("good", "and", "the", "plot") and part.spans == ((0, 1),)


def test_parts_are_read_whole_and_hold_every_word(tiny_tokenizer: Any) -> None:
    document = Document("long", "good,bad " * 40)
    parts = parts_of(document, tiny_tokenizer, limit=20)
    assert parts[0] == (0, 6) and parts[-1][1] == 40, "six words of three wordpieces beside two special tokens"
    assert [end for _, end in parts[:-1]] == [start for start, _ in parts[1:]]
    assert parts_of(Document("one", ",".join(["good"] * 50)), tiny_tokenizer, limit=20) == ((0, 1),)
    with pytest.raises(ArgumentError, match="gives no wordpieces"):
        parts_of(Document("blank", "\u200b"), tiny_tokenizer, limit=20)
    with pytest.raises(ArgumentError, match="the second text alone is 39 tokens long"):
        parts_of(Document("pair", "good", query="film " * 39), tiny_tokenizer, limit=40)


def test_uploads() -> None:
    assert read_upload("a.txt", b"\xef\xbb\xbfgood  film\n")[0].text == "good film"
    rows = [
        {"id": 7, "tokens": ["so", "dull"], "label": 0, "rationale": [[0, 1], [0, 1], [1, 0]]},
        {"text_a": "one text", "text_b": "two", "label": 1},
    ]
    first, second = read_upload("a.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert (first.name, first.label, first.spans, first.labels) == ("7", "0", ((1, 2),), ("0", "1"))
    assert (second.text, second.query) == ("one text", "two")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"x", "a .csv file; .txt or .jsonl is read"),
        ("a.txt", b"caf\xe9", r"not UTF-8 text \(byte 3\)"),
        ("a.txt", b" \n", "no text in it"),
        ("a.txt", b"x" * 2_000_001, "2.0 MB, at most 2 MB"),
        ("a.jsonl", b"", "holds no lines"),
        ("a.jsonl", b'{"text": "a"}\n{', "a.jsonl:2: not JSON"),
        ("a.jsonl", b'{"text": " "}', "a.jsonl:1: needs `text`, `text_a` or `tokens`"),
        ("a.jsonl", b'{"text": 5, "label": true}', "a.jsonl:1: label"),
        ("a.jsonl", b'{"tokens": ["a", "b"], "rationale": [1]}', "0 or 1 for each of the 2 tokens"),
    ],
)
def test_bad_uploads(name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_upload(name, content)
