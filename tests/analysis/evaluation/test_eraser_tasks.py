"""Other tasks of ERASER, in the shapes that their files have, from the folder to the report.

MultiRC   a document answers many queries; `docids` is null, an evidence names the document, its sentences are apart
BoolQ     documents of thousands of words under names that are titles; `docids` names them
e-SNLI    two short documents an example, the evidence in either; no query
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis import rationale_eval
from analysis.documents.eraser_format import read_rationales
from analysis.loading import load_corpus
from analysis.output.report import RationaleReport
from tests.conftest import tiny_classifier

SENTENCES = [
    "the plot is dull .",
    "rain , rain , rain .",
    "a superb film , and moving .",
    "the film is unforgettable .",
]
Evidence = tuple[str, int, int]


def write(folder: Path, documents: dict[str, str], rows: list[dict[str, Any]]) -> Path:
    for name, text in documents.items():
        path = folder / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def row(name: str, label: str, query: str, docids: list[str] | None, groups: list[list[Evidence]], text: Any) -> Any:
    def evidence(docid: str, start: int, end: int) -> dict[str, Any]:
        words = text[docid].split()[start:end]
        place = {"start_token": start, "end_token": end, "start_sentence": 0, "end_sentence": 1}
        return {"docid": docid, "text": " ".join(words), **place}

    return {
        "annotation_id": name,
        "classification": label,
        "docids": docids,
        "evidences": [[evidence(*one) for one in group] for group in groups],
        "query": query,
        "query_type": None,
    }


@pytest.fixture
def multirc(tmp_path: Path) -> Path:
    name = "Fiction-stories-masc-A_Dull_Plot-2.txt"
    text = {name: "\n".join(SENTENCES) + "\n"}
    rows = [
        row(f"{name}:0:0", "True", "is the plot dull ? || dull", None, [[(name, 0, 5), (name, 18, 23)]], text),
        row(f"{name}:0:1", "False", "is the plot dull ? || superb", None, [[(name, 0, 5), (name, 18, 23)]], text),
        row(f"{name}:1:0", "True", "is the film moving ? || and superb", None, [[(name, 11, 18)]], text),
    ]
    return write(tmp_path / "multirc", text, rows)


@pytest.fixture
def boolq(tmp_path: Path) -> Path:
    paragraph = " ".join(SENTENCES)  # 23 words
    text = {"Rain_(2001_film)": "\n".join([paragraph] * 60), "AC/DC": "\n".join([paragraph] * 50)}
    rows = [
        row("0", "True", "is rain a film", ["Rain_(2001_film)"], [[("Rain_(2001_film)", 690, 713)]], text),
        row("1", "False", "is the film of rain", ["AC/DC"], [[("AC/DC", 23, 46)], [("AC/DC", 1035, 1046)]], text),
        row("2", "True", "is the plot a plot", ["AC/DC"], [], text),
    ]
    return write(tmp_path / "boolq", text, rows)


def run(folder: Path, tokenizer: Any, **options: Any) -> RationaleReport:
    defaults: dict[str, Any] = {"methods": ["saliency", "attention", "occlusion", "random"], "progress": False}
    return rationale_eval.evaluate(
        model=tiny_classifier(num_labels=2), tokenizer=tokenizer, data=folder, **(defaults | options)
    )


def test_multirc(multirc: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    report = run(multirc, tiny_tokenizer, rationales=tmp_path / "out", rationale_layer=1)
    assert report.meta["queries"] is True and report.n_skipped == 0
    first, second, third = report.documents
    assert [one.label for one in report.documents] == ["LABEL_1", "LABEL_0", "LABEL_1"]  # True, False, True
    # the words of the document alone are judged: [CLS], the query and two [SEP] are not
    assert first.tokens == first.content_tokens + 3 + 8 and third.tokens == third.content_tokens + 3 + 9
    assert (first.rationale_tokens, third.rationale_tokens) == (11, 7)  # dull . and un ##forgettable are pieces
    shown = next(example for example in report.examples if example.id == first.id)
    marked = [token for token, gold in zip(shown.tokens, shown.rationale, strict=True) if gold]
    assert marked == "the plot is dull . the film is un ##forgettable .".split()
    assert not shown.rationale[shown.words < 0].any()
    # two answers to one query are two texts
    values = report.values[report.methods.index("saliency"), 0, :2, 0]
    assert np.isfinite(report.values[0]).all() and values[0] != values[1]
    # written and read again under the document's own name, which is not the annotation's
    examples = load_corpus(multirc).splits["test"]
    assert set(read_rationales(tmp_path / "out" / "saliency.jsonl", examples)) == {one.id for one in examples}
    written = json.loads((tmp_path / "out" / "saliency.jsonl").read_text().splitlines()[0])
    assert written["rationales"][0]["docid"] == "Fiction-stories-masc-A_Dull_Plot-2.txt"


def test_a_split_with_one_query_keeps_it_when_those_of_the_corpus_differ(multirc: Path, tiny_tokenizer: Any) -> None:
    """A model trained with queries reads them in a split, too, whose documents all happen to have the same."""
    lines = (multirc / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (multirc / "test.jsonl").write_text(lines[0], encoding="utf-8")
    true = lines[0].replace(':0:0"', ':8:0"')
    false = lines[0].replace('"True"', '"False"').replace(':0:0"', ':9:0"')
    (multirc / "train.jsonl").write_text(true + false, encoding="utf-8")
    assert run(multirc, tiny_tokenizer).meta["queries"] is False, "one query in all says nothing"
    (multirc / "train.jsonl").write_text(true + lines[1], encoding="utf-8")
    report = run(multirc, tiny_tokenizer)
    assert report.meta["queries"] is True
    assert [one.tokens - one.content_tokens for one in report.documents] == [3 + 8]
    assert run(multirc, tiny_tokenizer, queries=False).meta["queries"] is False


@pytest.mark.parametrize("policy", ["truncate", "rationale-windows", "all-windows"])
def test_boolq(boolq: Path, tiny_tokenizer: Any, policy: str) -> None:
    report = run(boolq, tiny_tokenizer, policy=policy, methods=["saliency", "random"])
    account, skipped = report.meta["truncation"], [one.skipped for one in report.documents]
    assert account["words"] == 60 * 23 + 2 * 50 * 23
    assert skipped[2] == "no rationale in view", "an example without evidence is classified, not judged"
    if policy == "truncate":  # the first rationale lies far beyond the window
        assert skipped == ["no rationale in view", None, "no rationale in view"]
        assert account["rationale_words_lost"] == 23 + (23 - 8) + 11  # 8 more words fit beside the query
    else:
        assert skipped[:2] == [None, None] and account["rationale_words_lost"] == 0
        assert (account["words_lost"] == 0) == (policy == "all-windows")
    scored = [one is None for one in skipped]
    assert np.isfinite(report.values[0][:, scored]).all() and np.isnan(report.values[0][:, ~np.array(scored)]).all()


def test_boolq_under_eraser_s_protocol(boolq: Path, tiny_tokenizer: Any) -> None:
    report = run(boolq, tiny_tokenizer, protocol="eraser", methods=["saliency"], faithfulness_layers=[0], limit=2)
    assert report.meta["windows"]["total"] > 40
    scored = np.array([one.skipped is None for one in report.documents])
    assert len(scored) == 2 and np.isfinite(report.values[0, 0, scored]).all()
    assert "labels balanced, seed 0" in report.meta["sample"]


def test_eraser_s_own_numbers_from_annotations_as_they_stand(multirc: Path, tiny_tokenizer: Any) -> None:
    """The corpus' own annotation as a prediction is perfect, touching evidences and empty ones as the scorer counts."""
    lines = [json.loads(line) for line in (multirc / "test.jsonl").read_text().splitlines()]
    name = lines[2]["evidences"][0][0]["docid"]
    touching = [{**lines[2]["evidences"][0][0], "start_token": 11, "end_token": 14, "text": "and moving ."}]
    touching.append({**touching[0], "start_token": 14, "end_token": 18})
    lines[2]["evidences"] = [touching]
    (multirc / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = run(
        multirc,
        tiny_tokenizer,
        protocol="eraser",
        methods=["random"],
        human=multirc / "test.jsonl",
        metrics=["auprc", "token_f1", "iou_f1"],
    )
    human = report.methods.index("human")
    assert (report.values[human, 0] == 1).all()
    (block,) = report.meta["eraser_scores"]["human"]
    assert block["token_prf"]["instance_micro"]["f1"] == 1 and block["token_soft_metrics"]["auprc"] == 1
    # one run of 7 words against evidences of 3 and 4: right (4/7) for precision, one of two for recall
    assert block["iou_scores"][0]["macro"] == pytest.approx({"p": 1.0, "r": 2.5 / 3, "f1": 2 * 2.5 / 3 / (1 + 2.5 / 3)})
    assert len(report.meta["eraser_scores"]["random"]) == report.n_layers
    assert report.meta["selection"]["source"] == "test" and name


def test_a_query_that_leaves_no_room(boolq: Path, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="max_length: got 7, must be at least 8 with the query of document 0"):
        run(boolq, tiny_tokenizer, max_length=7)


def test_two_documents_an_example(tmp_path: Path, tiny_tokenizer: Any) -> None:
    text = {"7.jpg#1_premise": "a superb film", "7.jpg#1_hypothesis": "the film is dull ."}
    rows = [row("7.jpg#1", "contradiction", "", list(text), [[("7.jpg#1_hypothesis", 3, 4)]], text)]
    rows.append(row("7.jpg#2", "entailment", "", list(text), [[("7.jpg#1_premise", 1, 2)]], text))
    report = run(write(tmp_path / "esnli", text, rows), tiny_tokenizer, rationales=tmp_path / "out", rationale_layer=1)
    assert report.meta["queries"] is False and report.n_skipped == 0
    assert [example.tokens[1:-1] for example in report.examples] == [
        (*text["7.jpg#1_premise"].split(), *text["7.jpg#1_hypothesis"].split())
    ] * 2
    assert [np.flatnonzero(example.rationale).tolist() for example in report.examples] == [[7], [2]]
    line = json.loads((tmp_path / "out" / "saliency.jsonl").read_text().splitlines()[0])
    assert [(one["docid"], len(one["soft_rationale_predictions"])) for one in line["rationales"]] == [
        ("7.jpg#1_premise", 3),
        ("7.jpg#1_hypothesis", 5),
    ]
