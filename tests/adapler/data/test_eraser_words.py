"""The words of a document, as ERASER counts them: in files, and in docs.jsonl."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler.data.eraser import EraserCorpus, read_corpus
from tests.adapler.data.corpora import (
    DOCUMENTS,
    Build,
    evidence,
    files_of,
    row,
    rows,
    write,
)


def test_words_are_found_by_index_not_by_text(corpus_folder: Build) -> None:
    splits = {"train": [row("d", "NEG", [evidence("d", 3, 4, text="bad")])]}
    example = read_corpus(corpus_folder(splits, {"d": "bad but not bad"})).splits["train"][0]
    assert example.spans == ((3, 4),)


def test_a_word_that_holds_white_space_is_the_text_that_quotes_it(corpus_folder: Build) -> None:
    """A tab or a no-break space parts no words, so such a word was called another text than its own."""
    quotes = [evidence("d", 1, 3, text="b\u00a0c d"), evidence("d", 3, 4, text="e\tf"), evidence("d", 0, 1, text="b")]
    example = read_corpus(corpus_folder({"train": [row("d", "NEG", quotes)]}, {"d": "a b\u00a0c d e\tf"})).splits[
        "train"
    ][0]
    assert example.misquoted == ("[0, 1) is 'a', its text 'b'",)


WORDS = st.text("ab.é\t\u2028\u200b\u00a0", min_size=1, max_size=3).filter(lambda text: text == text.strip())


def corpora_of(document: str) -> list[EraserCorpus]:
    """A corpus of one document in docs/, and in docs.jsonl."""
    splits = {"train": [row("d", "NEG", [evidence("d", 0, 1)])]}
    with tempfile.TemporaryDirectory() as folder:
        return [
            read_corpus(write(Path(folder) / str(one_file), files_of(splits, {"d": document}, one_file=one_file)))
            for one_file in (False, True)
        ]


@settings(max_examples=30, deadline=None)
@given(words=st.lists(WORDS, min_size=1), data=st.data())
def test_documents_in_files_are_parted_at_runs_of_spaces_and_line_ends(words: list[str], data: st.DataObject) -> None:
    gap = st.text(" \n\r", min_size=1, max_size=3)
    document = "".join(data.draw(gap) + word for word in words) + data.draw(gap)
    assert corpora_of(document)[0].splits["train"][0].words == tuple(words)


@settings(max_examples=30, deadline=None)
@given(words=st.lists(WORDS, min_size=1), data=st.data())
def test_with_single_gaps_docs_and_docs_jsonl_are_the_same(words: list[str], data: st.DataObject) -> None:
    document = words[0] + "".join(data.draw(st.sampled_from(" \n")) + word for word in words[1:])
    files, one_file = corpora_of(document)
    assert files.splits == one_file.splits and files.checksum == one_file.checksum
    assert files.splits["train"][0].words == tuple(words)


@pytest.mark.parametrize(
    ("document", "in_files", "in_docs_jsonl"),
    [  # the second and third column: what load_flattened_documents of ERASER's rationale_benchmark/utils.py gives
        ("a  b c", ["a", "b", "c"], ["a", "", "b", "c"]),
        ("a b\n\nc\n", ["a", "b", "c"], ["a", "b", "", "c", ""]),
        (" a   b \n c", ["a", "b", "c"], ["a", "", "", "b", "c"]),
        ("a b\r\nc\rd", ["a", "b", "c", "d"], ["a", "b", "c\rd"]),
        ("a\tb\u00a0 \nc", ["a\tb", "c"], ["a\tb", "c"]),
    ],
)
def test_words_are_counted_as_eraser_counts_them(document: str, in_files: list[str], in_docs_jsonl: list[str]) -> None:
    files, one_file = corpora_of(document)
    assert list(files.splits["train"][0].words) == in_files
    assert list(one_file.splits["train"][0].words) == in_docs_jsonl


def test_evidence_in_docs_jsonl_counts_empty_words(corpus_folder: Build) -> None:
    splits = {"train": [row("d", "NEG", [evidence("d", 3, 4, text="bad")])]}
    example = read_corpus(corpus_folder(splits, {"d": "not  a bad film"}, one_file=True)).splits["train"][0]
    assert [example.words[k] for k in range(*example.spans[0])] == ["bad"]


def test_lines_with_any_line_ends_and_marks(tmp_path: Path) -> None:
    files = files_of()
    line = json.dumps(rows()["train"][0] | {"query": "one\u2028two\x85"}, ensure_ascii=False)
    files["train.jsonl"] = "\ufeff" + line + "\r\n\r\n" + json.dumps(rows()["train"][1])
    files["docs/neg_1"] = "\ufeff" + DOCUMENTS["neg_1"].replace("\n", "\r\n")
    corpus = read_corpus(write(tmp_path, files))
    assert corpus.splits["train"][0].query == "one\u2028two\x85"
    assert corpus.splits["train"][0].words[:2] == ("a", "dull")
