"""Saved scores alone: no model is loaded, tokens are words, whole documents are in view."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapler.eraser import read_corpus
from adapler.errors import ArgumentError, DataError, run_command
from analysis import loading, rationale_eval
from analysis.command.console import header
from analysis.documents.eraser_format import Prediction, write_rationales
from analysis.evaluation.given import read_given
from analysis.metrics import plausibility as pl
from analysis.output.report import RationaleReport


@pytest.fixture
def saved(corpus_folder: Path, tmp_path: Path) -> Path:
    examples = {example.id: example for example in read_corpus(corpus_folder).splits["test"]}
    rng = np.random.default_rng(0)
    rows = [Prediction(name, rng.random(len(example.words))) for name, example in examples.items()]
    write_rationales(tmp_path / "mine.jsonl", rows, examples)
    return tmp_path / "mine.jsonl"


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load_models", refuse)


def test_saved_scores_are_judged_word_by_word_without_a_model(corpus_folder: Path, saved: Path) -> None:
    report = rationale_eval.evaluate(data=corpus_folder, predictions=[saved], methods=[], progress=False)
    assert report.methods == ("mine",) and report.values.shape[:2] == (1, 1)
    examples = {example.id: example for example in read_corpus(corpus_folder).splits["test"]}
    predictions = rationale_eval.read_given([saved], None, list(examples.values()))[0].predictions
    frame = report.to_frame().set_index(["document", "metric"])["value"]
    for document in report.documents:
        labels, scores = examples[document.id].rationale(), predictions[document.id].scores
        assert document.tokens == document.content_tokens == len(labels) and document.prediction is None
        if document.skipped is None:
            assert frame[document.id, "average_precision"] == pytest.approx(pl.average_precision(labels, scores))
            expected = pl.false_positive_rate(labels, scores / scores.sum() >= 1 / len(labels))
            assert frame[document.id, "fpr"] == pytest.approx(expected)
    assert report.meta["truncation"]["words_lost"] == 0 and report.meta["tokens"] == "words"
    assert (report.meta["model"], report.meta["adapler"]) == (None, None) and math.isnan(report.accuracy)
    assert "whole documents" in header(report) and "accuracy" not in header(report)
    assert report.examples[0].tokens == examples[report.examples[0].id].words


def test_the_report_of_saved_scores_can_be_written_and_read(corpus_folder: Path, saved: Path, tmp_path: Path) -> None:
    options = ["--data", str(corpus_folder), "--predictions", str(saved), "--output", str(tmp_path / "out")]
    assert run_command(rationale_eval.main, [*options, "--methods", "--human", str(saved)]) == 0
    back = RationaleReport.from_json(tmp_path / "out" / "report.json")
    assert back.methods == ("mine", "human") and all(one.prediction is None for one in back.documents)
    assert (tmp_path / "out" / "summary.txt").read_text().startswith("model      none: saved scores only\n")
    assert "words" in (tmp_path / "out" / "table.md").read_text().splitlines()[0]


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": ["aopc_sufficiency"]},
        {"methods": ["random"]},
        {"methods": None},
        {"model": "somewhere"},
        {"rationales": "folder"},
    ],
)
def test_whatever_asks_a_model_loads_one(corpus_folder: Path, saved: Path, options: dict[str, Any]) -> None:
    everything: dict[str, Any] = {"predictions": [saved], "methods": [], "progress": False, **options}
    with pytest.raises(AssertionError, match="a model was loaded"):
        rationale_eval.evaluate(data=corpus_folder, **everything)


def test_what_a_model_alone_takes_is_refused_without_one(corpus_folder: Path, saved: Path) -> None:
    with pytest.raises(ArgumentError, match="max_length: no model is run, so whole documents are in view"):
        rationale_eval.evaluate(data=corpus_folder, predictions=[saved], methods=[], max_length=9)
    with pytest.raises(ArgumentError, match="policy: got 'rationale-windows', but no model is run, so whole documents"):
        rationale_eval.evaluate(data=corpus_folder, predictions=[saved], methods=[], policy="rationale-windows")
    with pytest.raises(ArgumentError, match="^dtype: no model is run, which could be given it"):
        rationale_eval.evaluate(data=corpus_folder, predictions=[saved], methods=[], dtype="bfloat16")
    with pytest.raises(ArgumentError, match="^queries: no model is run, which could be given it"):
        rationale_eval.evaluate(data=corpus_folder, predictions=[saved], methods=[], queries=True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            pd.DataFrame({"document": ["neg_0"] * 8, "score": ["x"] * 8}),
            "mine: document neg_0: column 'score' must hold n",
        ),
        (
            pd.DataFrame({"document": ["neg_0"] * 8 + [None], "score": 9 * [0.5]}),
            "mine: row 8 of the data frame has no doc",
        ),
        (
            pd.DataFrame({"document": ["neg_0"] * 8, "score": 8 * [0.5], "method": ["a"] * 7 + [np.nan]}),
            "mine: row 7 of the data frame has no method",
        ),
    ],
)
def test_a_damaged_data_frame_is_one_line(corpus_folder: Path, source: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        rationale_eval.evaluate(data=corpus_folder, predictions={"mine": source}, methods=[], progress=False)


def test_a_document_that_is_there_as_a_number_and_as_a_text(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": 1, "tokens": ["a", "b"], "label": 0, "rationale": [0, 1]}\n')
    with pytest.raises(DataError, match="^given: document 1 comes twice, as a text and as a number"):
        rationale_eval.evaluate(data=file, predictions={1: [0, 1], "1": [1, 0]}, methods=[], progress=False)
    both = pd.DataFrame({"document": [1, 1, "1", "1"], "score": [1.0, 2.0, 4.0, 3.0]})
    with pytest.raises(DataError, match="^given: document 1 comes twice, as a text and as a number"):
        rationale_eval.evaluate(data=file, predictions=both, methods=[], progress=False)


@pytest.mark.filterwarnings("error")
def test_scores_whose_sum_is_no_float_are_read_like_smaller_ones(corpus_folder: Path) -> None:
    """Else all of them would be shares of infinity, hence 0, and the method would select nothing."""
    examples = read_corpus(corpus_folder).splits["test"]
    rng = np.random.default_rng(0)
    small = {example.id: rng.random(len(example.words)) for example in examples}
    small[examples[0].id][:] = 1.0
    large = {name: np.ldexp(scores, 1023) for name, scores in small.items()}
    options: dict[str, Any] = {"methods": [], "metrics": ["average_precision", "tpr", "fpr"], "progress": False}
    for policy in ("truncate", "all-windows"):
        one, other = (
            rationale_eval.evaluate(data=corpus_folder, predictions={"mine": scores}, policy=policy, **options)
            for scores in (small, large)
        )
        np.testing.assert_array_equal(one.values, other.values)
        assert np.nanmax(one.values) == 1


def test_sources_of_other_numbers_of_layers_are_told_apart(corpus_folder: Path) -> None:
    sizes = {one.id: len(one.words) for one in read_corpus(corpus_folder).splits["test"]}
    sources = {
        name: {document: np.ones((layers, words)) for document, words in sizes.items()}
        for name, layers in {"two": 2, "three": 3}.items()
    }
    with pytest.raises(ArgumentError, match="'two' has scores of 2 layers; the model, or another of them, has 3$"):
        rationale_eval.evaluate(data=corpus_folder, predictions=sources, methods=[], progress=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_that_still_have_a_gradient(corpus_folder: Path, dtype: torch.dtype) -> None:
    """Of documents that are not evaluated (--limit), too: their sign counts."""
    first, second, *_ = read_corpus(corpus_folder).splits["test"]
    scores = {
        one.id: torch.linspace(lowest, 1, len(one.words), dtype=dtype, requires_grad=True)
        for one, lowest in ((first, 0), (second, -1))
    }
    (given,) = read_given(scores, None, [first])
    np.testing.assert_array_equal(given.predictions[first.id].scores, scores[first.id].detach().double())
    assert given.signed
