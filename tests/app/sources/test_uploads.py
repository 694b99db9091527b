from __future__ import annotations

import json

import pytest

from adapler.errors import DataError
from app.sources.uploads import read_upload


def lines(*rows: dict[str, object]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def test_pairs_are_read_as_the_package_trains_on_them() -> None:
    (one,) = read_upload("pairs.jsonl", lines({"text_a": "a good  film", "text_b": "was it dull ?", "label": 1}))
    assert one.words == ("a", "good", "film") and one.query == "was it dull ?" and one.label == "1"


def test_one_query_for_all_lines_says_nothing() -> None:
    both = read_upload("x.jsonl", lines({"text": "a", "query": "why"}, {"text": "b", "query": "why"}))
    assert [one.query for one in both] == ["", ""]
    (alone,) = read_upload("x.jsonl", lines({"text": "a", "query": "why"}))
    assert alone.query == "why", "of a single line it is what is asked"
    pairs = read_upload("x.jsonl", lines({"text_a": "a", "text_b": "why"}, {"text_a": "b", "text_b": "why"}))
    assert [one.query for one in pairs] == ["why", "why"], "a pair's second text always does"


def test_lines_of_equal_names_are_told_apart() -> None:
    rows = lines(
        {"id": "a", "text": "one"}, {"id": "a", "text": "two"}, {"id": "line 4", "text": "three"}, {"text": "four"}
    )
    assert [one.name for one in read_upload("x.jsonl", rows)] == ["a", "a (2)", "line 4", "line 4 (2)"]


def test_an_id_that_names_nothing_is_the_line_s_number() -> None:
    rows = lines(*({"id": name, "text": "one"} for name in ("", " ", True, None, 7)))
    assert [one.name for one in read_upload("x.jsonl", rows)] == ["line 1", "line 2", "line 3", "line 4", "7"]


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(DataError, match="x.jsonl:1: a pair needs the fields 'text_a' and 'text_b', both strings"):
        read_upload("x.jsonl", lines({"text_a": "a good film"}))


@pytest.mark.parametrize(("name", "found"), [("a.csv", "a .csv file"), ("a.json", "a .json file"), ("a", "no suffix")])
def test_a_file_of_another_kind_is_no_text(name: str, found: str) -> None:
    with pytest.raises(DataError, match=f"^{name}: found {found}; .txt or .jsonl is read$"):
        read_upload(name, b"text,label\ngood film,1\n")


def test_a_line_without_a_text_says_what_it_has() -> None:
    with pytest.raises(DataError, match="x.jsonl:1: needs a field 'text' .*, found 'sentence', 'label'$"):
        read_upload("x.jsonl", lines({"sentence": "a good film", "label": 1}))


def test_a_query_of_null_is_none() -> None:
    (one,) = read_upload("x.jsonl", lines({"text": "a good film", "query": None, "label": None, "rationale": None}))
    assert one.query == ""
