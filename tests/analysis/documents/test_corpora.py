from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapler.errors import DataError
from analysis import loading, rationale_eval
from analysis.documents.corpora import holds_json_lines, read_json_lines
from analysis.evaluation import plan

ROWS: list[dict[str, Any]] = [
    {"id": "a", "tokens": ["so", "dull", "."], "label": 1, "rationale": [0, 1, 1], "text": "ignored"},
    {"tokens": ["fine"], "label": 0, "rationale": None, "query": "good ?"},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_hatexplain_style_folder(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", ROWS)
    write(tmp_path / "train.jsonl", [{"text": "no tokens here", "label": 0}])  # no split to measure on
    (tmp_path / "meta.json").write_text(json.dumps({"labels": ["hate", "normal"]}))
    assert holds_json_lines(tmp_path)
    corpus = loading.load_corpus(tmp_path, split="test")
    assert corpus.labels == ("hate", "normal") and list(corpus.splits) == ["test"]
    first, second = corpus.splits["test"]
    assert (first.id, first.words, first.label, first.spans) == ("a", ("so", "dull", "."), "normal", ((1, 3),))
    assert (second.id, second.label, second.spans, second.query) == ("test-2", "hate", (), "good ?")
    with pytest.raises(DataError, match="train.jsonl:1: field 'tokens' must be a list of strings, found nothing"):
        read_json_lines(tmp_path, split="train")
    with pytest.raises(DataError, match="no split 'val', there are train, test"):
        read_json_lines(tmp_path, split="val")


def test_validation_is_val_and_a_file_is_the_split_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "validation.jsonl", ROWS)
    by_folder, by_file = read_json_lines(tmp_path, split="val"), read_json_lines(file, split="val")
    assert by_folder.splits == by_file.splits and by_folder.checksum == by_file.checksum
    assert by_folder.labels == ("0", "1")  # without names the indices
    assert list(read_json_lines(file, split="test").splits) == ["test"]


@pytest.mark.parametrize("split", ["val", "validation", "dev"])
def test_an_evaluation_takes_the_name_of_the_file_for_the_split(tmp_path: Path, split: str) -> None:
    write(tmp_path / "validation.jsonl", ROWS)
    mine = {"a": [0.1, 0.5, 0.4]}
    report = rationale_eval.evaluate(data=tmp_path, split=split, predictions={"mine": mine}, methods=[], progress=False)
    assert report.meta["split"] == "val" and [one.id for one in report.documents] == ["a", "val-2"]


@pytest.mark.parametrize(
    ("votes", "spans"),
    [
        ([[0, 1, 1], [0, 1, 0]], ((1, 2),)),  # half is not more than half
        ([[1, 1, 0], [0, 1, 0], [0, 1, 1]], ((1, 2),)),
        ([[1, 0, 0], [1, 0, 0], [0, 0, 0]], ((0, 1),)),
        ([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], ()),  # who marked nothing has a vote
        ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], ()),
        ([[1, 0, 0], None, []], ((0, 1),)),  # who did not annotate the text has none
        ([[0, 0, 0]], ()),
        ([], ()),  # HateXplain's texts that are normal
    ],
)
def test_several_annotators(tmp_path: Path, votes: list[list[int]], spans: Any) -> None:
    file = write(tmp_path / "test.jsonl", [ROWS[0] | {"rationale": votes}])
    assert read_json_lines(file, split="test").splits["test"][0].spans == spans


def test_an_eraser_folder_is_not_one(corpus_folder: Path) -> None:
    assert not holds_json_lines(corpus_folder) and not holds_json_lines(corpus_folder / "none.jsonl")


def test_a_number_that_is_an_index_and_another_label_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"labels": ["1", "2"]}))
    row = {"tokens": ["a", "dull", "film"], "label": 1, "rationale": [0, 1, 0]}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=":1: label 1 is ambiguous: index 1 is '2', and there is a label called '1'"):
        read_json_lines(tmp_path, split="test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"rationale": [0, 1]}, r":1: the rationale covers 2 tokens, the text has 3"),
        ({"rationale": [0, 1, 1, 1]}, r":1: the rationale covers 4 tokens, the text has 3"),
        ({"rationale": [0, 2, 0]}, r":1: field 'rationale' must be null, a list of 0 and 1, .* found \[0, 2, 0\]"),
        ({"rationale": [[0, 1, 1], [0, 1]]}, r":1: the rationale covers 2 tokens, the text has 3"),
        ({"rationale": [[0, 1, 1], [0, 1, "x"]]}, r":1: field 'rationale' must be .*, found \[0, 1, 'x'\]"),
        ({"rationale": [[0, 1, 1], 1]}, r":1: field 'rationale' must be .*, found \[\[0, 1, 1\], 1\]"),
        ({"rationale": "dull"}, r":1: field 'rationale' must be null, a list of 0 and 1"),
        ({"tokens": []}, r":1: field 'tokens' must be a list of strings, found \[\]"),
        ({"tokens": ["a", 1, "b"]}, r":1: field 'tokens'"),
        ({"label": 2}, r":1: label 2, meta.json has 2 labels"),
        ({"label": "odd"}, r":1: label 'odd' is not in meta.json, which has hate, normal"),
        ({"label": None}, r":1: field 'label' must be a name or an index, found nothing"),
        ({"label": True}, r":1: field 'label' must be"),
        ({"id": ["a"]}, r":1: field 'id' must be a string or a number"),
        ({"query": 5}, r":1: field 'query' must be a text or null, found 5"),
        (
            {"rationales_raw": [0, 1, 1]},
            r":1: field 'rationales_raw' must be a list of 0 and 1 for each annotator, found",
        ),
        (
            {"rationales_raw": {"a": [0, 1, 1]}},
            r":1: field 'rationales_raw' must be a list of 0 and 1 for each annotator",
        ),
        ({"rationale": 1, "rationales_raw": [[0, 1, 1]]}, r":1: field 'rationale' must be null, a list .* found 1"),
        ({"rationale": {"a": 1}, "rationales_raw": [[0, 1, 1]]}, r":1: field 'rationale' must be null, .* {'a': 1}"),
    ],
)
def test_bad_rows(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"labels": ["hate", "normal"]}))
    write(tmp_path / "test.jsonl", [ROWS[0] | row])
    with pytest.raises(DataError, match="test.jsonl" + message):
        read_json_lines(tmp_path, split="test")


def test_a_misspelt_rationale_is_not_none(tmp_path: Path) -> None:
    row = {"tokens": ["so", "dull"], "label": "NEG", "rationales": [0, 1]}
    with pytest.raises(DataError, match="test.jsonl:1: no field 'rationale', found 'rationales'; null says"):
        read_json_lines(write(tmp_path / "test.jsonl", [row]), split="test")
    bare = {name: value for name, value in row.items() if name != "rationales"}
    (example,) = read_json_lines(write(tmp_path / "test.jsonl", [bare]), split="test").splits["test"]
    assert not example.annotated


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([ROWS[0], {"id": "b", "tokens": "so dull", "label": 1}], ":2: field 'tokens' must be a list of strings"),
        (
            [ROWS[0], {"text": "so dull"}],
            ":2: field 'tokens' must be a list of strings, found nothing; the line has 'text'",
        ),
        ([ROWS[0] | {"rationale": [1]}], ":1: the rationale covers 1 tokens, the text has 3"),
        (["so dull"], ":1: a JSON object is expected, found str"),
    ],
)
def test_a_bad_row_of_another_split_is_not_passed_over(tmp_path: Path, lines: list[Any], message: str) -> None:
    """Without the split, the size of rationales would be measured on the evaluated one."""
    write(tmp_path / "test.jsonl", ROWS)
    write(tmp_path / "val.jsonl", lines)
    with pytest.raises(DataError, match=f"val.jsonl{message}"):
        read_json_lines(tmp_path, split="test")
    write(tmp_path / "val.jsonl", [])
    assert list(read_json_lines(tmp_path, split="test").splits) == ["test"]


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test.jsonl:2: id 'a' appears twice"):
        read_json_lines(write(tmp_path / "test.jsonl", [ROWS[0], ROWS[0]]), split="test")
    (tmp_path / "test.jsonl").write_text("\n")
    with pytest.raises(DataError, match="test.jsonl: holds no examples"):
        read_json_lines(tmp_path / "test.jsonl", split="test")
    (tmp_path / "test.jsonl").write_bytes(b"\xff")
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_json_lines(tmp_path, split="test")
    write(tmp_path / "test.jsonl", ROWS)
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(DataError, match="meta.json: not JSON"):
        read_json_lines(tmp_path, split="test")
    (tmp_path / "meta.json").write_text('{"labels": [1]}')
    with pytest.raises(DataError, match="meta.json: 'labels' must be a list of names"):
        read_json_lines(tmp_path, split="test")
    (tmp_path / "meta.json").write_text('{"labels": ["NEG", "NEG"]}')
    with pytest.raises(DataError, match="meta.json: 'labels' must be different names"):
        read_json_lines(tmp_path, split="test")
    (tmp_path / "meta.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="meta.json: not JSON .maximum recursion depth"):
        read_json_lines(tmp_path, split="test")
    (tmp_path / "meta.json").write_text('{"labels": null}')  # as a task's
    assert read_json_lines(tmp_path, split="test").labels


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    """Training reads validation.jsonl then; which one is meant here is not for us to choose."""
    for name in ("test", "val", "validation"):
        write(tmp_path / f"{name}.jsonl", ROWS)
    with pytest.raises(DataError, match="val.jsonl and validation.jsonl would be one split"):
        loading.load_corpus(tmp_path, split="val")


def test_what_is_measured_on_another_split_is_not_measured_on_the_evaluated_one(tmp_path: Path) -> None:
    marked = {"test": [1, 1, 1, 0], "val": [1, 0, 0, 0]}
    for split, marks in marked.items():
        rows = [{"id": split, "tokens": list("abcd"), "label": 0, "rationale": [marks, marks[::-1]], "query": split}]
        write(tmp_path / f"{split}.jsonl", rows)
    corpus = loading.load_corpus(tmp_path, annotators="0")
    assert corpus.checksum == loading.load_corpus(tmp_path / "test.jsonl", annotators="0").checksum
    report = rationale_eval.evaluate(
        data=corpus, predictions={"test": [3.0, 2.0, 1.0, 0.0]}, methods=[], metrics=["token_f1"], progress=False
    )
    assert report.meta["selection"] == {
        "density": 0.25, "size": 1.0, "word_density": 0.25, "source": "val", "split": "test"
    }  # fmt: skip
    assert report.values.ravel().tolist() == [0.5]  # one word of three, and no other
    assert report.meta["queries"] is True and not any("no other split" in note for note in report.meta["notes"])
    again = loading.load_corpus(corpus, annotators="union")
    assert [again.splits[split][0].spans for split in ("val", "test")] == [((0, 1), (3, 4)), ((0, 4),)]


def test_the_size_of_rationales_is_the_same_for_every_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MEASURED", 2)  # of eight, each of another size
    rows = [{"id": str(i), "tokens": ["w"] * 9, "label": 0, "rationale": [1] * i + [0] * (9 - i)} for i in range(1, 9)]
    for split in ("test", "val"):
        write(tmp_path / f"{split}.jsonl", rows)
    given: dict[str, Any] = {"predictions": {"3": list(range(9))}, "methods": [], "progress": False}
    reports = [rationale_eval.evaluate(data=tmp_path, metrics=["f1_at_density"], seed=i, **given) for i in range(4)]
    assert len({report.meta["selection"]["size"] for report in reports}) == 1
    assert (rationale_eval.RationaleReport.merge(reports)["runs"] == 4).all()
