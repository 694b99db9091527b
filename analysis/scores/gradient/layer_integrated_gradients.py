"""Integrated gradients of the input of every layer; through captum.

B batch, L layers, N padded length, D hidden size
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Annotated, Any

import torch
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import TO_OUTPUT, scoring_method
from analysis.scores.shared.forward import share_logits, working_copy
from analysis.scores.shared.inputs import Reduction, Token, embeddings, reduced, replaced_ids, with_gap
from analysis.scores.shared.integration import integrate
from analysis.scores.shared.targets import Target, target_value, weights_of
from analysis.scores.specs import AtLeast


@scoring_method(
    "layer_integrated_gradients",
    paper="https://arxiv.org/abs/1703.01365",
    needs="gradient",
    title="Integrated gradients by layer",
    cost="L x n_steps forwards + backwards",
    reads=(),
    scope=TO_OUTPUT,
)
def layer_integrated_gradients(
    model: Any,
    batch: Batch,
    *,
    n_steps: Annotated[int, AtLeast(1)] = 20,
    baseline: Token = "mask",
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Integrated gradients by layer: of the input of every layer, on the way from a masked text's state to the text's.

    Formula: score^l = (h^l - b^l) * integral over a in [0, 1] of dF(b^l + a (h^l - b^l)) / dh^l, summed over the width.
        b^l: the state at layer l of the text with every content token replaced. (Zero is no baseline there: next to
        it a layer norm turns the smallest change into a large one, and no affordable n_steps integrates that.)
    Layer: from the layer to the output.
    Cost: L x n_steps forwards + backwards.
    Misleads: every layer's scores add up to the same F(x) - F(b), as far as `completeness_gap` says; what a
        position holds above layer 0 is a mix of tokens. They have a sign by default: for FPR, TPR and the headline
        figure take reduction=absolute, positive or l2.
    Reference: Sundararajan, Taly and Yan (2017), Axiomatic Attribution for Deep Networks, https://arxiv.org/abs/1703.01365
    """
    twin = working_copy(model)
    sources, states, logits = _layer_sources(twin, batch)
    share_logits(model, batch, logits)
    weights = weights_of(model, batch, target, logits.float())
    others = batch.model_inputs()
    names = list(others)
    vectors = embeddings(twin, replaced_ids(twin, batch, baseline))
    inputs = {name: value for name, value in others.items() if name != "input_ids"}
    with torch.no_grad():
        references = list(twin(inputs_embeds=vectors, output_hidden_states=True, **inputs).hidden_states[:-1])
    per_layer = []
    for source, state, reference in zip(sources, states, references, strict=True):

        def value(values: Tensor, chosen: Tensor, *tensors: Tensor, source: Source = source) -> Tensor:
            module, call = source
            handle = module.register_forward_hook(_substitute(values, call))
            try:
                logits = twin(**dict(zip(names, tensors, strict=True))).logits.float()
            finally:
                handle.remove()
            return target_value(logits, chosen)

        per_layer.append(
            integrate(
                value,
                state,
                reference,
                arguments=(weights, *others.values()),
                real=batch.attention_mask,
                n_steps=n_steps,
            )
        )
    home = batch.input_ids.device
    values, total, expected = (
        torch.stack([part.to(home) for part in parts], dim=1) for parts in zip(*per_layer, strict=True)
    )
    return with_gap(reduced(values, batch, reduction), total, expected)  # (B, L, N, D), (B, L), (B, L)


Source = tuple[torch.nn.Module, int]  # a module, and in which of its calls in a pass it gives out what is meant


def _layer_sources(model: Any, batch: Batch) -> tuple[list[Source], list[Tensor], Tensor]:
    """Per layer the module whose output is the layer's input, and that input (B, N, D); the logits (B, C).

    Found by identity of tensors, so that it holds for any encoder whose layers pass their states on as they are. Of a
    module that is called again and again (ALBERT's layers are one) the call counts too.
    """
    made: list[tuple[Source, Any]] = []
    calls: Counter[torch.nn.Module] = Counter()

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        result = _first(output)
        # ModernBERT's first layer hands its input through an Identity, on the way to the attention alone.
        if not (inputs and inputs[0] is result):
            made.append(((module, calls[module]), result))
        calls[module] += 1

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            output = model(**batch.model_inputs(), output_hidden_states=True)
    finally:
        for handle in handles:
            handle.remove()
    states = list(output.hidden_states[:-1])
    sources = []
    for layer, state in enumerate(states):
        makers = [source for source, result in made if result is state]
        if not makers:
            raise ArgumentError(
                f"model: no module of {type(model).__name__} gives out the input of layer {layer}; "
                "layer_integrated_gradients cannot run on it"
            )
        sources.append(makers[-1])  # the outermost
    return sources, states, output.logits


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) and output else output


def _substitute(values: Tensor, call: int) -> Callable[..., Any]:
    """A hook that gives out `values` in this call of the module, counted from 0."""
    calls = count()

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        if next(calls) != call:
            return None
        return (values, *output[1:]) if isinstance(output, tuple) else values

    return hook
