from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler.data.eraser import EraserCorpus, EraserExample, merge_spans, read_corpus
from adapler.data.statistics import corpus_statistics, find_leaks
from adapler.errors import DataError
from tests.adapler.data.corpora import (
    DOCUMENTS,
    evidence,
    files_of,
    pack,
    row,
    rows,
    write,
)

Build = Callable[..., Path]


def test_both_shapes_of_evidence(corpus_folder: Build) -> None:
    corpus = read_corpus(corpus_folder())
    assert (corpus.name, corpus.labels, list(corpus.splits)) == ("movies", ("NEG", "POS"), ["train", "test"])
    first, bare = corpus.splits["train"]
    assert first.words == ("a", "dull", "film", ".", "it", "never", "ends", ".")
    assert first.spans == ((1, 3), (5, 7))
    assert first.rationale().tolist() == [False, True, True, False, False, True, True, False]
    assert (first.id, first.label, first.query) == ("neg_1", "NEG", "What is the sentiment?")
    assert bare.spans == () and bare.rationale().dtype == np.bool_ and not bare.rationale().any()
    assert corpus.splits["test"][0].spans == ((0, 2),)  # overlapping evidences are one span


def test_words_are_found_by_index_not_by_text(corpus_folder: Build) -> None:
    splits = {"train": [row("d", "NEG", [evidence("d", 3, 4, text="bad")])]}
    example = read_corpus(corpus_folder(splits, {"d": "bad but not bad"})).splits["train"][0]
    assert example.spans == ((3, 4),)


def test_same_corpus_in_every_packing(corpus_folder: Build, tmp_path: Path) -> None:
    folder = corpus_folder()
    one_file = write(tmp_path / "other", files_of(one_file=True))
    packed = [
        pack(tmp_path / "a.tar.gz", files_of()),
        pack(tmp_path / "b.tgz", files_of(one_file=True)),
        pack(tmp_path / "c.tar", files_of(), mode="w"),
        pack(tmp_path / "d.tar.xz", files_of(), prefix="./movies/", mode="w:xz"),
        pack(tmp_path / "e.tar.gz", files_of(), prefix="eraser/v1/movies/"),
    ]
    expected = read_corpus(folder)
    for path in (one_file, *packed):
        corpus = read_corpus(path)
        assert corpus.splits == expected.splits and corpus.checksum == expected.checksum
        assert corpus.source == str(path)
    assert [read_corpus(path).name for path in packed] == ["movies"] * 5
    assert read_corpus(pack(tmp_path / "flat.tar.gz", files_of(), prefix="")).name == "flat"


def test_checksum_sees_every_field(tmp_path: Path) -> None:
    base = row("neg_1", "NEG", [evidence("neg_1", 1, 3)])
    changes: list[dict[str, Any]] = [
        base,
        base | {"classification": "POS"},
        base | {"query": "?"},
        base | {"evidences": [[evidence("neg_1", 1, 2)]]},
        base | {"annotation_id": "other", "docids": ["neg_1"]},
    ]
    checksums = {
        read_corpus(write(tmp_path / str(n), files_of({"train": [changed]}))).checksum
        for n, changed in enumerate(changes)
    }
    assert len(checksums) == len(changes)


def test_a_folder_around_the_corpus(corpus_folder: Build, tmp_path: Path) -> None:
    corpus_folder()
    assert read_corpus(tmp_path).name == "movies"
    write(tmp_path / "sample", files_of())
    with pytest.raises(DataError, match=r"holds 2 corpora \(movies, sample\)"):
        read_corpus(tmp_path)


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


def test_ids_may_be_numbers(corpus_folder: Build) -> None:
    """As in BoolQ's files; the id of a file is its name."""
    numbered = row("", "NEG", [evidence("7", 0, 1) | {"docid": 7}], docids=[7]) | {"annotation_id": 12}
    splits = {"train": [numbered, row("", "POS") | {"annotation_id": 7}]}
    for one_file in (False, True):
        first, second = read_corpus(corpus_folder(splits, {"7": "a b"}, one_file=one_file)).splits["train"]
        assert (first.id, first.spans, first.documents) == ("12", ((0, 1),), (("7", 2),))
        assert (second.id, second.words) == ("7", ("a", "b"))
    splits["train"].append(row("12", "NEG", docids=["7"]))
    with pytest.raises(DataError, match=r"train\.jsonl:3: annotation id '12' appears twice"):
        read_corpus(corpus_folder(splits, {"7": "a b"}))


ranges = st.tuples(st.integers(0, 29), st.integers(1, 10)).map(lambda pair: (pair[0], min(30, pair[0] + pair[1])))


@given(st.lists(ranges))
def test_merged_spans_are_the_runs_of_the_union(spans: list[tuple[int, int]]) -> None:
    union = np.zeros(30, dtype=bool)
    for start, end in spans:
        union[start:end] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], union.astype(int), [0]])))
    merged = merge_spans(spans)
    assert merged == tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))
    example = EraserExample("d", ("w",) * 30, "NEG", merged, "")
    assert (example.rationale() == union).all()
    assert merge_spans(merged) == merged


def test_documents_are_joined_in_order_of_first_mention(corpus_folder: Build) -> None:
    documents = {"x": "x0 x1", "y": "y0 y1 y2", "z": "z0", "own": "o0 o1"}
    evidences = [[evidence("y", 1, 3)], [evidence("x", 0, 1), evidence("y", 0, 1)]]
    splits = {
        "train": [
            row("no file", "NEG", *evidences),
            row("listed", "NEG", *evidences, docids=["z", "x"]),
            row("own", "POS", *evidences),
        ]
    }
    free, listed, own = read_corpus(corpus_folder(splits, documents)).splits["train"]
    assert free.words == ("y0", "y1", "y2", "x0", "x1") and free.spans == ((0, 4),)
    assert listed.words == ("z0", "x0", "x1", "y0", "y1", "y2") and listed.spans == ((1, 2), (3, 6))
    assert own.words == ("o0", "o1", "y0", "y1", "y2", "x0", "x1") and own.spans == ((2, 6),)


def test_an_empty_evidence_with_empty_text_marks_nothing(corpus_folder: Build) -> None:
    splits = {"train": [row("neg_2", "NEG", [evidence("neg_2", 1, 1, text=""), evidence("neg_2", 0, 1)])]}
    assert read_corpus(corpus_folder(splits)).splits["train"][0].spans == ((0, 1),)


def test_lines_with_any_line_ends_and_marks(tmp_path: Path) -> None:
    files = files_of()
    line = json.dumps(rows()["train"][0] | {"query": "one\u2028two\x85"}, ensure_ascii=False)
    files["train.jsonl"] = "\ufeff" + line + "\r\n\r\n" + json.dumps(rows()["train"][1])
    files["docs/neg_1"] = "\ufeff" + DOCUMENTS["neg_1"].replace("\n", "\r\n")
    corpus = read_corpus(write(tmp_path, files))
    assert corpus.splits["train"][0].query == "one\u2028two\x85"
    assert corpus.splits["train"][0].words[:2] == ("a", "dull")


def broken(**changes: Any) -> str:
    return json.dumps({k: v for k, v in (rows()["train"][0] | changes).items() if v is not ...})


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


def test_without_train_any_label_goes(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, files_of({"test": rows()["test"]})))
    assert corpus.labels == ("NEG",) and list(corpus.splits) == ["test"]


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


def test_statistics_by_hand(corpus_folder: Build) -> None:
    splits = rows()
    splits["train"].append(row("neg_2", "NEG", [evidence("neg_2", 0, 1)]))
    splits["test"] = [row("pos_1", "POS")]
    train, test = corpus_statistics(read_corpus(corpus_folder(splits)))
    assert train == {
        "split": "train",
        "documents": 3,
        "labels": {"NEG": 2, "POS": 1},
        "words_min": 2,
        "words_median": 8.0,
        "words_max": 8,
        "density_mean": pytest.approx((4 / 8 + 1 / 2) / 2),
        "density_pooled": pytest.approx((4 + 1) / (8 + 2)),
        "spans_per_document": 1.5,
        "without_evidence": 1,
    }
    assert (test["density_mean"], test["density_pooled"], test["spans_per_document"]) == (None, None, None)


def test_leaks_by_id_and_by_text() -> None:
    def example(name: str, text: str) -> EraserExample:
        return EraserExample(name, tuple(text.split()), "NEG", (), "")

    splits = {
        "train": (example("a", "one two"), example("b", "three"), example("c", "four")),
        "val": (example("a", "changed"), example("d", "three"), example("e", "five")),
        "test": (example("f", "five"), example("g", "six")),
    }
    leaks = find_leaks(EraserCorpus("n", "s", "0", ("NEG",), splits))
    assert [str(leak) for leak in leaks] == [
        "train a and val a have the same id",
        "train b and val d have the same text",
        "val e and test f have the same text",
    ]


def test_evidences_are_kept_as_they_stand_beside_the_merged_spans(tmp_path: Path) -> None:
    files = files_of(documents=DOCUMENTS)
    marks = [[evidence("neg_1", 0, 2), evidence("neg_1", 2, 4), evidence("neg_1", 8, 8, text="")]]
    files["train.jsonl"] += broken(annotation_id="n", evidences=marks) + "\n"
    example = read_corpus(write(tmp_path, files)).splits["train"][-1]
    assert example.spans == ((0, 4),)
    assert example.evidences == (("neg_1", 0, 2), ("neg_1", 2, 4), ("neg_1", 8, 8))
