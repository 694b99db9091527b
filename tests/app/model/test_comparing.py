from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import average_precision, false_positive_rate
from analysis.scores import get_method
from app.html import render_methods
from app.model import comparing, measuring, tracing
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS
from tests.app.html.test_render import HOSTILE, Reader, make_trace

TEXT, LABEL, SPAN = DOCUMENTS["neg_1"]
DOCUMENT = Document("neg_1", TEXT, LABEL, (SPAN,))


def trace_of(model: Any, tokenizer: Any, document: Document = DOCUMENT) -> tracing.Trace:
    return tracing.trace(model, tokenizer, document.words, rationale=document.rationale)


def test_cp_is_what_the_trace_shows(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer)
    got = comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "cp")
    np.testing.assert_allclose(got.scores, trace.scores, rtol=1e-5)
    assert got.retained is not None and (got.retained == trace.enters).all()


def test_metrics_are_the_analysis_layers(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer)
    got = comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "attention")
    content = trace.words >= 0
    assert got.selected is not None and got.retained is None
    for layer in range(trace.layers):
        labels, scores = trace.gold[content], got.scores[layer][content]
        assert got.metrics[layer, 0] == pytest.approx(average_precision(labels, scores))
        assert got.metrics[layer, 1] == pytest.approx(false_positive_rate(labels, got.selected[layer][content]))
    assert 0 < got.chance < 1


def test_every_method_can_be_shown(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer)
    assert set(comparing.names()) >= {"cp", "lime", "globenc"} and len(set(comparing.names())) == len(comparing.names())
    found: dict[str, comparing.Comparison | str] = {}
    for name in ("saliency_gold", "rollout", "occlusion", "saliency_signed", "random"):
        found[name] = comparing.compare(app_model, tiny_tokenizer, DOCUMENT, name)
    for layer in range(trace.layers):
        text = Reader(render_methods.cards(trace, found, layer=layer)).text
        assert "scores of the input, the same at every layer" in text and "signed: no selection at 1/n" in text
        assert "AP " in text and "(chance " in text


def test_dear_methods_are_those_that_take_many_passes() -> None:
    dear = {name for name in comparing.names() if comparing.is_dear(get_method(name))}
    assert dear == {"gradient_shap", "integrated_gradients", "kernel_shap", "layer_integrated_gradients", "lime",
                    "occlusion"}  # fmt: skip


def test_no_label_and_no_rationale(app_model: Any, tiny_tokenizer: Any) -> None:
    plain = Document("own text", TEXT)
    with pytest.raises(ArgumentError, match="needs the text's gold label, and this text has none"):
        comparing.compare(app_model, tiny_tokenizer, plain, "saliency_gold")
    with pytest.raises(ArgumentError, match="gold label"):
        comparing.compare(app_model, tiny_tokenizer, Document("x", TEXT, "MEH"), "saliency_gold")
    got = comparing.compare(app_model, tiny_tokenizer, plain, "saliency")
    assert np.isnan(got.metrics).all()
    card = render_methods.cards(trace_of(app_model, tiny_tokenizer, plain), {"saliency": got}, layer=0)
    assert "no rationale to judge by" in Reader(card).text


def test_hostile_text_in_a_card() -> None:
    trace = make_trace(HOSTILE, [index % 4 for index in range(len(HOSTILE))])
    one = comparing.Comparison(
        title="<script>1</script>", scores=trace.scores.astype(np.float32) * np.where(np.arange(len(trace)) % 2, 1, -1),
        selected=trace.enters, retained=trace.enters, signed=False, metrics=np.full((3, 3), 0.5), chance=0.2, seconds=0,
    )  # fmt: skip
    read = Reader(render_methods.cards(trace, {"a": one, "<b>": "<img src=x>"}, layer=1))
    assert read.open == []
    assert {tag for tag, _ in read.elements} <= {"div", "section", "span", "s", "b", "bdi"}
    assert " ".join(["[CLS]", *HOSTILE, "[SEP]"]) in read.text and "<img src=x>" in read.text


def test_the_selection_is_outlined_and_negative_scores_are_dotted() -> None:
    trace = make_trace(["one", "two"], [3, 3])
    one = comparing.Comparison(
        title="x", scores=np.array([[0.1, 0.5, -0.3, 0.1]], dtype=np.float32), selected=None, retained=None,
        signed=True, metrics=np.full((1, 3), np.nan), chance=np.nan, seconds=0,
    )  # fmt: skip
    classes = [attrs["class"] for tag, attrs in Reader(render_methods.text(trace, one, 2)).elements if tag == "span"]
    assert classes == ["on", "on", "on neg", "on"]


def test_sweep_and_timing(app_model: Any, tiny_tokenizer: Any) -> None:
    words = tuple(DOCUMENTS["pos_1"][0].split())
    table = measuring.sweep(app_model, tiny_tokenizer, words)
    assert table["scale"].tolist() == list(measuring.SCALES)
    assert table["tokens"].is_monotonic_decreasing and table["tokens"].iloc[-1] < table["tokens"].iloc[0]
    trace = tracing.trace(app_model, tiny_tokenizer, words, rationale=np.zeros(len(words), dtype=bool))
    at_one = table[table["scale"] == 1.0].iloc[0]
    assert at_one["speedup"] == pytest.approx(trace.speedup) and at_one["label"] == trace.label
    timing = measuring.measure(app_model, tiny_tokenizer, words, threshold_scale=1.0)
    assert timing.removal > 0 and timing.plain > 0
