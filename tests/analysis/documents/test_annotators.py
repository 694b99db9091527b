"""Several annotators of a text: combination, the human ceiling, and what reaches the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from adapler.eraser import EraserExample
from adapler.errors import ArgumentError, DataError
from analysis import rationale_eval
from analysis.command.console import header
from analysis.documents.annotators import annotator_facts, annotator_masks, combine, krippendorff_alpha
from analysis.documents.corpora import read_json_lines
from analysis.documents.eraser_format import spans_of
from analysis.loading import load_corpus
from analysis.output.report import RationaleReport

THREE = [[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1]]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


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
    example, _ = read_json_lines(file, split="test", annotators=rule).splits["test"]
    assert example.rationale().tolist() == list(map(bool, expected))
    assert annotator_masks(example).astype(int).tolist() == THREE


def test_the_file_s_own_list_counts_unless_a_rule_is_asked_for(tmp_path: Path) -> None:
    row = {"tokens": ["a", "b"], "label": 0, "rationale": [1, 1], "rationales_raw": [[1, 0], [0, 1]]}
    file = write(tmp_path / "a.jsonl", [row, {"tokens": ["c"], "label": 0, "rationale": None, "rationales_raw": []}])

    def marked(rule: str) -> list[bool]:
        found: list[bool] = read_json_lines(file, split="test", annotators=rule).splits["test"][0].rationale().tolist()
        return found

    assert marked("auto") == marked("union") == [True, True]
    assert marked("majority") == [False, False] and marked("1") == [False, True]
    with pytest.raises(ArgumentError, match="annotators: got 'most', allowed are auto, majority, union, or an annot"):
        marked("most")
    write(file, [row | {"rationales_raw": [[1], [0, 1]]}])
    with pytest.raises(DataError, match="a.jsonl:1: the rationale covers 1 tokens, the text has 2"):
        marked("auto")


def test_the_number_of_an_annotator_whom_nobody_has(tmp_path: Path) -> None:
    several = write(tmp_path / "a.jsonl", [{"tokens": list("abcd"), "label": 0, "rationale": THREE}])
    with pytest.raises(ArgumentError, match=r"^annotators: got '3', an annotator of none of the 1 documents, whose n"):
        read_json_lines(several, split="test", annotators="3")


@pytest.mark.parametrize("rule", ["0", "majority", "union"])
def test_a_rule_where_no_document_tells_annotators_apart(tmp_path: Path, corpus_folder: Path, rule: str) -> None:
    one = write(tmp_path / "b.jsonl", [{"tokens": ["a"], "label": 0, "rationale": [1]}])
    for data in (one, load_corpus(one), corpus_folder):
        with pytest.raises(ArgumentError, match=rf"^annotators: got '{rule}', but none of the \d documents tells them"):
            load_corpus(data, annotators=rule)


def test_the_command_s_rule_decides_which_words_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words alone as saved scores, so that no model is run: average precision is 1 for the words of one rule only."""
    rows = [
        {"id": "d1", "tokens": ["so", "dull", "."], "label": "NEG", "rationale": [[0, 1, 0], [0, 1, 0], [1, 1, 0]]},
        {"id": "d2", "tokens": ["so", "good", "."], "label": "POS", "rationale": [[0, 1, 0], [0, 1, 0], [0, 0, 1]]},
    ]
    data = write(tmp_path / "a.jsonl", rows)
    scores = [
        {"annotation_id": row["id"], "rationales": [{"docid": row["id"], "soft_rationale_predictions": s}]}
        for row, s in zip(rows, ([0.2, 0.3, 0.1], [0.1, 0.2, 0.3]), strict=True)
    ]
    saved = write(tmp_path / "given.jsonl", scores)
    options = ["--data", data, "--methods", "--predictions", saved, "--metrics", "average_precision"]
    options += ["--no-cache", "--no-figures"]

    def found(rule: str) -> Any:
        output = tmp_path / rule
        command = [*map(str, options), "--annotators", rule, "--output", str(output)]
        assert rationale_eval.main(command) == 0
        report = RationaleReport.from_json(output / "report.json")
        by_function = rationale_eval.evaluate(
            data=data, methods=[], predictions=[saved], metrics=["average_precision"], annotators=rule, progress=False
        )
        assert np.array_equal(report.values, by_function.values)
        return report.values[0, 0, :, 0].tolist()

    assert found("union") == [1, 1]
    assert found("majority") == [1, 0.5]
    assert found("2") == [1, 1]
    with pytest.raises(ArgumentError, match="^annotators: got '9', an annotator of none of the 2 documents"):
        found("9")


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
    assert facts is not None and (facts["documents"], facts["fewest"], facts["most"]) == (3, 3, 6)
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
    assert len(facts["each"]["f1"]) == 6
    assert annotator_facts([example_of("one", [[1, 0]])], rule) is None


def test_alpha_is_that_of_the_package_krippendorff() -> None:
    rng = np.random.default_rng(5)
    masks = [rng.random((people, words)) < share for people, words, share in ((3, 8, 0.2), (6, 5, 0.5), (2, 9, 0.7))]
    assert krippendorff_alpha(masks) == pytest.approx(0.10975232198142393, abs=1e-12)
    assert krippendorff_alpha([*masks, masks[0][:1]]) == krippendorff_alpha(masks)  # one annotator agrees with nobody
    assert krippendorff_alpha([masks[0][:1].repeat(4, axis=0)]) == 1
    assert krippendorff_alpha([np.zeros((3, 4), dtype=bool)]) is None and krippendorff_alpha([masks[0][:1]]) is None


def test_annotators_are_in_the_report_and_on_the_screen(classifier: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    rows = [
        {
            "tokens": "the film is never dull".split(),
            "label": "negative",
            "rationale": [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]],
        },
        {"tokens": "a great actor".split(), "label": "Positive", "rationale": [[0, 1, 0], [0, 1, 1]]},
    ]
    classifier.config.id2label, classifier.config.label2id = {0: "NEG", 1: "POS"}, {"NEG": 0, "POS": 1}
    data = write(tmp_path / "a.jsonl", rows)
    report = rationale_eval.evaluate(
        model=classifier, tokenizer=tiny_tokenizer, data=data, methods=["position"], annotators="union", progress=False
    )
    assert report.meta["people"]["rule"] == "union" and report.meta["annotators"] == "union"
    assert [record.label for record in report.documents] == ["NEG", "POS"]
    assert "annotators 2 a document, union; one of them against the others" in header(report)
    of_one = replace(report, meta=report.meta | {"people": report.meta["people"] | {"rule": "1"}})
    assert "annotators 2 a document, number 1 counts; one of them" in header(of_one)


def test_a_corpus_is_reported_under_the_rule_it_was_read_by(tmp_path: Path) -> None:
    marks = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]  # of the majority one word, of all together three
    file = write(tmp_path / "a.jsonl", [{"tokens": list("abcd"), "label": 0, "rationale": marks}])
    saved = {"given": {load_corpus(file).splits["test"][0].id: [0.4, 0.3, 0.2, 0.1]}}
    options: dict[str, Any] = {"methods": [], "predictions": saved, "metrics": ["tpr"], "progress": False}
    asked = rationale_eval.evaluate(data=file, annotators="union", **options)
    for corpus in (load_corpus(file, annotators="union"), load_corpus(load_corpus(file), annotators="union")):
        report = rationale_eval.evaluate(data=corpus, **options)
        assert report.meta["annotators"] == report.meta["people"]["rule"] == "union"
        assert report.meta["people"] == asked.meta["people"] and (report.values == asked.values).all()
        other = rationale_eval.evaluate(data=corpus, annotators="majority", **options)
        assert other.meta["people"]["rule"] == "majority" and other.meta["density"] == 0.25


def test_a_corpus_that_was_read_already_is_combined_again(tmp_path: Path) -> None:
    rows = [{"tokens": list("abcd"), "label": 0, "rationale": THREE}, {"tokens": ["e"], "label": 0, "rationale": [1]}]
    file = write(tmp_path / "a.jsonl", rows)
    auto = load_corpus(file)
    for rule in ("auto", "majority", "union", "1"):
        assert load_corpus(auto, annotators=rule) == load_corpus(file, annotators=rule)
    assert load_corpus(auto) is load_corpus(auto, annotators="majority") is auto
    assert load_corpus(auto, annotators="1").checksum != auto.checksum
    with pytest.raises(ArgumentError, match="^annotators: got '8', an annotator of none of the"):
        load_corpus(auto, annotators="8")


def test_a_number_is_the_same_person_where_another_one_did_not_annotate(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "tokens": list("xyz"), "label": 0, "rationale": [None, [0, 1, 0], [0, 0, 1]]},
        {"id": "b", "tokens": list("xyz"), "label": 0, "rationale": [[1, 0, 0], [0, 1, 0], [0, 1, 1]]},
    ]
    file = write(tmp_path / "a.jsonl", rows)
    expected = {"0": [(), ((0, 1),)], "1": [((1, 2),), ((1, 2),)], "2": [((2, 3),), ((1, 3),)]}
    for rule, spans in expected.items():
        for corpus in (load_corpus(file, annotators=rule), load_corpus(load_corpus(file), annotators=rule)):
            assert [one.spans for one in corpus.splits["test"]] == spans
    facts = annotator_facts(load_corpus(file).splits["test"], "union")
    assert facts is not None and facts["most"] == 3
    assert facts["each"]["f1"] == pytest.approx([0, 0, (0 + 0.5) / 2])  # in "b" 1 is judged against all words


def test_a_text_that_nobody_annotated_is_not_one_where_nothing_is_marked(tmp_path: Path) -> None:
    rationales = [[[0, 1, 0], [0, 1, 0]], None, [], [None, []], [None, [1, 0, 0]], [0, 0, 0]]
    rows = [{"id": str(i), "tokens": list("xyz"), "label": 0, "rationale": marks} for i, marks in enumerate(rationales)]
    file = write(tmp_path / "a.jsonl", rows)
    expected = {"auto": "045", "majority": "045", "union": "045", "0": "05", "1": "045"}
    for rule, names in expected.items():
        for corpus in (load_corpus(file, annotators=rule), load_corpus(load_corpus(file), annotators=rule)):
            assert [one.id for one in corpus.splits["test"] if one.annotated] == list(names), rule
        alone = write(tmp_path / "alone.jsonl", [row for row in rows if row["id"] in names])
        found, fewer = (
            rationale_eval.evaluate(
                data=one, methods=[], predictions={row["id"]: [0.1, 0.3, 0.2] for row in rows}, protocol="eraser",
                metrics=["auprc"], density=0.3, annotators=rule, progress=False,
            ).meta["eraser_scores"]
            for one in (file, alone)
        )  # fmt: skip
        assert found == fewer, rule
