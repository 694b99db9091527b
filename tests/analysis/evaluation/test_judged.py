"""What a report says of documents: labels, chance, ties."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from adapler.eraser import EraserCorpus, EraserExample
from analysis import rationale_eval
from analysis.documents.alignment import align
from analysis.documents.units import WindowScores
from analysis.evaluation import run as run_module
from analysis.evaluation.judging import Judge
from analysis.evaluation.plan import Plan
from analysis.evaluation.scoring import ScoredWindow
from analysis.evaluation.settings import Settings
from analysis.results.records import DocumentRecord
from tests.analysis.conftest import GOOD, Document
from tests.analysis.evaluation.test_evaluation import run


def test_ties_are_broken_by_the_seed(corpus_folder: Path) -> None:
    mine = {"neg_1": [0.0] * 11, "pos_long": [0.0] * 46}
    options: dict[str, Any] = {"data": corpus_folder, "predictions": {"mine": mine}, "methods": [], "progress": False}
    values = [
        rationale_eval.evaluate(metrics=["iou_f1"], density=0.2, seed=seed, **options).values for seed in (0, 1, 0)
    ]
    assert np.array_equal(values[0], values[2], equal_nan=True)
    assert not np.array_equal(values[0], values[1], equal_nan=True), "ties are broken by the seed"


def test_chance_of_given_scores_is_of_the_documents_that_count(adapler_folder: Path, corpus_folder: Path) -> None:
    report = run(adapler_folder, corpus_folder, methods=["random"], human=corpus_folder / "test.jsonl")
    scored = len(report.documents) - report.n_skipped
    assert 0 < report.n_skipped
    assert report.meta["chance_by_method"]["human"] == {
        "documents": scored,
        "density": pytest.approx(report.meta["density"]),
        "average_precision": pytest.approx(report.meta["chance_average_precision"]),
    }


def test_chance_is_of_documents_that_have_other_words_too(classifier: Any, tiny_tokenizer: Any) -> None:
    """ERASER judges a document whose every word is rationale, but any order of it has an AP of 1."""
    examples = tuple(EraserExample(f"{end} of 2", ("film", "plot"), "NEG", ((0, end),), "") for end in (2, 1))
    corpus = EraserCorpus("two", "", "0", ("NEG", "POS"), {"test": examples})
    settings = Settings(protocol="eraser")
    plan = Plan(model=classifier, tokenizer=tiny_tokenizer, corpus=corpus, split="test", settings=settings)
    assert plan.densities.tolist() == [1.0, 0.5] and np.isnan(plan.chances[0])
    assert plan.chance_average_precision == plan.chances[1] == 0.75


def test_an_examples_label_is_of_the_model_that_drops_tokens(tiny_tokenizer: Any) -> None:
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    judge: Any = SimpleNamespace(
        _examples={0: (ScoredWindow(window, {}, np.zeros(2, dtype=np.float32)), {})},
        plan=SimpleNamespace(tokenizer=tiny_tokenizer),
    )
    record = replace(DocumentRecord.of_id("d"), prediction="NEG", adapler_prediction="POS")
    assert Judge.examples(judge, (record,))[0].prediction == "POS"
    assert Judge.examples(judge, (replace(record, adapler_prediction=None),))[0].prediction == "NEG"


def test_several_windows_are_classified_by_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("backbone_flops", "adapler_flops"):
        monkeypatch.setattr(run_module, name, lambda *_: torch.ones(1))
    outcome = run_module._Outcome([None], object(), SimpleNamespace(config=None), 1)  # type: ignore[arg-type]
    windows = [
        SimpleNamespace(window=[0] * 3, logits=np.array(plain), adapler_logits=np.array(reduced), lengths=np.array([2]))
        for plain, reduced in (((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), ((0.0, 3.0, 0.0), (0.0, 0.0, 3.0)))
    ]
    outcome.add(0, windows)  # type: ignore[arg-type]
    assert outcome.predicted[0] == 1, "the mean of both windows' logits"
    assert outcome.predicted_adapler[0] == 2, "of those with removal, too"


def test_documents_with_a_rationale_of_moderate_length_are_shown_first() -> None:
    lengths = [(4, None), (81, None), (5, None), (30, "no rationale in view"), (80, None), (6, None)]
    outlines = [SimpleNamespace(rationale_tokens=n, skipped=why) for n, why in lengths]
    for number, expected in ((2, [2, 4]), (4, [0, 2, 4, 5]), (9, [0, 1, 2, 4, 5])):
        plan: Any = SimpleNamespace(outlines=outlines, settings=SimpleNamespace(examples=number))
        assert Plan.example_documents(plan) == expected


def test_diagnostics_are_over_all_windows_and_layers() -> None:
    judge: Any = SimpleNamespace(_diagnostics={})
    for gaps in ([[0.1, 0.5], [0.3, 0.2]], [[0.9, 0.4]]):  # two documents, of two windows and of one
        scores = [{"mine": WindowScores(np.zeros((2, 3)), diagnostics={"gap": np.array(one)})} for one in gaps]
        Judge._note_diagnostics(judge, [SimpleNamespace(scores=one) for one in scores])  # type: ignore[misc]
    assert Judge.diagnostics.fget(judge) == {"mine": {"gap": {"mean": pytest.approx(0.4), "min": 0.1, "max": 0.9}}}
