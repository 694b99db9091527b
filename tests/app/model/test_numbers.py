"""The app's numbers against computations of their own."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from app.model import comparing, faithful, measuring, survey, tracing
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS
from tests.app.markup.test_render import make_trace

TEXT, LABEL, SPAN = DOCUMENTS["neg_1"]


DOCUMENT = Document("neg_1", TEXT, LABEL, (SPAN,))


def trace_of(model: Any, tokenizer: Any, words: tuple[str, ...]) -> tracing.Trace:
    return tracing.trace(model, tokenizer, words, rationale=np.zeros(len(words), dtype=bool))


def test_faithfulness_is_of_the_verdict_without_removal(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer, DOCUMENT.words)
    found = {"cp": comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "cp")}
    other = replace(trace, probabilities=trace.full_probabilities[::-1].copy())  # removal changes the verdict
    one, whole, label = faithful.table(app_model, tiny_tokenizer, DOCUMENT, trace, found)
    two, whole_too, label_too = faithful.table(app_model, tiny_tokenizer, DOCUMENT, other, found)
    assert one.equals(two) and (whole, label) == (whole_too, label_too)


def test_only_what_was_kept_to_the_end(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer, DOCUMENT.words)
    found = {"cp": comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "cp")}
    table, whole, _ = faithful.table(app_model, tiny_tokenizer, DOCUMENT, trace, found)
    kept = tuple(word for token, word in enumerate(DOCUMENT.words, start=1) if trace.enters[-1, token])
    assert 0 < len(kept) < trace.lengths[0] - 2 and table["tokens"].iloc[-1] == len(kept)
    only = trace_of(app_model, tiny_tokenizer, kept).full_probabilities[int(trace.full_probabilities.argmax())]
    assert table["sufficiency"].iloc[-1] == pytest.approx(whole - only, abs=1e-5)


def test_scores_that_are_all_the_same() -> None:
    trace = make_trace(["a", "b", "c"], [0, 1, 3])
    present = np.vstack([np.ones((1, 5), dtype=bool), trace.enters[:-1]])
    np.testing.assert_allclose(trace.ratios, present), "scores that are all the same are 1/n"


def test_a_sweep_follows_the_first_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        config = SimpleNamespace(id2label={0: "NEG", 1: "POS"})

        def __call__(self, *, removal: str, threshold_scale: float = 0.0, **_: Any) -> Any:
            logits = torch.tensor([[0.0, 1.0]]) if removal == "none" else torch.tensor([[0.0, 1.0 - threshold_scale]])
            return SimpleNamespace(logits=logits, lengths=torch.tensor([[3]]))

    monkeypatch.setattr(measuring, "encode", lambda *_: ({"input_ids": torch.zeros(1, 4)}, None))
    monkeypatch.setattr(measuring, "speedup", lambda *_: 1.0)
    table = measuring.sweep(Fake(), None, ("a",)).set_index("scale")
    assert table.loc[2.0, "label"] == "NEG"
    assert table.loc[2.0, "probability"] == pytest.approx(1 / (1 + np.e)), "of POS, the verdict without removal"


def test_a_survey_has_both_probabilities(app_model: Any, tiny_tokenizer: Any) -> None:
    (one,) = survey.read(app_model, tiny_tokenizer, [DOCUMENT])
    trace = trace_of(app_model, tiny_tokenizer, DOCUMENT.words)
    assert one.full_probability == pytest.approx(trace.full_probabilities.max(), abs=1e-6) != one.probability


def test_scores_are_of_float32(app_model: Any, tiny_tokenizer: Any) -> None:
    low = comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "saliency", dtype="bfloat16")
    np.testing.assert_array_equal(low.scores, comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "saliency").scores)
