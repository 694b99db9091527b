from __future__ import annotations

import json
from typing import Any

import pytest

from adapler.eraser import EraserExample
from adapler.errors import ArgumentError, DataError
from app.sources import documents, uploads
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS


def test_a_part_keeps_its_share_of_the_rationale() -> None:
    document = Document("x", "a b c d e f", "POS", ((0, 2), (3, 5)))
    part = document.part(1, 4)
    assert (part.words, part.spans, part.label) == (("b", "c", "d"), ((0, 1), (2, 3)), "POS")
    assert part.rationale.tolist() == [True, False, True]


def test_a_word_of_white_space_does_not_shift_the_rationale() -> None:
    example = EraserExample("x", ("a", "\x85", "b", "c\u2003d"), "POS", ((2, 3),))
    assert documents.of_example(example).words == ("a", "\ufffd", "b", "c\ufffdd")


def test_parts_cover_the_text(tiny_tokenizer: Any) -> None:
    text, label, span = DOCUMENTS["long_1"]
    document = Document("long", text, label, (span,))
    parts = documents.parts_of(document, tiny_tokenizer, limit=40)
    assert parts == ((0, 38), (38, len(document.words)))
    assert sum(int(document.part(*part).rationale.sum()) for part in parts) == 4
    assert documents.parts_of(Document("x", "good film"), tiny_tokenizer, limit=40) == ((0, 2),)
    with pytest.raises(ArgumentError, match="^the text gives no wordpieces: to the model it is an empty one$"):
        documents.parts_of(Document("x", "\u200b"), tiny_tokenizer, limit=40)


def test_a_word_longer_than_the_input_is_a_part_and_words_without_wordpieces_are_none(tiny_tokenizer: Any) -> None:
    long = "good-" * 30
    assert documents.parts_of(Document("x", f"{long} \u200b"), tiny_tokenizer, limit=40) == ((0, 2),)
    assert documents.parts_of(Document("x", f"{long} good film"), tiny_tokenizer, limit=40) == ((0, 1), (1, 3))


def test_a_long_text_is_cut() -> None:
    text = "film " * 10_000
    short = Document("x", text, None, ((0, 2), (5000, 5002))).cut()
    assert len(short.text) == documents.MAX_CHARACTERS and short.spans == ((0, 2),)
    assert Document("x", "film").cut().text == "film"
    pair = Document("x", "film", query="plot " * 10_000).cut()
    assert pair.text == "film" and len(pair.query) == documents.MAX_CHARACTERS
    assert len(Document("x", "f" * 50_000).cut().words[0]) == documents.MAX_CHARACTERS


def test_uploads() -> None:
    assert uploads.read_upload("a.txt", b"\xef\xbb\xbfa film") == (Document("a.txt", "a film"),)
    rows = [
        {"text": "so  dull", "label": "NEG", "query": "how is it ?"},
        {"id": "two", "tokens": ["so", "dull", "!"], "rationale": [0, 1, 1], "label": 3},
    ]
    found = uploads.read_upload("a.JSONL", "\n\n".join(json.dumps(row) for row in rows).encode())
    assert found[0] == Document("line 1", "so dull", "NEG", query="how is it ?", labels=("3", "NEG"))
    assert found[1] == Document("two", "so dull !", "3", ((1, 3),), labels=("3", "NEG"))
    same = "\n".join(json.dumps({"text": text, "query": "one for all"}) for text in ("a", "b"))
    assert {one.query for one in uploads.read_upload("a.jsonl", same.encode())} == {""}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfea\x00", r"a.txt: not UTF-8 text \(byte 0\)"),
        ("a.txt", b" \n", "a.txt: no text in it"),
        ("a.txt", b"x" * 2_000_001, "a.txt: 2.0 MB, at most 2 MB are read"),
        ("a.jsonl", b"", "a.jsonl: holds no lines"),
        ("a.jsonl", b"{", "a.jsonl:1: not JSON"),
        ("a.jsonl", b"\n[1]", "a.jsonl:2: a JSON object is expected"),
        ("a.jsonl", b"{}", "a.jsonl:1: needs a field 'text'"),
        ("a.jsonl", b'{"text": " "}', "a.jsonl:1: no text in it"),
        ("a.jsonl", b'{"text_a": "a"}', "a.jsonl:1: a pair needs the fields 'text_a' and 'text_b', both strings"),
        ("a.jsonl", b'{"text": "a", "label": true}', "field 'label' must be a name or a whole number, found True"),
        ("a.jsonl", b'{"text": "a", "label": [1]}', "field 'label' must be a name or a whole number"),
        ("a.jsonl", b'{"text": "a", "query": 1}', "field 'query' must be a string, found 1"),
        ("a.jsonl", b'{"text": 5}', "a.jsonl:1: field 'text' must be a string, found 5"),
        ("a.jsonl", b'{"text": null}', "a.jsonl:1: field 'text' must be a string, found nothing"),
        ("a.jsonl", b'{"tokens": 5}', "a.jsonl:1: field 'tokens' must be a list of strings, found 5"),
        ("a.jsonl", b'{"tokens": ["a", 5]}', r"must be a list of strings, found \['a', 5\]"),
        ("a.jsonl", b'{"text_a": "a", "text_b": 5}', "both strings; 'text_b' is 5"),
        ("a.jsonl", b'{"tokens": ["a b"]}', "a.jsonl:1: a token is empty or has white space in it"),
        ("a.jsonl", b'{"tokens": ["a"], "rationale": [1, 1]}', "the rationale covers 2 tokens, the text has 1"),
        ("a.jsonl", b'{"tokens": ["a"], "rationale": [2]}', "field 'rationale' must be null, a list of 0 and 1"),
        ("a.jsonl", b'{"text": "a"}\n' * 201, "a.jsonl: more than 200 lines"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        uploads.read_upload(name, content)
    assert "\n" not in str(caught.value)


def test_a_query_that_fills_the_input_is_refused_in_one_line(tiny_tokenizer: Any) -> None:
    document = Document("x", "good film", query="why " * 50)
    with pytest.raises(ArgumentError, match="^the second text alone is 50 tokens long; of both, the model reads 40$"):
        documents.parts_of(document, tiny_tokenizer, limit=40)
