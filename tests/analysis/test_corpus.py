"""Corpora with rationales: JSON lines, frames, several annotators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from adapler.eraser import EraserExample
from adapler.errors import ArgumentError, DataError
from analysis.corpus import documents_of, holds_json_lines, load_corpus
from analysis.marks import annotator_facts, annotator_masks, combine, word_mask
from analysis.metrics.plausibility import spans_of

ROWS: list[dict[str, Any]] = [
    {"id": "a", "tokens": ["so", "dull", "."], "label": 1, "rationale": [0, 1, 1], "text": "ignored"},
    {"tokens": ["fine"], "label": 0, "rationale": None, "query": "good ?"},
]
THREE = [[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1]]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_hatexplain_style_folder(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", ROWS)
    write(tmp_path / "train.jsonl", [{"tokens": ["no", "marks"], "label": 0}])  # no split to measure on
    (tmp_path / "meta.json").write_text(json.dumps({"labels": ["hate", "normal"]}))
    assert holds_json_lines(tmp_path)
    corpus = load_corpus(tmp_path, split="test")
    assert corpus.labels == ("hate", "normal") and list(corpus.splits) == ["test"]
    first, second = corpus.splits["test"]
    assert (first.id, first.words, first.label, first.spans) == ("a", ("so", "dull", "."), "normal", ((1, 3),))
    assert (second.id, second.label, second.spans, second.query) == ("test-2", "hate", (), "good ?")
    with pytest.raises(DataError, match="train.jsonl:1: rationale: Field required"):
        load_corpus(tmp_path, split="train")
    with pytest.raises(DataError, match="no split 'val', there are train, test"):
        load_corpus(tmp_path, split="val")


def test_a_file_is_the_split_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "validation.jsonl", ROWS)
    by_folder, by_file = load_corpus(tmp_path, split="val"), load_corpus(file, split="val")
    assert by_folder.splits == by_file.splits and by_folder.checksum == by_file.checksum
    assert by_folder.labels == ("0", "1")  # without names the indices
    assert list(load_corpus(file, split="test").splits) == ["test"]
    write(tmp_path / "val.jsonl", ROWS)
    with pytest.raises(DataError, match="val.jsonl and validation.jsonl would be one split"):
        load_corpus(tmp_path, split="val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": []}, "tokens: List should have at least 1 item"),
        ({"tokens": "so dull"}, "tokens: Input should be a valid list"),
        ({"rationale": [0, 2, 0]}, "rationale.* Input should be 0 or 1"),
        ({"rationale": [0, 1]}, "the rationale covers 2 tokens, the text has 3"),
        ({"rationale": [[0, 1, 0], [1]]}, "the rationale covers 1 tokens, the text has 3"),
        ({"label": True}, "label.int: Input should be a valid integer, found True"),
        ({"label": " "}, "label.*found . ."),
        ({"label": 2}, "label 2, meta.json has 2 labels"),
        ({"label": "POS"}, "label 'POS' is not in meta.json, which has a, b"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "meta.json").write_text('{"labels": ["a", "b"]}')
    write(tmp_path / "test.jsonl", [ROWS[1], {**ROWS[0], **change}])
    with pytest.raises(DataError, match=f"test.jsonl:2: {message}"):
        load_corpus(tmp_path)


def test_a_rationale_that_is_missing_or_misspelt_is_none(tmp_path: Path) -> None:
    """null says that nobody annotated the text; nothing at all may be a typing error."""
    row = {"tokens": ["so"], "label": 0, "rationals": [1]}
    with pytest.raises(DataError, match="rationale: Field required.*the line has tokens, label, rationals"):
        load_corpus(write(tmp_path / "a.jsonl", [row]))


def test_bad_files(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    with pytest.raises(DataError, match="test.jsonl:2: id 'a' appears twice"):
        load_corpus(write(file, [ROWS[0], ROWS[0]]))
    for content, message in ((b"\n", "holds no examples"), (b"\xff", "cannot be read"), (b"{", "test.jsonl:1")):
        file.write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_corpus(file)
    write(file, ROWS)
    for meta, message in (
        ("{", "meta.json"),
        ('{"labels": ["NEG", "NEG"]}', "meta.json: 'labels' must be different names"),
    ):
        (tmp_path / "meta.json").write_text(meta)
        with pytest.raises(DataError, match=message):
            load_corpus(file)


def test_a_limited_sample_is_balanced(tmp_path: Path) -> None:
    rows = [{"id": str(i), "tokens": ["w"], "label": int(i > 5), "rationale": None} for i in range(8)]
    corpus = load_corpus(write(tmp_path / "a.jsonl", rows))
    chosen = documents_of(corpus, "test", 4)
    assert sorted(one.label for one in chosen) == ["0", "0", "1", "1"] and len(documents_of(corpus, "test")) == 8


class TestFrame:
    """The data that most people have: a pandas frame of texts."""

    TEXT = "The plot is dull, but well acted."

    def frame(self, **columns: Any) -> pd.DataFrame:
        return pd.DataFrame({"label": ["neg", "neg"], **columns})

    def marked(self, **columns: Any) -> list[list[str]]:
        examples = load_corpus(self.frame(**columns)).splits["test"]
        return [[word for word, mark in zip(one.words, one.rationale(), strict=True) if mark] for one in examples]

    def test_marks_spans_and_characters(self) -> None:
        tokens, marks = self.TEXT.split(), [0, 0, 0, 1, 0, 0, 0]
        expected = [["dull,"], ["well", "acted."]]
        other = [0, 0, 0, 0, 0, 1, 1]
        assert self.marked(tokens=[tokens] * 2, rationale=[marks, other]) == expected
        assert self.marked(tokens=[tokens] * 2, rationale=[np.array(marks, bool), np.array(other)]) == expected
        assert self.marked(tokens=[tokens] * 2, rationale=[[(3, 4)], [(5, 7)]]) == expected
        assert self.marked(text=[self.TEXT] * 2, rationale=[marks, other]) == expected
        at = [self.TEXT.index(word) for word in ("dull", "well")]  # "dull," is one word, "dull" was marked
        assert self.marked(text=[self.TEXT] * 2, rationale=[[(at[0], at[0] + 4)], [(at[1], at[1] + 10)]]) == expected

    def test_nobody_annotated_it(self) -> None:
        first, second = load_corpus(self.frame(text=["a b", "c d"], rationale=[None, [0, 0]])).splits["test"]
        assert (first.annotated, second.annotated) == (False, True) and first.spans == second.spans == ()

    def test_splits_ids_and_labels(self) -> None:
        frame = self.frame(text=["a b", "c"], rationale=[[1, 0], [1]], id=[7, 8], split=["test", "validation"])
        frame["label"] = np.array([1, 0])
        corpus = load_corpus(frame)
        assert {name: [one.id for one in split] for name, split in corpus.splits.items()} == {
            "test": ["7"],
            "val": ["8"],
        }
        assert corpus.labels == ("0", "1")

    def test_spans_of_words_beside_a_text_are_refused(self) -> None:
        """Read as characters they would mark other words, without a word."""
        with pytest.raises(DataError, match="3 of 3 spans begin within a word; beside 'text' spans are of characters"):
            self.marked(text=[self.TEXT] * 2, rationale=[[(1, 2), (2, 3)], [(5, 7)]])

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"text": ["a", "b"]}, "frame: must have the columns 'label', 'rationale'"),
            ({"rationale": [[1], [1]]}, "frame: must have the columns .* and 'tokens' or 'text'"),
            ({"text": ["a b", "b"], "rationale": [[1, 0, 0], None]}, "row 0: got"),
            ({"text": ["a b", "b"], "rationale": [[(0, 9)], None]}, r"row 0: span \(0, 9\) is not within the text"),
        ],
    )
    def test_bad_frames(self, columns: dict[str, Any], message: str) -> None:
        with pytest.raises((ArgumentError, DataError), match=message):
            self.marked(**columns)


def test_word_mask() -> None:
    for marks in ([0, 1, 1, 0], [(1, 3)], [1, 2], np.array([False, True, True, False]), pd.Series([0, 1, 1, 0])):
        assert word_mask(marks, 4).tolist() == [False, True, True, False]
    shuffled = pd.Series([1, 1, 0, 0], index=[2, 1, 0, 3])  # sorted by its values, its index kept
    assert word_mask(shuffled, 4).tolist() == [False, True, True, False]
    assert word_mask([], 3).tolist() == [False] * 3
    for bad in (
        (1, 3),
        [[1, 2], [3]],
        [0.5] * 4,
        [1, 1],
        [9],
        ["a"],
        [(2, 2)],
        pd.Series([1, 0], index=[3, 5]),
    ):
        with pytest.raises(ArgumentError, match="^rationale: "):
            word_mask(bad, 4)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("auto", [1, 1, 0, 1]),
        ("majority", [1, 1, 0, 1]),
        ("union", [1, 1, 0, 1]),
        ("0", [1, 1, 0, 0]),
        ("1", [1, 0, 0, 1]),
        ("3", [0, 0, 0, 0]),  # only the other document has this one
    ],
)
def test_which_words_count(tmp_path: Path, rule: str, expected: list[int]) -> None:
    other = {"tokens": ["e"], "label": 0, "rationale": [[1]] * 4}
    file = write(tmp_path / "a.jsonl", [{"tokens": list("abcd"), "label": 0, "rationale": [*THREE, None]}, other])
    for corpus in (load_corpus(file, annotators=rule), load_corpus(load_corpus(file), annotators=rule)):
        example, _ = corpus.splits["test"]
        assert example.rationale().tolist() == list(map(bool, expected))
        assert annotator_masks(example).astype(int).tolist() == THREE


def test_the_file_s_own_list_counts_unless_a_rule_is_asked_for(tmp_path: Path) -> None:
    row = {"tokens": ["a", "b"], "label": 0, "rationale": [1, 1], "rationales_raw": [[1, 0], [0, 1]]}
    file = write(tmp_path / "a.jsonl", [row, {"tokens": ["c"], "label": 0, "rationale": None, "rationales_raw": []}])

    def marked(rule: str) -> list[bool]:
        found: list[bool] = load_corpus(file, annotators=rule).splits["test"][0].rationale().tolist()
        return found

    assert marked("auto") == marked("union") == [True, True]
    assert marked("majority") == [False, False] and marked("1") == [False, True]
    with pytest.raises(ArgumentError, match="annotators: got 'most', allowed are auto, majority, union, or an annot"):
        marked("most")
    with pytest.raises(ArgumentError, match="annotators: got '3', the documents have 0 to 1"):
        marked("3")
    with pytest.raises(ArgumentError, match="annotators: got 'union', the documents do not tell them apart"):
        load_corpus(write(tmp_path / "one.jsonl", ROWS), annotators="union")


def test_a_number_is_the_same_person_where_another_one_did_not_annotate(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "tokens": list("xyz"), "label": 0, "rationale": [None, [0, 1, 0], [0, 0, 1]]},
        {"id": "b", "tokens": list("xyz"), "label": 0, "rationale": [[1, 0, 0], [0, 1, 0], [0, 1, 1]]},
    ]
    file = write(tmp_path / "a.jsonl", rows)
    expected = {"0": [(), ((0, 1),)], "1": [((1, 2),), ((1, 2),)], "2": [((2, 3),), ((1, 3),)]}
    for rule, spans in expected.items():
        assert [one.spans for one in load_corpus(file, annotators=rule).splits["test"]] == spans
    facts = annotator_facts(load_corpus(file).splits["test"], "union")
    assert facts is not None and facts["most"] == 3


def test_a_text_that_nobody_annotated_is_not_one_where_nothing_is_marked(tmp_path: Path) -> None:
    rationales = [[[0, 1, 0], [0, 1, 0]], None, [], [None, []], [None, [1, 0, 0]], [0, 0, 0]]
    rows = [{"id": str(i), "tokens": list("xyz"), "label": 0, "rationale": marks} for i, marks in enumerate(rationales)]
    file = write(tmp_path / "a.jsonl", rows)
    for rule, names in {"auto": "045", "majority": "045", "union": "045", "0": "05", "1": "045"}.items():
        corpus = load_corpus(file, annotators=rule)
        assert [one.id for one in corpus.splits["test"] if one.annotated] == list(names), rule


def example_of(name: str, masks: Any) -> EraserExample:
    marks = np.array(masks, dtype=bool)
    spans = tuple(tuple(spans_of(one)) for one in marks)
    return EraserExample(
        name, tuple("w" * marks.shape[1]), "POS", tuple(spans_of(combine(marks, "union"))), annotators=spans
    )


@pytest.mark.parametrize("rule", ["majority", "union"])
def test_the_ceiling_leaves_one_annotator_out(rule: str) -> None:
    rng = np.random.default_rng(1)
    masks = [rng.random((people, 9)) < 0.4 for people in (3, 5, 6)]
    facts = annotator_facts(
        [*(example_of(str(i), one) for i, one in enumerate(masks)), example_of("one", [[1, 0]])], rule
    )
    assert facts is not None and (facts["fewest"], facts["most"]) == (3, 6)
    expected: dict[str, list[float]] = {"average_precision": [], "f1": [], "iou": []}
    for one in masks:
        rows: dict[str, list[float]] = {name: [] for name in expected}
        for number in range(len(one)):
            votes = np.delete(one, number, axis=0).astype(int).sum(0)
            gold = votes > (0 if rule == "union" else (len(one) - 1) / 2)
            if gold.any() and not gold.all():
                rows["average_precision"].append(average_precision_score(gold, one[number]))
                rows["f1"].append(f1_score(gold, one[number], zero_division=0))
                rows["iou"].append(jaccard_score(gold, one[number], zero_division=0))
        for name, values in rows.items():
            expected[name].append(float(np.mean(values)))
    assert facts["ceiling"] == pytest.approx({name: float(np.mean(values)) for name, values in expected.items()})


def test_alpha_by_hand() -> None:
    """alpha = 1 - (n - 1) sum_w 2 m_w u_w / (a_w - 1) / (2 M U): m_w marked word w, u_w did not, a_w = m_w + u_w; words
    with one annotator do not count."""
    facts = annotator_facts([example_of("a", [[1, 0, 0], [1, 0, 1]])], "union")
    assert facts is not None and facts["alpha"] == pytest.approx(1 - 5 * 2 / (2 * 3 * 3))
    rng = np.random.default_rng(5)
    masks = [rng.random((people, words)) < share for people, words, share in ((3, 8, 0.2), (6, 5, 0.5), (2, 9, 0.7))]
    facts = annotator_facts([example_of(str(i), one) for i, one in enumerate(masks)], "union")
    assert facts is not None and facts["alpha"] == pytest.approx(0.10975232198142393, abs=1e-12)
    facts = annotator_facts([example_of("same", np.ones((3, 4)))], "union")
    assert facts is not None and facts["alpha"] is None, "all marks are the same"
