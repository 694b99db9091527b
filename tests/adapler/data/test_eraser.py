"""Corpora in ERASER layout: packings, evidences, words, statistics, leaks, installation, damaged input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapler.eraser import (
    EraserCorpus,
    EraserExample,
    corpus_statistics,
    find_leaks,
    install_movies,
    merge_spans,
    misquoted_note,
    read_corpus,
)
from adapler.errors import ArgumentError, DataError
from tests.adapler.data.corpora import DOCUMENTS, Build, broken, evidence, files_of, pack, row, rows, write

SAMPLE = Path(__file__).parents[3] / "data" / "eraser" / "sample"


def test_both_shapes_of_evidence(corpus_folder: Build) -> None:
    corpus = read_corpus(corpus_folder())
    assert (corpus.name, corpus.labels, list(corpus.splits)) == ("movies", ("NEG", "POS"), ["train", "test"])
    first, bare = corpus.splits["train"]
    assert first.words == ("a", "dull", "film", ".", "it", "never", "ends", ".")
    assert first.spans == ((1, 3), (5, 7))
    assert first.rationale().tolist() == [False, True, True, False, False, True, True, False]
    assert (first.id, first.label, first.query) == ("neg_1", "NEG", "What is the sentiment?")
    assert bare.spans == () and not bare.rationale().any()
    test = corpus.splits["test"][0]
    assert test.spans == ((0, 2),)  # overlapping evidences are one span
    assert test.evidences == (("neg_2", 0, 1), ("neg_2", 0, 2))


def test_same_corpus_in_every_packing(corpus_folder: Build, tmp_path: Path) -> None:
    expected = read_corpus(corpus_folder())
    assert read_corpus(tmp_path).name == "movies", "a folder around it"
    packed = [
        pack(tmp_path / "a.tar.gz", files_of()),
        pack(tmp_path / "b.tgz", files_of(one_file=True)),
        pack(tmp_path / "c.tar.xz", files_of(), prefix="./movies/", mode="w:xz"),
        pack(tmp_path / "d.tar", files_of(), prefix="eraser/movies/", mode="w"),
    ]
    for path in (write(tmp_path / "other", files_of(one_file=True)), *packed):
        corpus = read_corpus(path)
        assert corpus.splits == expected.splits and corpus.checksum == expected.checksum
        assert corpus.source == str(path)
    assert read_corpus(pack(tmp_path / "flat.tar.gz", files_of(), prefix="")).name == "flat"
    with pytest.raises(DataError, match=r"holds 2 corpora \(movies, other\)"):
        read_corpus(tmp_path)


def test_checksum_sees_every_field(tmp_path: Path) -> None:
    base = row("neg_1", "NEG", [evidence("neg_1", 1, 3)])
    changes: list[dict[str, Any]] = [
        base,
        base | {"classification": "POS"},
        base | {"query": "?"},
        base | {"evidences": [[evidence("neg_1", 1, 2)]]},
        base | {"annotation_id": "other", "docids": ["neg_1"]},
    ]
    folders = [write(tmp_path / str(n), files_of({"train": [changed]})) for n, changed in enumerate(changes)]
    assert len({read_corpus(folder).checksum for folder in folders}) == len(changes)


def test_ids_may_be_numbers(corpus_folder: Build) -> None:
    numbered = row("", "NEG", [evidence("7", 0, 1) | {"docid": 7}], docids=[7]) | {"annotation_id": 12}
    first = read_corpus(corpus_folder({"train": [numbered]}, {"7": "a b"})).splits["train"][0]
    assert (first.id, first.spans, first.documents) == ("12", ((0, 1),), (("7", 2),))


ranges = st.tuples(st.integers(0, 29), st.integers(1, 10)).map(lambda pair: (pair[0], min(30, pair[0] + pair[1])))


@given(st.lists(ranges))
def test_merged_spans_are_the_runs_of_the_union(spans: list[tuple[int, int]]) -> None:
    union = np.zeros(30, dtype=bool)
    for start, end in spans:
        union[start:end] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], union.astype(int), [0]])))
    merged = merge_spans(spans)
    assert merged == tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))
    assert (EraserExample("d", ("w",) * 30, "NEG", merged, "").rationale() == union).all()


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


def test_words_are_found_by_index_not_by_text(corpus_folder: Build) -> None:
    marks = [evidence("d", 3, 4, text="bad"), evidence("d", 1, 1, text="")]  # an empty one marks nothing
    example = read_corpus(corpus_folder({"train": [row("d", "NEG", marks)]}, {"d": "bad but not bad"})).splits["train"]
    assert example[0].spans == ((3, 4),) and len(example[0].evidences or ()) == 2


def test_evidences_that_quote_another_text_are_told(corpus_folder: Build) -> None:
    quotes = [evidence("d", 1, 3, text="b\u00a0c d"), evidence("d", 0, 1, text="b"), evidence("d", 0, 1)]
    corpus = read_corpus(corpus_folder({"train": [row("d", "NEG", quotes)]}, {"d": "a b\u00a0c d"}))
    assert corpus.splits["train"][0].misquoted == ("[0, 1) is 'a', its text 'b'",)
    assert str(misquoted_note(corpus, "train")).startswith("train: 1 of 3 evidences quote another text")


@pytest.mark.parametrize(
    ("document", "in_files", "in_docs_jsonl"),
    [  # the second and third column: what load_flattened_documents of ERASER's rationale_benchmark/utils.py gives
        ("a b\nc", ["a", "b", "c"], ["a", "b", "c"]),
        ("a  b c", ["a", "b", "c"], ["a", "", "b", "c"]),
        ("a b\n\nc\n", ["a", "b", "c"], ["a", "b", "", "c", ""]),
        (" a   b \n c", ["a", "b", "c"], ["a", "", "", "b", "c"]),
        ("a b\r\nc\rd", ["a", "b", "c", "d"], ["a", "b", "c\rd"]),
        ("a\tb\u00a0 \nc\u2028d", ["a\tb", "c\u2028d"], ["a\tb", "c\u2028d"]),
    ],
)
def test_words_are_counted_as_eraser_counts_them(
    tmp_path: Path, document: str, in_files: list[str], in_docs_jsonl: list[str]
) -> None:
    splits = {"train": [row("d", "NEG", [evidence("d", 0, 1)])]}
    for one_file, expected in ((False, in_files), (True, in_docs_jsonl)):
        folder = write(tmp_path / str(one_file), files_of(splits, {"d": document}, one_file=one_file))
        assert list(read_corpus(folder).splits["train"][0].words) == expected


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
    assert leaks == [
        "train a and val a have the same id",
        "train b and val d have the same text",
        "val e and test f have the same text",
    ]


# ---- Damaged input


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"train\.jsonl:3: not JSON"),
        ("[1]", r"train\.jsonl:3: a JSON object is expected, found list"),
        (broken(annotation_id="neg_1"), r"train\.jsonl:3: annotation id 'neg_1' appears twice"),
        (broken(annotation_id="n", classification=...), r":3: classification: Field required"),
        (broken(annotation_id="n", evidences=[{}]), r":3: evidences\.0: Input should be a valid list"),
        (broken(annotation_id="n", evidences=[[evidence("neg_1", 7, 9)]]), r":3: evidence \[7, 9\).* 'neg_1' has 8"),
        (broken(annotation_id="n", evidences=[[evidence("neg_1", -1, 2)]]), r"\[-1, 2\) is out of range"),
        (broken(annotation_id="n", evidences=[[evidence("neg_1", 3, 3)]]), r"\[3, 3\) is out of range"),
        (broken(annotation_id="n", evidences=[[evidence("gone", 0, 1)]]), r":3: document 'gone' is missing from docs"),
        (broken(annotation_id="n", evidences=[]), r":3: no document is named 'n'"),
        (broken(annotation_id="empty", evidences=[]), r":3: document 'empty' is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    files = files_of(documents=DOCUMENTS | {"empty": " \n"})
    files["train.jsonl"] += line + "\n"
    with pytest.raises(DataError, match=message) as caught:
        read_corpus(write(tmp_path / "corpus", files))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"docs.jsonl": '{"docid": "a"}'}, r"docs\.jsonl:1: needs a new 'docid' and a text"),
        ({"docs.jsonl": None}, "has neither docs/ nor docs.jsonl"),
        ({"train.jsonl": None, "test.jsonl": None}, r"no train\.jsonl, no val\.jsonl, no test\.jsonl"),
        ({"train.jsonl": "\n"}, r"train\.jsonl: holds no examples"),
        ({"test.jsonl": json.dumps(row("neg_2", "neg"))}, r"test\.jsonl:1: label 'neg' is not in train"),
    ],
)
def test_bad_files(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    files = {**files_of(one_file=True), **change}
    with pytest.raises(DataError, match=message):
        read_corpus(write(tmp_path / "c", {name: text for name, text in files.items() if text is not None}))


def test_archives_that_cannot_be_read(tmp_path: Path) -> None:
    whole = pack(
        tmp_path / "movies.tar.gz", files_of(documents=DOCUMENTS | {"long": "".join(map(chr, range(33, 9000)))})
    )
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"cut\.tar\.gz: not a complete tar archive"):
        read_corpus(tmp_path / "cut.tar.gz")
    with pytest.raises(DataError, match="not a complete tar archive.*outside"):
        read_corpus(pack(tmp_path / "bad.tar", files_of(), prefix="../", mode="w"))
    with pytest.raises(DataError, match=r"^\S*/x\.tar/movies/train\.jsonl:1: not JSON"):
        read_corpus(pack(tmp_path / "x.tar", files_of() | {"train.jsonl": "{"}, mode="w"))
    with pytest.raises(DataError, match="no such file or folder"):
        read_corpus(tmp_path / "nothing")


# ---- Installation


def test_install_an_archive(tmp_path: Path) -> None:
    archive = pack(tmp_path / "given.tar.gz", files_of(), prefix="some/movies/")
    write(tmp_path / "to" / "movies", files_of() | {"docs/old": "old"})
    folder = install_movies(tmp_path / "to", archive=archive)
    corpus = read_corpus(folder)
    assert corpus.checksum == read_corpus(archive).checksum and not (folder / "docs" / "old").exists()
    record = json.loads((folder / "SOURCE.json").read_text())
    assert record["source"] == "given.tar.gz" and record["corpus_checksum"] == corpus.checksum
    assert record["examples"] == {"train": 2, "test": 1}
    assert install_movies(tmp_path / "to", archive=archive, expected_sha256=record["sha256"].upper()) == folder
    with pytest.raises(DataError, match="sha256 is .*, expected ab"):
        install_movies(tmp_path / "other", archive=archive, expected_sha256="ab")
    with pytest.raises(DataError, match="holds no examples"):
        install_movies(
            tmp_path / "other", archive=pack(tmp_path / "bad.tar", files_of() | {"test.jsonl": ""}, mode="w")
        )
    assert not (tmp_path / "other").exists()
    (tmp_path / "mine" / "movies").mkdir(parents=True)
    (tmp_path / "mine" / "movies" / "holiday.mp4").write_text("x")
    with pytest.raises(ArgumentError, match="exists and is not an ERASER corpus"):
        install_movies(tmp_path / "mine", archive=archive)


def test_download(tmp_path: Path) -> None:
    archive = pack(tmp_path / "movies.tar.gz", files_of())
    folder = install_movies(tmp_path / "to", url=archive.as_uri())
    assert json.loads((folder / "SOURCE.json").read_text())["source"] == archive.as_uri()
    with pytest.raises(DataError, match=r"download failed \(.*--archive FILE$"):
        install_movies(tmp_path / "other", url=(tmp_path / "nothing.tar.gz").as_uri())
    assert not (tmp_path / "other").exists()


# ---- The embedded sample, and the real corpus


def test_the_sample_is_what_its_readme_says() -> None:
    corpus = read_corpus(SAMPLE)
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for row_ in corpus_statistics(corpus):
        assert 90 <= row_["words_min"] and row_["words_max"] <= 250
        assert f"{row_['density_mean'] * 100:.1f} %" in readme, "README tells another density"
        assert len(set(row_["labels"].values())) == 1, "not balanced"
    assert {split: len(examples) for split, examples in corpus.splits.items()} == {"train": 90, "val": 36, "test": 44}
    assert not any(example.misquoted for examples in corpus.splits.values() for example in examples)
    assert find_leaks(corpus) == []


@pytest.mark.parametrize("with_punctuation", [True, False])
def test_no_two_documents_of_the_sample_share_a_run_of_eight_words(with_punctuation: bool) -> None:
    owner: dict[tuple[str, ...], str] = {}
    for examples in read_corpus(SAMPLE).splits.values():
        for example in examples:
            words = [word for word in example.words if with_punctuation or re.search(r"\w", word)]
            for start in range(len(words) - 7):
                run = tuple(words[start : start + 8])
                assert owner.setdefault(run, example.id) == example.id, f"{example.id}: {' '.join(run)}"


@pytest.mark.slow
def test_real_movies(development_data: Callable[[str], Path], tmp_path: Path) -> None:
    corpus = read_corpus(development_data("eraser/movies.tar.gz"))
    sizes = {split: len(examples) for split, examples in corpus.splits.items()}
    assert sizes == {"train": 1600, "val": 200, "test": 199} and corpus.labels == ("NEG", "POS")
    assert corpus.checksum.startswith("8ac0ed6f6cff8e77"), "the published results name this checksum"
    bare = [example.id for examples in corpus.splits.values() for example in examples if not example.spans]
    assert bare == ["posR_161.txt"]
    density = {row["split"]: row["density_mean"] for row in corpus_statistics(corpus)}
    assert density["test"] == pytest.approx(0.314, abs=5e-4) and density["val"] == pytest.approx(0.072, abs=5e-4)
    test = corpus.splits["test"]
    assert sum(len(example.words) > 510 for example in test) == 164
    beyond = np.array([example.rationale()[510:].sum() for example in test])
    marked = np.array([example.rationale().sum() for example in test])
    # Rationale that a window of 512 tokens cannot see, at best: the mean share of a document, and of all words.
    assert (beyond / marked).mean() == pytest.approx(0.404, abs=5e-4)
    assert beyond.sum() / marked.sum() == pytest.approx(0.475, abs=5e-4)
    assert find_leaks(corpus) == []
