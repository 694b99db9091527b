"""Corpora that cannot be read: one line that names the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapler.data.eraser import read_corpus
from adapler.errors import DataError
from tests.adapler.data.corpora import (
    DOCUMENTS,
    Build,
    broken,
    evidence,
    files_of,
    rows,
    write,
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"train\.jsonl:3: not JSON"),
        ("[" * 100_000, r"train\.jsonl:3: not JSON"),
        ("[1]", r"train\.jsonl:3: a JSON object is expected, found list"),
        (
            broken(annotation_id=...),
            r"train\.jsonl:3: field 'annotation_id' must be a string with text or a n",
        ),
        (broken(annotation_id=True), r"field 'annotation_id' must be a string with text or a number, found True"),
        (broken(annotation_id=7.0), r"field 'annotation_id' must be a string with text or a number, found 7.0"),
        (broken(annotation_id="neg_1"), r"train\.jsonl:3: annotation id 'neg_1' appears twice"),
        (broken(annotation_id="n", classification=...), r":3: field 'classification' must"),
        (broken(annotation_id="n", classification=" "), r":3: field 'classification' must"),
        (broken(annotation_id="n", evidences=...), r":3: field 'evidences' must be a list of groups"),
        (broken(annotation_id="n", evidences=[{}]), r":3: each group in 'evidences' must be a list"),
        (broken(annotation_id="n", evidences=[[3]]), r":3: an evidence must be an object, found 3"),
        (broken(annotation_id="n", evidences=[[{"docid": "neg_1", "end_token": 1}]]), r"'start_token' must be a whole"),
        (broken(annotation_id="n", evidences=[[evidence("neg_1", True, 2)]]), r"'start_token' must be a whole number"),
        (broken(annotation_id="n", evidences=[[evidence("neg_1", 0, 1.0)]]), r"'end_token' must be a whole number"),  # type: ignore[arg-type]
        (broken(annotation_id="n", evidences=[[evidence("neg_1", -1, 2)]]), r"\[-1, 2\) is out of range"),
        (broken(annotation_id="n", evidences=[[evidence("neg_1", 7, 9)]]), r":3: evidence \[7, 9\).* 'neg_1' has 8"),
        (broken(annotation_id="n", evidences=[[evidence("neg_1", 3, 3)]]), r"\[3, 3\) is out of range"),
        (broken(annotation_id="n", evidences=[[evidence("neg_1", 4, 3, text="")]]), r"\[4, 3\) is out of range"),
        (broken(annotation_id="n", evidences=[[evidence("../x", 0, 1)]]), r":3: document '../x' is missing from docs"),
        (broken(annotation_id="n", evidences=[]), r":3: no document is named 'n'"),
        (broken(annotation_id="n", docids="neg_1"), r":3: field 'docids' must be null or a list"),
        (broken(annotation_id="n", docids=["nowhere"]), r":3: document 'nowhere' is missing"),
        (broken(annotation_id="empty", evidences=[]), r":3: document 'empty' is empty"),
        (
            broken(annotation_id="n", query=["is", "it"]),
            r":3: field 'query' must be a text or null, found \['is', 'it'\]",
        ),
        (broken(annotation_id="n", query="\ud800"), r":3: holds half of a surrogate pair"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    files = files_of(documents=DOCUMENTS | {"empty": " \n"})
    files["train.jsonl"] += line + "\n"
    with pytest.raises(DataError, match=message) as caught:
        read_corpus(write(tmp_path / "corpus", files))
    assert "\n" not in str(caught.value)


def test_label_unknown_to_train(corpus_folder: Build) -> None:
    splits = rows()
    splits["test"][0]["classification"] = "neg"
    with pytest.raises(DataError, match=r"test\.jsonl:1: label 'neg' of 'neg_2' is not in train, which has NEG, POS"):
        read_corpus(corpus_folder(splits))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"docs.jsonl": '{"docid": "a"}'}, r"docs\.jsonl:1: field 'document' must be a string, found nothing"),
        ({"docs.jsonl": '{"document": "a"}'}, r"docs\.jsonl:1: field 'docid' must be"),
        (
            {"docs.jsonl": '{"docid":"a","document":"b"}\n{"docid":"a","document":"b"}'},
            ":2: document 'a' appears twice",
        ),
        ({"docs.jsonl": None}, "has neither docs/ nor docs.jsonl"),
        ({"train.jsonl": None, "test.jsonl": None}, r"no train\.jsonl, no val\.jsonl, no test\.jsonl"),
        ({"train.jsonl": "\n"}, r"train\.jsonl: holds no examples"),
    ],
)
def test_bad_files(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    files = {**files_of(one_file=True), **change}
    folder = write(tmp_path / "c", {name: text for name, text in files.items() if text is not None})
    with pytest.raises(DataError, match=message):
        read_corpus(folder)


def test_text_that_is_not_utf8(corpus_folder: Build) -> None:
    folder = corpus_folder()
    (folder / "docs" / "neg_1").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"docs/neg_1: not UTF-8 text \(byte 3\)"):
        read_corpus(folder)


def test_paths_that_are_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_corpus(tmp_path / "nothing")
    (tmp_path / "movies.zip").write_text("x")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        read_corpus(tmp_path / "movies.zip")
