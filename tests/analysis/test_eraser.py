"""ERASER's format in and out, its official scorer's numbers by hand, and scores given as dicts and frames."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy

from adapler.eraser import EraserCorpus, EraserExample, read_corpus
from adapler.errors import ArgumentError, DataError
from analysis import rationale_eval
from analysis.eraser import (
    classification_scores,
    instance_of,
    official_scores,
    rationale_line,
    read_given,
    write_lines,
)
from tests.analysis.test_evaluate import value

ONE = EraserExample("one", ("a", "b", "c", "d"), "POS", ((1, 3),))
TWO = EraserExample("two", ("a", "b", "c"), "NEG", (), "", (("x", 2), ("y", 1)))
CORPUS = EraserCorpus(
    "films", "", "0", ("NEG", "POS"), {"test": (ONE, TWO), "val": (EraserExample("v", ("a",), "POS", ()),)}
)


def read(source: Any, examples: Any = (ONE, TWO), human: Any = None) -> Any:
    found = read_given(source, human, examples=list(examples), corpus=CORPUS)
    return found[0] if len(found) == 1 else found


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def spans(*pairs: tuple[int, int]) -> list[dict[str, int]]:
    return [{"start_token": start, "end_token": end} for start, end in pairs]


def row(**fields: Any) -> dict[str, Any]:
    return {"annotation_id": "one", "rationales": [{"docid": "one"} | fields]}


def test_written_and_read_again(tmp_path: Path) -> None:
    answers = {
        "classification": "NEG",
        "classification_scores": {"NEG": 0.75, "POS": 0.25},
        "comprehensiveness_classification_scores": {"NEG": 0.5, "POS": 0.5},
        "sufficiency_classification_scores": {"NEG": 1.0, "POS": 0.0},
        "thresholded_scores": [
            {
                "threshold": share,
                "comprehensiveness_classification_scores": {"NEG": 0.75 - share, "POS": 0.25},
                "sufficiency_classification_scores": {"NEG": share, "POS": 0.5},
            }
            for share in (0.1, 0.5)
        ],
    }
    scores, hard = np.array([-1.0, 2.0, 3.0]), np.array([False, True, True])
    write_lines(tmp_path / "mine.jsonl", [rationale_line(TWO, scores, hard, answers)])
    (written,) = map(json.loads, (tmp_path / "mine.jsonl").read_text().splitlines())
    by_document = {part["docid"]: part for part in written["rationales"]}  # spans count per document
    assert by_document["x"] == {
        "docid": "x",
        "soft_rationale_predictions": [-1, 2],
        "hard_rationale_predictions": spans((1, 2)),
    }
    assert by_document["y"]["hard_rationale_predictions"] == spans((0, 1))
    given = read(tmp_path / "mine.jsonl", [TWO])
    assert given.name == "mine" and given.signed and given.soft and given.layers is None
    assert given.scores["two"].tolist() == scores.tolist() and given.hard(TWO).tolist() == hard.tolist()
    assert given.spans == {("two", "x"): [(1, 2)], ("two", "y"): [(0, 1)]}
    assert {key: given.answers["two"][key] for key in answers} == answers
    assert given.faithfulness("two") == pytest.approx(
        {
            "comprehensiveness_at_density": 0.25,
            "comprehensiveness_10": 0.1,
            "comprehensiveness_50": 0.5,
            "aopc_comprehensiveness": 0.3,
            "sufficiency_at_density": -0.25,
            "sufficiency_10": 0.65,
            "sufficiency_50": 0.25,
            "aopc_sufficiency": 0.45,
        }
    )


def test_hard_rationales_alone_are_zeros_and_ones(tmp_path: Path, corpus_folder: Path) -> None:
    given = read(lines(tmp_path / "hard.jsonl", row(hard_rationale_predictions=spans((1, 3)))))
    assert given.scores["one"].tolist() == [0, 1, 1, 0] and not given.soft
    corpus = read_corpus(corpus_folder)
    (human,) = read_given((), corpus_folder / "test.jsonl", examples=corpus.splits["test"], corpus=corpus)
    assert human.name == "human" and not human.soft and not human.answers, "a gold label is no answer"
    for example in corpus.splits["test"]:
        np.testing.assert_array_equal(human.scores[example.id], example.rationale())


def test_no_entry_is_a_rationale_of_no_word(tmp_path: Path) -> None:
    for fields in ({"rationales": []}, {"evidences": []}):
        given = read(lines(tmp_path / "none.jsonl", {"annotation_id": "two", **fields}))
        assert given.scores["two"].tolist() == [0, 0, 0] and not given.soft


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(hard_rationale_predictions=[])] * 2, ":2: annotation id 'one' appears twice"),
        ([{"annotation_id": "nobody", "rationales": []}], ":1: annotation id 'nobody' is not in the corpus"),
        ([{"annotation_id": ["one"]}], ":1: annotation_id: Input should be a valid string"),
        ([{"annotation_id": "one"}], ":1: has neither 'rationales' nor 'evidences'"),
        ([row(docid="two", soft_rationale_predictions=[])], ":1: docid 'two' is not the example's, which has one"),
        ([row(soft_rationale_predictions=[1, 2])], ":1: 2 scores, document 'one' has 4 words"),
        ([row(soft_rationale_predictions=[1, 2, 3, math.nan])], ":1: .*finite number"),
        ([row(hard_rationale_predictions=spans((2, 5)))], r":1: span \[2, 5\) is out of range, document 'one' has 4 w"),
        (
            [row(hard_rationale_predictions=spans((0, 2), (1, 3)))],
            r":1: predicted spans of 'one' overlap: \[0, 2\) and",
        ),
        (
            [row(soft_rationale_predictions=[1, 2, 3, 4]), {"annotation_id": "two", "evidences": []}],
            ": line 1 and line 2 have different fields; all documents must have them, or none",
        ),
        ([row(hard_rationale_predictions=[]) | {"classification": "POS"}], ":1: classification: .*must stand together"),
        ([{"annotation_id": "v", "rationales": []}], ": has none of the 2 documents that are evaluated"),
    ],
)
def test_bad_files(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match="bad.jsonl" + message):
        read(lines(tmp_path / "bad.jsonl", *rows))


def test_documents_of_other_splits_are_counted_and_their_sign_is_seen(tmp_path: Path) -> None:
    other = {"annotation_id": "v", "rationales": [{"docid": "v", "soft_rationale_predictions": [-1]}]}
    given = read(lines(tmp_path / "both.jsonl", row(soft_rationale_predictions=[1, 2, 3, 4]), other))
    assert given.others == 1 and given.signed and set(given.scores) == {"one"}


def test_numbers_for_names_as_in_boolq(tmp_path: Path) -> None:
    example = EraserExample("7", ("a",), "POS", ())
    corpus = EraserCorpus("boolq", "", "0", ("POS",), {"test": (example,)})
    file = lines(
        tmp_path / "a.jsonl", {"annotation_id": 7, "rationales": [{"docid": 7, "hard_rationale_predictions": []}]}
    )
    assert set(read_given(file, None, examples=[example], corpus=corpus)[0].scores) == {"7"}


class TestScorer:
    """The official scorer's numbers, worked out by hand."""

    def scores(self, *documents: tuple[Any, Any], **options: Any) -> dict[str, Any]:
        rows = [instance_of(10, truth=truth, predicted=predicted) for truth, predicted in documents]
        return official_scores(rows, **options)

    def test_spans_that_touch_are_two(self) -> None:
        """[0, 4) is annotated. Its halves overlap it by a half each, so both are right at IOU .5, none is the exact
        span, and all four tokens are found."""
        whole, halves = self.scores(([(0, 4)], [(0, 4)])), self.scores(([(0, 4)], [(0, 2), (2, 4)]))
        assert whole["iou_scores"][0]["macro"] == whole["rationale_prf"]["instance_macro"] == {"p": 1, "r": 1, "f1": 1}
        assert halves["iou_scores"][0]["micro"] == {"p": 1, "r": 2, "f1": 4 / 3}, "two right ones for one"
        assert halves["rationale_prf"]["instance_micro"] == {"p": 0, "r": 0, "f1": 0}
        assert halves["token_prf"]["instance_micro"]["f1"] == 1
        thirds = self.scores(([(0, 3)], [(0, 1), (1, 2), (2, 3)]))
        assert thirds["iou_scores"][0]["macro"]["f1"] == 0, "each overlaps by a third"

    def test_touching_and_equal_annotations(self) -> None:
        """Annotated [0, 2), [2, 4) and [2, 4) again: two spans; predicted is their union, right for neither by half."""
        found = self.scores(([(0, 2), (2, 4), (2, 4)], [(0, 4)]))
        assert found["iou_scores"][0]["macro"] == {"p": 1.0, "r": 0.5, "f1": pytest.approx(2 / 3)}
        assert found["rationale_prf"]["instance_micro"]["r"] == 0

    def test_an_empty_annotation_is_a_span_that_nothing_matches(self) -> None:
        found = self.scores(([(0, 2), (5, 5)], [(0, 2)]))
        assert found["rationale_prf"]["instance_micro"] == {"p": 1, "r": 0.5, "f1": pytest.approx(2 / 3)}

    def test_a_missing_document_counts_as_not_found(self) -> None:
        """Of two documents with two tokens each one is missing: recall is a half, micro F1 2/3, macro F1 1/2."""
        documents = (([(0, 2)], [(0, 2)]), ([(4, 6)], None))
        found = self.scores(*documents)
        assert found["token_prf"]["instance_micro"] == {"p": 1, "r": 0.5, "f1": pytest.approx(2 / 3)}
        assert found["token_prf"]["instance_macro"]["f1"] == 0.5
        assert found["iou_scores"][0]["macro"] == {"p": 1, "r": 0.5, "f1": pytest.approx(2 / 3)}
        assert self.scores(*documents, present_only=True)["token_prf"]["instance_macro"]["f1"] == 1

    def test_a_document_without_a_rationale_lowers_precision_alone(self) -> None:
        found = self.scores(([(0, 2)], [(0, 2)]), ([], [(4, 6)]), ([], []))
        assert found["iou_scores"][0]["macro"] == {"p": 0.5, "r": 1, "f1": pytest.approx(2 / 3)}
        assert found["token_prf"]["instance_macro"]["f1"] == 0.5, "the third has neither side and does not count"

    def test_soft_scores(self) -> None:
        rows = [
            instance_of(4, truth=[(0, 2)], scores=np.array([3.0, 1.0, 2.0, 0.0])),
            instance_of(2, truth=[], scores=np.array([1.0, 2.0])),
            instance_of(2, truth=[(0, 1)], predicted=None),
        ]
        found = official_scores(rows)["token_soft_metrics"]
        # recall, precision: (0, 1) (.5, 1) (.5, .5) (1, 2/3) -> .5 + .5 (1/2 + 2/3) / 2; "b" is .5 by definition
        assert found["auprc"] == pytest.approx((0.5 + 0.25 * (0.5 + 2 / 3) + 0.5) / 2)
        assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2) and found["roc_auc_score"] == 0.75
        assert "iou_scores" not in official_scores(rows), "nobody has a hard rationale"

    def test_a_file_s_own_classifications(self) -> None:
        def answers(label: str, whole: float, without: float, only: float) -> dict[str, Any]:
            def of(share: float) -> dict[str, float]:
                return {label: share, "other": 1 - share}

            pair = {
                "comprehensiveness_classification_scores": of(without),
                "sufficiency_classification_scores": of(only),
            }
            shares = [{"threshold": share, **pair} for share in (0.01, 0.05, 0.1, 0.2, 0.5, 0.7)]
            return {"classification": label, "classification_scores": of(whole), "thresholded_scores": shares, **pair}

        mine = {"a": answers("POS", 0.8, 0.5, 0.75), "b": answers("NEG", 0.6, 0.7, 0.4)}
        gold = {"a": "POS", "b": "POS", "missing": "NEG"}
        found = classification_scores(mine, gold)
        assert found["accuracy"] == pytest.approx(1 / 3) and found["prf"]["POS"]["recall"] == 0.5
        assert classification_scores(mine, gold, present_only=True)["accuracy"] == 0.5
        assert found["comprehensiveness"] == pytest.approx((0.3 - 0.1) / 2)
        assert found["sufficiency"] == pytest.approx((0.05 + 0.2) / 2)
        assert found["comprehensiveness_entropy"] == pytest.approx(
            (entropy([0.8, 0.2]) - entropy([0.5, 0.5]) + entropy([0.6, 0.4]) - entropy([0.7, 0.3])) / 2
        )
        kl = (
            0.5 * math.log(0.5 / 0.8)
            + 0.5 * math.log(0.5 / 0.2)
            + 0.7 * math.log(0.7 / 0.6)
            + 0.3 * math.log(0.3 / 0.4)
        )
        assert found["comprehensiveness_kl"] == pytest.approx(kl / 2)
        assert found["aopc_thresholds"] == [0.01, 0.05, 0.1, 0.2, 0.5], "those of the scorer, without .7"
        assert found["comprehensiveness_aopc"] == pytest.approx(0.1)
        assert found["sufficiency_aopc_points"] == pytest.approx([0.125] * 5)


class TestEvaluated:
    """What reaches a report; no model is loaded."""

    @pytest.fixture
    def touching(self, corpus_folder: Path, tmp_path: Path) -> Path:
        """A prediction of one word a span for the documents neg_0 (words 1 to 3 are annotated) and neg_1 (4 and 6)."""
        parts = {"neg_0": spans((1, 2), (2, 3), (3, 4)), "neg_1": spans((4, 5), (6, 7))}
        rows = [
            {"annotation_id": name, "rationales": [{"docid": name, "hard_rationale_predictions": part}]}
            for name, part in parts.items()
        ]
        return lines(tmp_path / "touching.jsonl", *rows)

    def run(self, folder: Path, **options: Any) -> Any:
        return rationale_eval.evaluate(
            data=folder, methods=[], protocol="eraser", progress=False, **{"metrics": ["token_f1"], **options}
        )

    def test_touching_spans_missing_documents_and_no_soft_scores(self, corpus_folder: Path, touching: Path) -> None:
        report = self.run(corpus_folder, predictions=touching)
        (found,) = report.meta["eraser_scores"]["touching"]
        present = report.meta["eraser_scores_present"]["touching"]
        assert "token_soft_metrics" not in found, "hard rationales have no ranking"
        # annotated: neg_0 1 span of 3 words, neg_1 2 of 1, pos_0 1 of 1, pos_all 1 of 1, pos_long 2 of 3
        assert found["rationale_prf"]["instance_micro"] == {
            "p": pytest.approx(2 / 5), "r": pytest.approx(2 / 7), "f1": pytest.approx(2 / 6),
        }  # fmt: skip
        assert found["token_prf"]["instance_micro"]["r"] == pytest.approx(5 / 13)
        assert found["token_prf"]["instance_macro"]["f1"] == pytest.approx(2 / 5)
        assert present["documents"] == 2 and present["layers"][0]["token_prf"]["instance_macro"]["f1"] == 1
        assert value(report, "touching", 0, "neg_0", "token_f1") == 1
        assert report.meta["missing"]["touching"] == 4 and report.meta["model"] is None

    def test_a_human_row_that_is_the_annotation_itself_is_perfect(self, corpus_folder: Path) -> None:
        """Two evidences that touch, one that overlaps another in part: touching ones stay apart on both sides."""
        file = corpus_folder / "test.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        first = rows[0]["evidences"][0][0]
        parts = [(1, 2, "dull"), (2, 4, "and tedious")]
        rows[0]["evidences"] = [[{**first, "start_token": a, "end_token": b, "text": t} for a, b, t in parts]]
        file.write_text("".join(json.dumps(one) + "\n" for one in rows))
        report = self.run(corpus_folder, human=file)
        (found,) = report.meta["eraser_scores"]["human"]
        for name in ("rationale_prf", "token_prf"):
            assert found[name]["instance_micro"]["f1"] == 1
        assert found["iou_scores"][0]["macro"]["f1"] == 1 and not report.meta["eraser_scores_present"]

    def test_own_classifications_are_used_and_no_model_is_asked(self, corpus_folder: Path, tmp_path: Path) -> None:
        answers = {
            "classification": "NEG",
            "classification_scores": {"NEG": 0.75, "POS": 0.25},
            "comprehensiveness_classification_scores": {"NEG": 0.5, "POS": 0.5},
            "sufficiency_classification_scores": {"NEG": 1.0, "POS": 0.0},
        }
        rows = [
            {"annotation_id": one.id, "rationales": [{"docid": one.id, "hard_rationale_predictions": []}], **answers}
            for one in read_corpus(corpus_folder).splits["test"]
        ]
        file = lines(tmp_path / "own.jsonl", *rows)
        report = self.run(corpus_folder, predictions=file, metrics=["token_f1", "comprehensiveness_at_density"])
        assert report.meta["model"] is None and report.meta["tokens"] == "words"
        assert value(report, "own", 0, "neg_0", "comprehensiveness_at_density") == 0.25
        (found,) = report.meta["eraser_scores"]["own"]
        assert (
            found["classification_scores"]["accuracy"] == 0.5 and found["classification_scores"]["sufficiency"] == -0.25
        )


class TestGiven:
    """Scores as dicts and data frames."""

    def test_forms(self) -> None:
        scores = {"one": [0.1, 0.4, 0.2, 0.3], "two": [0, 1, 2]}
        frame = pd.DataFrame(
            [(d, w, s) for d, row_ in scores.items() for w, s in enumerate(row_)], columns=["document", "word", "score"]
        )
        tensors = {name: torch.tensor(one, requires_grad=True, dtype=torch.float64) for name, one in scores.items()}
        shuffled = frame.sample(frac=1, random_state=0)
        for source in (scores, {"mine": scores}, [scores], frame, shuffled, tensors):
            given = read(source)
            assert given.scores["one"].tolist() == scores["one"] and given.layers is None and given.soft
        series = {"one": pd.Series([0.4, 0.3, 0.2, 0.1], index=[1, 3, 2, 0])}  # sorted by its values
        assert read(series).scores["one"].tolist() == scores["one"]
        layered = pd.concat([frame.assign(layer=0), frame.assign(layer=1, score=frame["score"] + 1)])
        assert read(layered).layers == 2 and read(layered).scores["two"].tolist() == [[0, 1, 2], [1, 2, 3]]
        first, second = read(pd.concat([frame.assign(method="a"), frame.assign(method="b")]))
        assert (first.name, second.name) == ("a", "b")
        marks = read({"one": [0, 1, 1, 0], "two": [1, 0, 1]})
        assert (
            not marks.soft
            and marks.spans["two", "y"] == [(0, 1)]
            and marks.hard(ONE).tolist() == [False, True, True, False]
        )

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ({"one": [1, 2]}, r"given: document one: scores of shape \(2,\), must be \(4 words,\)"),
            ({"one": [1, 2, 3, math.inf]}, "given: document one: scores must be finite, found inf"),
            ({"one": ["a"] * 4}, "given: document one: scores must be numbers"),
            ({"nobody": [1]}, "given: document nobody is not in the corpus"),
            ({"v": [1]}, "given: has none of the 2 documents"),
            ({"one": np.ones((2, 4)), "two": [1, 2, 3]}, "given: scores of 2 and 1 layers"),
            (
                pd.DataFrame({"document": ["one"] * 3, "score": [1, 2, 3]}),
                r"given: document one: scores of shape \(3,\)",
            ),
            (pd.DataFrame({"document": ["one"], "word": [2], "score": [1]}), "given: document one must have one score"),
            (pd.DataFrame({"score": [1]}), "given: the data frame has no column 'document'"),
        ],
    )
    def test_bad_sources(self, source: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            read(source)

    def test_two_sources_of_one_name(self) -> None:
        with pytest.raises(ArgumentError, match="two sources are named 'given'"):
            read([{"one": [1, 2, 3, 4]}, {"one": [4, 3, 2, 1]}])
