"""Gradients and integrated gradients against captum called layer by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from captum.attr import LayerGradientXActivation
from torch import Tensor, nn

from adapler.backbones.decomposition import token_relevance
from adapler.backbones.families import view
from analysis.scores import Batch, get_method
from analysis.scores.inputs import content
from tests.analysis.scores.score_helpers import Bag, batch_for, every_family, logits_of
from tests.conftest import tiny_classifier


def layer_inputs(model: Any) -> list[nn.Module]:
    """The modules whose outputs are the inputs of the layers."""
    encoder = view(model).encoder
    first = getattr(encoder, "embeddings_project", encoder.embeddings)
    return [first, *list(view(model).layers)[:-1]]


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
    expected = token_relevance(model, batch.model_inputs(), kind="saliency", target="predicted")
    torch.testing.assert_close(get_method("saliency")(model, batch).scores, expected)
    assert batch.labels is not None
    expected = token_relevance(model, batch.model_inputs(), kind="saliency", target=batch.labels)
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


def test_integrated_gradients_are_complete_and_say_how_nearly() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
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


def test_smoothgrad_without_noise_is_the_gradient_and_a_steady_gradient_has_no_variance() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    still = get_method("smoothgrad", noise=0, n_samples=2)(model, batch).scores[:, 0]
    vectors = model.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    logits = model(inputs_embeds=vectors, attention_mask=batch.attention_mask).logits
    (gradient,) = torch.autograd.grad(logits.max(-1).values.sum(), vectors)
    norms = gradient.norm(dim=-1) * batch.attention_mask
    torch.testing.assert_close(still, norms / norms.sum(-1, keepdim=True), atol=1e-5, rtol=1e-4)
    bag = replace(batch, input_ids=batch.input_ids % 20, _memo={})
    assert not get_method("vargrad", n_samples=4)(Bag(), bag).scores.any()


def moments(batch: Batch, n_samples: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the gradients at noisy inputs (n, D) of one document, with draws of its own."""
    model = tiny_classifier()
    vectors = model.get_input_embeddings()(batch.input_ids).detach()
    generator = torch.Generator().manual_seed(5)
    deviation = 0.1 * (vectors.max() - vectors.min())
    noisy = vectors + deviation * torch.randn(n_samples, *vectors.shape[1:], generator=generator)
    kind = model(batch.input_ids).logits.argmax()
    noisy.requires_grad_()
    (gradients,) = torch.autograd.grad(model(inputs_embeds=noisy).logits[:, kind].sum(), noisy)
    return gradients.mean(0), gradients.var(0)


def test_smoothgrad_and_vargrad_are_the_moments_of_the_gradients() -> None:
    batch = batch_for("bert", [0])
    mean, variance = (one.norm(dim=-1) for one in moments(batch, 1500))
    for name, expected in (("smoothgrad", mean), ("vargrad", variance)):
        found = get_method(name, n_samples=1000)(tiny_classifier(), batch).scores[0, 0]
        torch.testing.assert_close(found, expected / expected.sum(), atol=0.02, rtol=0.15)
