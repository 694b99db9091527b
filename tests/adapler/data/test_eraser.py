"""Corpora in ERASER layout: packings, evidences, ids, documents, statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapler.data.eraser import EraserCorpus, EraserExample, merge_spans, read_corpus
from adapler.data.statistics import corpus_statistics, find_leaks
from adapler.errors import DataError
from tests.adapler.data.corpora import (
    DOCUMENTS,
    Build,
    broken,
    evidence,
    files_of,
    pack,
    row,
    rows,
    write,
)


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


def test_without_train_any_label_goes(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, files_of({"test": rows()["test"]})))
    assert corpus.labels == ("NEG",) and list(corpus.splits) == ["test"]


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
