from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapler.eraser import EraserExample, read_corpus
from adapler.errors import DataError
from analysis.documents.eraser_format import Prediction, read_rationales, spans_of, write_rationales

ONE = EraserExample("one", ("a", "b", "c", "d"), "POS", ((1, 3),))
TWO = EraserExample("two", ("a", "b", "c"), "NEG", (), "", (("x", 2), ("y", 1)))
EXAMPLES = {"one": ONE, "two": TWO}


def predictions() -> list[Prediction]:
    return [
        Prediction("one", np.array([0.5, 0.25, 0.125, 0.0]), np.array([True, True, False, True]), {"POS": 0.75}),
        Prediction("two", np.array([-1.0, 2.0, 3.0]), np.array([False, True, True]), {"POS": 0.25, "NEG": 0.75}),
    ]


def test_what_is_written(tmp_path: Path) -> None:
    write_rationales(tmp_path / "out.jsonl", predictions(), EXAMPLES)
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first == {
        "annotation_id": "one",
        "classification": "POS",
        "classification_scores": {"POS": 0.75},
        "rationales": [
            {
                "docid": "one",
                "soft_rationale_predictions": [0.5, 0.25, 0.125, 0.0],
                "hard_rationale_predictions": [
                    {"start_token": 0, "end_token": 2},
                    {"start_token": 3, "end_token": 4},
                ],
            }
        ],
    }
    assert second["classification"] == "NEG"
    by_document = {rationale["docid"]: rationale for rationale in second["rationales"]}  # spans count per document
    assert by_document["x"]["soft_rationale_predictions"] == [-1, 2]
    assert by_document["x"]["hard_rationale_predictions"] == [{"start_token": 1, "end_token": 2}]
    assert by_document["y"]["hard_rationale_predictions"] == [{"start_token": 0, "end_token": 1}]


def test_there_and_back(tmp_path: Path) -> None:
    write_rationales(tmp_path / "out.jsonl", predictions(), EXAMPLES)
    read = read_rationales(tmp_path / "out.jsonl", [TWO, ONE])
    for written in predictions():
        np.testing.assert_array_equal(read[written.id].scores, written.scores)
        np.testing.assert_array_equal(read[written.id].hard, written.hard)
        assert read[written.id].probabilities == written.probabilities


def test_hard_predictions_and_annotations_are_zeros_and_ones(tmp_path: Path, corpus_folder: Path) -> None:
    hard = {"docid": "one", "hard_rationale_predictions": [{"start_token": 1, "end_token": 3}]}
    (tmp_path / "hard.jsonl").write_text(json.dumps({"annotation_id": "one", "rationales": [hard]}))
    assert read_rationales(tmp_path / "hard.jsonl", [ONE])["one"].scores.tolist() == [0, 1, 1, 0]
    examples = read_corpus(corpus_folder).splits["test"]
    human = read_rationales(corpus_folder / "test.jsonl", examples)  # the data's own annotations as predictions
    assert set(human) == {example.id for example in examples}
    for example in examples:
        np.testing.assert_array_equal(human[example.id].scores, example.rationale())


def test_no_entry_is_a_rationale_of_no_word(tmp_path: Path) -> None:
    for fields in ({"rationales": []}, {"evidences": []}):
        (tmp_path / "none.jsonl").write_text(json.dumps({"annotation_id": "two", **fields}))
        read = read_rationales(tmp_path / "none.jsonl", [TWO])["two"]
        assert read.hard is not None and not read.hard.any() and read.scores.tolist() == [0, 0, 0]
    soft = [{"docid": name, "soft_rationale_predictions": [1.0] * n} for name, n in TWO.documents]
    (tmp_path / "soft.jsonl").write_text(json.dumps({"annotation_id": "two", "rationales": soft}))
    assert read_rationales(tmp_path / "soft.jsonl", [TWO])["two"].hard is None


def test_documents_of_an_example_come_from_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text(
        "".join(json.dumps({"docid": d, "document": t}) + "\n" for d, t in (("x", "a b"), ("y", "c")))
    )
    row = {"annotation_id": "two", "classification": "NEG", "evidences": [], "docids": ["y", "x"]}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    (example,) = read_corpus(tmp_path).splits["test"]
    assert example.words == ("c", "a", "b") and example.documents == (("y", 1), ("x", 2))


def test_others_in_the_file_are_passed_over(tmp_path: Path) -> None:
    write_rationales(tmp_path / "out.jsonl", predictions(), EXAMPLES)
    assert set(read_rationales(tmp_path / "out.jsonl", [ONE])) == {"one"}
    with pytest.raises(DataError, match="out.jsonl: has none of the 1 documents that are evaluated"):
        read_rationales(tmp_path / "out.jsonl", [EraserExample("other", ("a",), "POS", ())])


def rationale(**fields: Any) -> dict[str, Any]:
    return {"annotation_id": "one", "rationales": [{"docid": "one"} | fields]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"annotation_id": ["one"]}, r":1: field 'annotation_id' must be a string or a whole number, found \['one'\]"),
        (rationale(docid=["one"]), r":1: field 'docid' must be a string or a whole number, found \['one'\]"),
        (rationale(docid={"a": 1}), r":1: field 'docid' must be a string or a whole number, found {'a': 1}"),
        (
            {"annotation_id": "one", "rationales": [{"docid": "one", "hard_rationale_predictions": []}] * 2},
            ":1: document 'one' appears twice in 'rationales'",
        ),
        ({"annotation_id": "one"}, ":1: has neither 'rationales' nor 'evidences'"),
        (rationale(), ":1: document 'one' has neither soft nor hard"),
        (rationale(soft_rationale_predictions=[1, 2]), ":1: .* of 'one' has 2 numbers, the document 4 words"),
        (rationale(soft_rationale_predictions=[1, 2, 3, float("nan")]), ":1: .* must be a list of finite numbers"),
        (rationale(soft_rationale_predictions=[1, 2, 3, 10**400]), ":1: .* must be a list of finite numbers"),
        (rationale(soft_rationale_predictions=[1, 2, 3, "x"]), ":1: .* must be a list of finite numbers"),
        (
            rationale(hard_rationale_predictions=[{"start_token": 2, "end_token": 5}]),
            r":1: span \[2, 5\) is out of range, document 'one' has 4 words",
        ),
        (rationale(hard_rationale_predictions=[{"start_token": 2}]), r":1: span \[2, nothing\) is out of range"),
        (rationale(docid="two"), ":1: docid 'two' is not the example's, which has one"),
        ({"annotation_id": "one", "rationales": "none"}, ":1: field 'rationales' must be a list of objects"),
        ({"annotation_id": "one", "evidences": {}}, ":1: field 'evidences' must be a list of groups"),
    ],
)
def test_bad_rows(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="bad.jsonl" + message):
        read_rationales(tmp_path / "bad.jsonl", [ONE])


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.jsonl: No such file"):
        read_rationales(tmp_path / "none.jsonl", [ONE])
    row = json.dumps(rationale(hard_rationale_predictions=[]))
    (tmp_path / "twice.jsonl").write_text(f"{row}\n{row}\n")
    with pytest.raises(DataError, match="twice.jsonl:2: annotation id 'one' appears twice"):
        read_rationales(tmp_path / "twice.jsonl", [ONE])
    with pytest.raises(DataError, match="document one: 1 scores, 4 words"):
        write_rationales(tmp_path / "out.jsonl", [Prediction("one", np.zeros(1))], EXAMPLES)
    assert not (tmp_path / "out.jsonl").exists()


def test_numbers_for_names_as_in_boolq(tmp_path: Path) -> None:
    row = {"annotation_id": 7, "rationales": [{"docid": 7, "hard_rationale_predictions": []}]}
    (tmp_path / "numbers.jsonl").write_text(json.dumps(row))
    assert set(read_rationales(tmp_path / "numbers.jsonl", [EraserExample("7", ("a",), "POS", ())])) == {"7"}


def test_soft_for_some_documents_only(tmp_path: Path) -> None:
    rows = [
        {"docid": "x", "soft_rationale_predictions": [1, 2]},
        {"docid": "y", "hard_rationale_predictions": []},
    ]
    (tmp_path / "half.jsonl").write_text(json.dumps({"annotation_id": "two", "rationales": rows}))
    with pytest.raises(DataError, match="no soft_rationale_predictions for document 'y'"):
        read_rationales(tmp_path / "half.jsonl", [TWO])


def test_soft_for_some_examples_only(tmp_path: Path) -> None:
    """A ranking of scores and one of zeros and ones have no mean; an example without an entry goes with both."""
    soft = [{"docid": "one", "soft_rationale_predictions": [1, 2, 3, 4]}]
    hard = [{"docid": "x", "hard_rationale_predictions": [{"start_token": 0, "end_token": 1}]}]
    rows = [{"annotation_id": "one", "rationales": soft}, {"annotation_id": "two", "rationales": hard}]
    (tmp_path / "mixed.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        DataError, match="mixed.jsonl: has soft.* in line 1 and hard rationales alone in line 2, the doc"
    ):
        read_rationales(tmp_path / "mixed.jsonl", [ONE, TWO])
    assert set(read_rationales(tmp_path / "mixed.jsonl", [ONE])) == {"one"}, "of the examples that are asked for"
    rows[1]["rationales"] = []
    (tmp_path / "mixed.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert set(read_rationales(tmp_path / "mixed.jsonl", [ONE, TWO])) == {"one", "two"}


def test_hard_rationales_beside_the_scores_of_some_examples_only(tmp_path: Path) -> None:
    """Of the others the size would be chosen by the data's density, of these it is the file's."""
    one = {"docid": "one", "soft_rationale_predictions": [1, 2, 3, 4], "hard_rationale_predictions": []}
    two = [{"docid": "x", "soft_rationale_predictions": [1, 2]}, {"docid": "y", "soft_rationale_predictions": [3]}]
    rows = [{"annotation_id": "one", "rationales": [one]}, {"annotation_id": "two", "rationales": two}]
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="some.jsonl: has hard.* beside the scores in line 1 and none in line 2, the"):
        read_rationales(path, [ONE, TWO])
    two[0]["hard_rationale_predictions"] = [{"start_token": 0, "end_token": 1}]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read_rationales(path, [ONE, TWO])
    hard = [found[name].hard for name in ("one", "two")]
    assert [None if one is None else one.tolist() for one in hard] == [[False] * 4, [True, False, False]]


def test_spans() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        mask = generator.random(generator.integers(0, 12)) < 0.5
        back = np.zeros(len(mask), dtype=bool)
        for start, end in spans_of(mask):
            assert not back[start:end].any() and mask[start:end].all()
            back[start:end] = True
        np.testing.assert_array_equal(back, mask)
