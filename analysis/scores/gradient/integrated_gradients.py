"""Integrated gradients: Sundararajan, Taly and Yan (2017), https://arxiv.org/abs/1703.01365; through captum.

    IG(x) = (x - b) * integral over a in [0, 1] of dF(b + a (x - b)) / dx        F: the target's logit

At the input x are the word embeddings. `layer_integrated_gradients` takes x = h^l, the input of layer l, for every
layer; the baseline is h^l of the baseline input then. (Zero is no baseline there: next to it a layer norm turns the
smallest change into a large one, and no number of steps that one would wait for integrates that.) Attributions add
up to F(x) - F(b): the relative gap left by the finite number of steps is reported as `completeness_gap`.

    B batch, L layers, N padded length, D hidden size
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores.base import Batch, LayerScores, scoring_method
from analysis.scores.shared.forward import Target, as_found, share_logits, target_classes
from analysis.scores.shared.inputs import (
    PASS_TOKENS,
    Baseline,
    Reduction,
    TargetLogit,
    Token,
    at_least,
    embeddings,
    forward_arguments,
    input_reference,
    reduced,
    replaced_ids,
    with_gap,
)

PAPER = "https://arxiv.org/abs/1703.01365"


@scoring_method(
    "integrated_gradients",
    paper=PAPER,
    needs="gradient",
    title="Integrated gradients",
    layerwise=False,
    cost="n_steps forwards + backwards",
    reads=(),
)
def integrated_gradients(
    model: Any,
    batch: Batch,
    *,
    n_steps: int = 50,
    baseline: Baseline = "mask",
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Integrated gradients of the word embeddings."""
    at_least("n_steps", n_steps, 1)
    with as_found(model):
        arguments = forward_arguments(model, batch, target)
        values, total, expected = _integrate(
            TargetLogit(model),
            embeddings(model, batch.input_ids),
            input_reference(model, batch, baseline),
            arguments=arguments,
            real=batch.attention_mask,
            n_steps=n_steps,
        )
    return with_gap(reduced(values[:, None], batch, reduction), total[:, None], expected[:, None])


@scoring_method(
    "layer_integrated_gradients",
    paper=PAPER,
    needs="gradient",
    title="Integrated gradients by layer",
    cost="L x n_steps forwards + backwards",
    reads=(),
)
def layer_integrated_gradients(
    model: Any,
    batch: Batch,
    *,
    n_steps: int = 20,
    baseline: Token = "mask",
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Integrated gradients of the input of every layer."""
    at_least("n_steps", n_steps, 1)
    with as_found(model):
        sources, states, logits = _layer_sources(model, batch)
        share_logits(model, batch, logits)
        classes = target_classes(batch, target, logits)
        others = batch.model_inputs()
        names = list(others)
        vectors = embeddings(model, replaced_ids(model, batch, baseline))
        inputs = {name: value for name, value in others.items() if name != "input_ids"}
        with torch.no_grad():
            output = model(inputs_embeds=vectors, output_hidden_states=True, **inputs)
        references = list(output.hidden_states[:-1])
        per_layer = []
        for source, state, reference in zip(sources, states, references, strict=True):

            def logit(values: Tensor, chosen: Tensor, *tensors: Tensor, source: torch.nn.Module = source) -> Tensor:
                handle = source.register_forward_hook(_substitute(values))
                try:
                    logits = model(**dict(zip(names, tensors, strict=True))).logits.float()
                finally:
                    handle.remove()
                return logits.gather(-1, chosen[:, None])[:, 0]  # type: ignore[no-any-return]

            per_layer.append(
                _integrate(
                    logit,
                    state,
                    reference,
                    arguments=(classes, *others.values()),
                    real=batch.attention_mask,
                    n_steps=n_steps,
                )
            )
    values, total, expected = (torch.stack(parts, dim=1) for parts in zip(*per_layer, strict=True))
    return with_gap(reduced(values, batch, reduction), total, expected)  # (B, L, N, D), (B, L), (B, L)


def _integrate(
    function: Callable[..., Tensor],
    inputs: Tensor,
    reference: Tensor,
    *,
    arguments: tuple[Tensor, ...],
    real: Tensor,
    n_steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attributions (B, N, D), their sums (B,) and F(x) - F(baseline) (B,)."""
    n_batch, n_tokens = inputs.shape[:2]
    values: Tensor = IntegratedGradients(function).attribute(
        inputs,
        baselines=reference,
        additional_forward_args=arguments,
        n_steps=n_steps,
        internal_batch_size=max(n_batch, PASS_TOKENS // n_tokens),
    )
    values = values.detach() * real[..., None]
    with torch.no_grad():
        expected = function(inputs, *arguments) - function(reference, *arguments)
    return values, values.float().sum((1, 2)), expected


def _layer_sources(model: Any, batch: Batch) -> tuple[list[torch.nn.Module], list[Tensor], Tensor]:
    """Per layer the module whose output is the layer's input, and that input (B, N, D); the logits (B, C).

    Found by identity of tensors, so that it holds for any encoder whose layers pass their states on as they are.
    """
    made: list[tuple[torch.nn.Module, Any]] = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: made.append((module, _first(output))))
        for module in model.modules()
    ]
    try:
        with torch.no_grad():
            output = model(**batch.model_inputs(), output_hidden_states=True)
    finally:
        for handle in handles:
            handle.remove()
    states = list(output.hidden_states[:-1])
    sources = []
    for layer, state in enumerate(states):
        makers = [module for module, result in made if result is state]
        if not makers:
            raise ArgumentError(
                f"model: no module of {type(model).__name__} gives out the input of layer {layer}; "
                "layer_integrated_gradients cannot run on it"
            )
        sources.append(makers[-1])  # the outermost
    return sources, states, output.logits


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) and output else output


def _substitute(values: Tensor) -> Callable[..., Any]:
    def hook(module: Any, inputs: Any, output: Any) -> Any:
        return (values, *output[1:]) if isinstance(output, tuple) else values

    return hook
