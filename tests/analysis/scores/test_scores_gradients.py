"""Gradients and integrated gradients against captum called layer by layer."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from captum.attr import LayerGradientXActivation, LayerIntegratedGradients
from torch import Tensor, nn
from transformers import AlbertConfig, AlbertForSequenceClassification, LongformerConfig
from transformers import LongformerForSequenceClassification as Longformer

from adapler.backbones.attribution.saliency import layer_saliency
from adapler.backbones.families import encoder_of, layers_of
from adapler.errors import ArgumentError
from analysis.scores import Batch, get_method
from analysis.scores.shared.inputs import content
from tests.analysis.scores.score_helpers import batch_for, every_family, logits_of
from tests.conftest import LAYERS, VOCABULARY, tiny_classifier


def layer_inputs(model: Any) -> list[nn.Module]:
    """The modules whose outputs are the inputs of the layers."""
    encoder = encoder_of(model)
    first = getattr(encoder, "embeddings_project", encoder.embeddings)
    return [first, *list(layers_of(model))[:-1]]


def by_captum(model: Any, batch: Batch, method: Any) -> list[Tensor]:
    """L times (B, N, D), one captum call a layer."""
    target = logits_of(model, batch).argmax(-1)

    def forward(ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = model(input_ids=ids, attention_mask=mask).logits
        return logits

    return [method(forward, module, batch, target) for module in layer_inputs(model)]


@every_family
def test_saliency_equals_captum_on_every_layer(family: str) -> None:
    model, batch = tiny_classifier(family), batch_for(family)

    def gradient_x_activation(forward: Any, module: nn.Module, batch: Batch, target: Tensor) -> Tensor:
        attributed: Tensor = LayerGradientXActivation(forward, module).attribute(
            batch.input_ids, target=target, additional_forward_args=(batch.attention_mask,)
        )
        return attributed.detach()

    products = by_captum(model, batch, gradient_x_activation)
    saliency = get_method("saliency")(model, batch).scores
    signed = get_method("saliency_signed")(model, batch).scores
    real = batch.attention_mask
    for layer, product in enumerate(products):
        norms = product.norm(dim=-1) * real
        torch.testing.assert_close(saliency[:, layer], norms / norms.sum(-1, keepdim=True), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(signed[:, layer], product.sum(-1) * real, atol=1e-6, rtol=1e-4)


def test_saliency_is_the_training_target() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    expected = layer_saliency(model, batch.model_inputs(), target="predicted")
    torch.testing.assert_close(get_method("saliency")(model, batch).scores, expected)
    assert batch.labels is not None
    expected = layer_saliency(model, batch.model_inputs(), target=batch.labels)
    torch.testing.assert_close(get_method("saliency_gold")(model, batch).scores, expected)


def test_gradient_norms() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    output = model(**batch.model_inputs(), output_hidden_states=True)
    gradients = torch.autograd.grad(output.logits.max(-1).values.sum(), output.hidden_states[:-1])
    for order in (1, 2):
        scores = get_method(f"gradient_l{order}")(model, batch).scores
        for layer, gradient in enumerate(gradients):
            norms = gradient.norm(p=order, dim=-1) * batch.attention_mask
            torch.testing.assert_close(scores[:, layer], norms / norms.sum(-1, keepdim=True))


def test_gradient_methods_share_one_pass() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    for name in ("saliency", "saliency_signed", "gradient_l1", "gradient_l2"):
        get_method(name)(model, batch)
    assert len(calls) == 1


@every_family
def test_integrated_gradients_equal_captum_layer_by_layer(family: str) -> None:
    model, batch = tiny_classifier(family), batch_for(family)
    masked = torch.where(content(batch), 4, batch.input_ids)

    def integrated(forward: Any, module: nn.Module, batch: Batch, target: Tensor) -> Tensor:
        attributed: Tensor = LayerIntegratedGradients(forward, module).attribute(
            batch.input_ids,
            baselines=masked,
            target=target,
            additional_forward_args=(batch.attention_mask,),
            n_steps=7,
        )
        return attributed.detach().sum(-1) * batch.attention_mask

    expected = torch.stack(by_captum(model, batch, integrated), dim=1)
    result = get_method("layer_integrated_gradients", n_steps=7)(model, batch)
    torch.testing.assert_close(result.scores, expected, atol=2e-5, rtol=1e-3)


@every_family
def test_integrated_gradients_are_complete_and_say_how_nearly(family: str) -> None:
    model, batch = tiny_classifier(family), batch_for(family)
    masked = Batch(batch.ids, torch.where(content(batch), 4, batch.input_ids), batch.attention_mask)
    logits, target = logits_of(model, batch), logits_of(model, batch).argmax(-1)
    difference = (logits - logits_of(model, masked)).gather(-1, target[:, None])  # (B, 1)
    fine = get_method("integrated_gradients(n_steps=200)")(model, batch)
    torch.testing.assert_close(fine.scores.sum(-1), difference, atol=5e-3, rtol=1e-2)
    coarse = get_method("integrated_gradients(n_steps=2)")(model, batch)
    for result in (fine, coarse):
        gap = (result.scores.sum(-1) - difference).abs() / difference.abs()
        torch.testing.assert_close(result.diagnostics["completeness_gap"], gap, atol=1e-4, rtol=1e-3)
    assert coarse.diagnostics["completeness_gap"].mean() > fine.diagnostics["completeness_gap"].mean()


@pytest.mark.parametrize("baseline", ["mask", "pad"])
def test_every_layer_explains_the_same_difference(baseline: str) -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    result = get_method("layer_integrated_gradients", n_steps=150, baseline=baseline)(model, batch)
    sums = result.scores.sum(-1)  # (B, L)
    assert sums.shape[1] == LAYERS and (result.diagnostics["completeness_gap"] < 0.05).all()
    torch.testing.assert_close(sums, sums[:, :1].expand_as(sums), atol=0.02, rtol=0.05)


def test_the_zero_baseline_of_the_input() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    result = get_method("integrated_gradients(n_steps=50, baseline=zero)")(model, batch)
    assert (result.diagnostics["completeness_gap"] < 1e-4).all()
    masked = get_method("integrated_gradients(n_steps=50, baseline=mask)")(model, batch)
    assert not torch.allclose(result.scores, masked.scores, atol=1e-3)


def test_integrated_gradients_in_small_passes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    expected = get_method("integrated_gradients")(model, batch).scores
    monkeypatch.setattr("analysis.scores.shared.integration.PASS_TOKENS", 100)
    torch.testing.assert_close(get_method("integrated_gradients")(model, batch).scores, expected, atol=1e-5, rtol=1e-4)


def test_layers_that_are_one_module_are_told_apart() -> None:
    sizes = {"vocab_size": VOCABULARY, "embedding_size": 8, "hidden_size": 16, "intermediate_size": 24, "num_labels": 3}
    sizes |= {"num_hidden_layers": 3, "num_attention_heads": 2, "initializer_range": 0.4}
    torch.manual_seed(0)
    one = AlbertForSequenceClassification(AlbertConfig(**sizes)).eval()
    apart = AlbertForSequenceClassification(AlbertConfig(**sizes, num_hidden_groups=3)).eval()  # a module a layer
    weights = one.state_dict()
    apart.load_state_dict({name: weights[re.sub(r"groups\.\d", "groups.0", name)] for name in apart.state_dict()})
    batch = batch_for("bert")
    torch.testing.assert_close(logits_of(one, batch), logits_of(apart, batch))
    method = get_method("layer_integrated_gradients", n_steps=5)
    torch.testing.assert_close(method(one, batch).scores, method(apart, batch).scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("saliency", "the hidden states that LongformerFor.* returns are not the ones its prediction is computed from"),
        ("decompx", "the hidden states that LongformerFor.* returns are not the ones"),
        ("attention", r"LongformerFor.* returned attention weights of shape \(4, 2, 12, 10\), must be .* 12, 12\)"),
        ("value_zeroing", "returned attention weights of shape"),
    ],
)
def test_states_and_weights_that_are_not_those_of_the_tokens_are_refused(name: str, message: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0}
    config = LongformerConfig(vocab_size=VOCABULARY, max_position_embeddings=64, attention_window=8, **sizes)
    with pytest.raises(ArgumentError, match=message):
        get_method(name)(Longformer(config).eval(), batch_for("bert"))


def test_layers_that_cannot_be_found_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_classifier()
    forward = type(model).forward

    def copied(self: Any, *args: Any, **options: Any) -> Any:
        output = forward(self, *args, **options)
        output.hidden_states = tuple(state.clone() for state in output.hidden_states)
        return output

    monkeypatch.setattr(type(model), "forward", copied)
    with pytest.raises(ArgumentError, match="no module of Bert.* gives out the input of layer 0"):
        get_method("layer_integrated_gradients")(model, batch_for("bert"))
