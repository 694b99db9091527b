from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from transformers import BertConfig, BertForSequenceClassification

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.errors import ArgumentError
from analysis.metrics.plausibility import average_precision, false_positive_rate, true_positive_rate
from analysis.scores import get_method
from app.markup import player, render_methods
from app.model import comparing, measuring, tracing
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS
from tests.app.markup.test_render import make_trace

TEXT, LABEL, SPAN = DOCUMENTS["neg_1"]
DOCUMENT = Document("neg_1", TEXT, LABEL, (SPAN,))


def trace_of(model: Any, tokenizer: Any, document: Document = DOCUMENT) -> tracing.Trace:
    return tracing.trace(model, tokenizer, document.words, rationale=document.rationale)


def joined(one: comparing.Comparison | str, layer: int) -> str:
    """What a card says above its text."""
    return one if isinstance(one, str) else " ".join(render_methods.notes(one, layer))


def test_cp_is_what_the_trace_shows(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer)
    got = comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "cp")
    np.testing.assert_allclose(got.scores, trace.scores, rtol=1e-5)
    assert got.retained is not None and (got.retained == trace.enters).all()


def test_metrics_are_the_analysis_layers(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer)
    got = comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "attention")
    content = trace.words >= 0
    assert got.selected is not None and got.retained is None and got.present.all()
    assert got.content.tolist() == content.tolist()
    for layer in range(trace.layers):
        labels, scores = trace.gold[content], got.scores[layer][content]
        assert got.metrics[layer, 0] == pytest.approx(average_precision(labels, scores))
        assert not got.selected[layer, ~content].any(), "special tokens are not judged, hence not selected"
        assert (got.selected[layer] == (content & (got.scores[layer] >= 1 / len(trace)))).all()
        assert got.metrics[layer, 1] == pytest.approx(false_positive_rate(labels, got.selected[layer][content]))
    assert 0 < got.chance < 1


def test_every_method_can_be_shown(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer)
    assert set(comparing.names()) >= {"cp", "lime", "globenc"} and len(set(comparing.names())) == len(comparing.names())
    found: dict[str, comparing.Comparison | str] = {}
    for name in ("saliency_gold", "rollout", "occlusion", "saliency_signed", "random"):
        found[name] = comparing.compare(app_model, tiny_tokenizer, DOCUMENT, name)
    for layer in range(trace.layers):
        text = " ".join(joined(one, layer) for one in found.values())
        assert "one score a token, the same at every layer" in text and "signed: no selection at 1/n" in text
        assert "AP " in text and "(chance " in text


def test_dear_methods_are_those_that_take_many_passes() -> None:
    dear = {name for name in comparing.names() if comparing.is_dear(get_method(name))}
    assert dear == {"gradient_shap", "integrated_gradients", "kernel_shap", "layer_integrated_gradients", "lime",
                    "occlusion", "shapley_sampling", "smoothgrad", "vargrad"}  # fmt: skip


def test_the_cost_of_a_dear_method_is_said_in_passes() -> None:
    costs = {name: comparing.cost_of(get_method(name), tokens=110, layers=6) for name in comparing.names()}
    assert costs["lime"] == costs["kernel_shap"] == "about 2,268 forward passes"
    assert costs["occlusion"] == "about 110 forward passes"
    assert costs["integrated_gradients"] == "about 50 passes forward and back"
    assert costs["layer_integrated_gradients"] == "about 120 passes forward and back"
    assert costs["gradient_shap"] == "about 20 passes forward and back"
    assert costs["attention_gradient_local"] == get_method("attention_gradient_local").cost
    short = comparing.cost_of(get_method("lime(n_samples=300)"), tokens=110, layers=6)
    assert short == "about 300 forward passes"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("attention", "in the layer: about this layer alone"),
        ("attention_gradient_local", "in the layer: about this layer alone \N{MIDDLE DOT} explains "),
        ("saliency", "from the layer to the output: what the token's state before this layer weighs"),
        ("rollout", "from the input to the layer: what the token of the input weighs"),
        ("occlusion", "at the input: one score a token, the same at every layer"),
    ],
)
def test_a_card_says_what_a_layers_score_is_about(app_model: Any, tiny_tokenizer: Any, name: str, said: str) -> None:
    trace, got = trace_of(app_model, tiny_tokenizer), comparing.compare(app_model, tiny_tokenizer, DOCUMENT, name)
    text = joined(got, 1)
    assert said in text
    if name in ("saliency", "occlusion"):
        assert f"explains {trace.full_label}" in text, "the prediction of the model without removal"


@pytest.mark.parametrize("method", ["lime(n_samples=6)", "integrated_gradients(n_steps=2)"])
@pytest.mark.filterwarnings("ignore::analysis.scores.perturbation.UnstableScoresWarning")
def test_a_card_says_how_far_a_method_trusts_itself(app_model: Any, tiny_tokenizer: Any, method: str) -> None:
    got = comparing.compare(app_model, tiny_tokenizer, DOCUMENT, method)
    ((name, values),) = got.diagnostics.items()
    text = joined(got, 2)
    if name == "stability":
        assert f"stability {values[0]:.2f}" in text
        assert ("other samples would rank" in text) == (values[0] < 0.5)
    else:
        assert f"completeness gap {100 * values[0]:.1f}%" in text


def test_no_label_and_no_rationale(app_model: Any, tiny_tokenizer: Any) -> None:
    plain = Document("own text", TEXT)
    with pytest.raises(ArgumentError, match="needs the text's gold label, and this text has none that"):
        comparing.compare(app_model, tiny_tokenizer, plain, "saliency_gold")
    with pytest.raises(ArgumentError, match="gold label"):
        comparing.compare(app_model, tiny_tokenizer, Document("x", TEXT, "MEH"), "saliency_gold")
    got = comparing.compare(app_model, tiny_tokenizer, plain, "saliency")
    assert np.isnan(got.metrics).all()
    assert "no rationale to judge by" in joined(got, 0)


def test_a_signed_method_selects_nothing_and_its_shades_share_out_their_size() -> None:
    trace = make_trace(["one", "two"], [3, 3])
    one = comparing.Comparison(
        title="x", scope="in the layer", target=None,
        scores=np.array([[0.1, 0.5, -0.3, 0.1]], dtype=np.float32), present=np.ones((1, 4), dtype=bool),
        content=trace.words >= 0, selected=None, retained=None, layerwise=False, metrics=np.full((1, 3), np.nan),
        unjudged="no rationale to judge by", chance=np.nan,
    )  # fmt: skip
    panel = render_methods.panel(trace, one)
    assert panel["selected"] is None and panel["depth"] is None and panel["thresholds"] is None
    assert panel["total"] == pytest.approx([1.0]) and panel["n"] == [4]
    assert panel["raw"], "a raw score is not said to equal its share of the sizes times 1/n"
    unsigned = replace(one, scores=np.abs(one.scores), selected=np.zeros((1, 4), dtype=bool))
    assert not render_methods.panel(trace, unsigned)["raw"]
    assert "signed: no selection at 1/n" in joined(one, 2)


def test_ranks_are_among_the_tokens_present(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = trace_of(app_model, tiny_tokenizer)
    found = {name: comparing.compare(app_model, tiny_tokenizer, DOCUMENT, name) for name in ("cp", "saliency")}
    token = int(np.argmax(trace.depth == trace.depth[1:-1].min()))
    table = comparing.rank_table(found, [token], layers=trace.layers)
    for layer in range(trace.layers):
        at = table[f"layer {layer}"]
        present = trace.enters[layer - 1] if layer else np.ones(len(trace), dtype=bool)
        scores = trace.scores[layer][present]
        expected = f"{1 + int((scores > trace.scores[layer, token]).sum())} of {present.sum()}"
        assert at.iloc[0] == expected if present[token] else pd.isna(at.iloc[0])
        assert at.iloc[1].endswith(f"of {len(trace)}")
    word = comparing.rank_table(found, [1, token], layers=trace.layers)
    assert int(word["layer 0"].iloc[0].split()[0]) <= int(table["layer 0"].iloc[0].split()[0]), "its best wordpiece's"


def test_sweep_and_timing(app_model: Any, tiny_tokenizer: Any) -> None:
    words = tuple(DOCUMENTS["pos_1"][0].split())
    table = measuring.sweep(app_model, tiny_tokenizer, words)
    assert table["scale"].tolist() == list(measuring.SCALES)
    assert table["tokens"].is_monotonic_decreasing and table["tokens"].iloc[-1] < table["tokens"].iloc[0]
    trace = tracing.trace(app_model, tiny_tokenizer, words, rationale=np.zeros(len(words), dtype=bool))
    at_one = table[table["scale"] == 1.0].iloc[0]
    assert at_one["speedup"] == pytest.approx(trace.speedup) and at_one["label"] == trace.label
    timing = measuring.measure(app_model, tiny_tokenizer, words, threshold_scale=1.0)
    assert len(timing.removal) == len(timing.plain) == measuring.REPEATS
    assert min(*timing.removal, *timing.plain) > 0
    assert min(timing.ratios) <= timing.ratio <= max(timing.ratios)


def test_contribution_scores_are_judged_among_the_tokens_present(app_model: Any, tiny_tokenizer: Any) -> None:
    text, label, span = DOCUMENTS["pos_1"]
    document = Document("pos_1", text, label, (span,))
    trace = trace_of(app_model, tiny_tokenizer, document)
    got = comparing.compare(app_model, tiny_tokenizer, document, "cp")
    content = trace.words >= 0
    assert got.present.sum(1).tolist() == trace.present.tolist() and trace.present[2] < len(trace)
    assert got.selected is not None
    for layer in range(trace.layers):
        expected = content & (trace.scores[layer] >= 1 / trace.present[layer])
        assert (got.selected[layer] == expected).all()
        assert not (got.selected[layer] & ~got.present[layer]).any(), "what was dropped before is not selected"
        gold = trace.gold[content]
        assert got.metrics[layer, 1] == pytest.approx(false_positive_rate(gold, expected[content]))
        assert got.metrics[layer, 2] == pytest.approx(true_positive_rate(gold, expected[content]))
        card = joined(got, layer)
        assert f"n = {trace.present[layer]}, the tokens present at layer {layer}" in card
        assert "(1/n present)" in card
        assert f"{expected.sum()} of the text's {content.sum()} tokens selected" in card
    ours, theirs = player.layers_panel(trace), render_methods.panel(trace, got)
    for name in ("n", "total", "depth", "thresholds"):
        assert theirs[name] == pytest.approx(ours[name], abs=1e-6), "one score has one shade in both views"
    np.testing.assert_allclose(theirs["scores"], ours["scores"], atol=1e-6)


def test_what_is_selected_and_dropped_is_said() -> None:
    trace = make_trace(["one", "two", "three"], [0, 1, 3])
    one = comparing.Comparison(
        title="x", scope="in the layer", target=None,
        scores=np.tile(np.float32([0.1, 0.3, 0.3, 0.3, 0]), (3, 1)), present=np.ones((3, 5), dtype=bool),
        content=trace.words >= 0, selected=np.tile(trace.words >= 0, (3, 1)), retained=trace.enters, layerwise=True,
        metrics=np.full((3, 3), 0.5), unjudged=None, chance=0.5,
    )  # fmt: skip
    assert "3 of the text's 3 tokens selected, 2 of them dropped here" in joined(one, 1)


def test_a_model_of_one_layer_has_a_layer(tiny_tokenizer: Any) -> None:
    config = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    config.id2label, config.label2id = {0: "NEG", 1: "POS"}, {"NEG": 0, "POS": 1}
    classifier = BertForSequenceClassification(config)
    model = AdapLeRForSequenceClassification(
        AdapLeRConfig(backbone_config=classifier.config.to_dict()), backbone=classifier
    ).eval()
    found: dict[str, comparing.Comparison | str] = {
        name: comparing.compare(model, tiny_tokenizer, DOCUMENT, name) for name in ("cp", "attention", "occlusion")
    }
    shown = [joined(one, 0) for one in found.values()]
    assert ["one score a token" in text for text in shown] == [False, False, True]


def test_a_text_whose_words_are_all_marked(app_model: Any, tiny_tokenizer: Any) -> None:
    document = Document("x", "good film", "POS", ((0, 2),))
    got = comparing.compare(app_model, tiny_tokenizer, document, "attention")
    card = joined(got, 0)
    assert "every word is marked" in card and "no rationale" not in card and "AP " not in card


def test_a_query_is_scored_and_not_judged(app_model: Any, tiny_tokenizer: Any) -> None:
    document = Document("x", "good film and dull plot", "POS", ((0, 1),), query="never boring ?")
    got = comparing.compare(app_model, tiny_tokenizer, document, "attention")
    assert len(got.content) == 5 + 3 + 3 and got.content.sum() == 5 and got.selected is not None
    assert not got.selected[:, ~got.content].any()
    table = measuring.sweep(app_model, tiny_tokenizer, document.words, query=document.query_words)
    assert table["tokens"].iloc[0] == 11


@pytest.mark.parametrize("label", ["pos", "1", "LABEL_1", "POS"])
def test_methods_that_need_the_gold_label_find_it_in_any_form(app_model: Any, tiny_tokenizer: Any, label: str) -> None:
    gold = comparing.compare(app_model, tiny_tokenizer, Document("x", TEXT, label), "saliency_gold")
    assert comparing.gold_index(app_model, Document("x", TEXT, label)) == 1
    named = comparing.compare(app_model, tiny_tokenizer, Document("x", TEXT, "POS"), "saliency_gold")
    np.testing.assert_array_equal(gold.scores, named.scores)


def test_a_gold_label_whose_index_is_the_name_of_another(app_model: Any, tiny_tokenizer: Any) -> None:
    """Labels such as "1" to "5": index 1 was taken for the class "1", and refused later on."""
    model = copy.deepcopy(app_model)
    expected = comparing.compare(model, tiny_tokenizer, Document("x", TEXT, "POS"), "saliency_gold")
    for config in (model.config, model.backbone.config):
        config.id2label, config.label2id = {0: "1", 1: "2"}, {"1": 0, "2": 1}
    found = comparing.compare(model, tiny_tokenizer, Document("x", TEXT, "2"), "saliency_gold")
    assert found.target == "2"
    np.testing.assert_array_equal(found.scores, expected.scores)
