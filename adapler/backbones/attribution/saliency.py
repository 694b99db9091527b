"""Saliency: gradient x input at the input of a classifier's layers, from one backward pass.

Dimensions: B batch, L layers, K layers that are asked for, N padded length, D hidden size, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones.attribution.modes import evaluating
from adapler.backbones.families import layers_of
from adapler.backbones.targets import Target, target_weights
from adapler.errors import ArgumentError


def checked_layers(classifier: PreTrainedModel, layers: Sequence[int] | None) -> list[int]:
    """The layers that are asked for, all for None; ArgumentError for none, one twice or one that there is not."""
    number = len(layers_of(classifier))
    asked = list(range(number) if layers is None else layers)
    if not asked or len(set(asked)) < len(asked) or not all(layer in range(number) for layer in asked):
        raise ArgumentError(f"layers: {asked} are not one or more different layers of 0 to {number - 1}")
    return asked


@contextmanager
def recorded_inputs(classifier: PreTrainedModel, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Evaluation mode; a forward pass inside it fills the mapping with the inputs of these layers, each (B, N, D).

    The gradient graph begins at the lowest of them. Below it nothing is kept, and no weight gets a gradient.
    """
    inputs: dict[int, Tensor] = {}

    def record(module: Any, arguments: tuple[Any, ...], index: int) -> tuple[Any, ...]:
        hidden = arguments[0].detach().requires_grad_() if index == min(layers) else arguments[0]
        inputs[index] = hidden
        return (hidden, *arguments[1:])

    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    all_layers = layers_of(classifier)
    handles = [all_layers[index].register_forward_pre_hook(partial(record, index=index)) for index in layers]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with evaluating(classifier), torch.enable_grad():
            yield inputs
    finally:
        for handle in handles:
            handle.remove()
        for parameter in trained:
            parameter.requires_grad_(True)


def layer_saliency(
    classifier: PreTrainedModel,
    batch: Mapping[str, Tensor],
    *,
    target: Target | Tensor,
    layers: Sequence[int] | None = None,
) -> Tensor:
    """Saliency of every token at the input of layers (AdapLeR, section 3.3; Simonyan et al., 2014).

        saliency_i^l = || (d value / d h_i^l) * h_i^l ||_2, normalised to sum 1 over real tokens

    The model is left as found: mode, gradients and parameters.

    Args:
        classifier: a transformers sequence classifier of a supported family.
        batch: input_ids (B, N), attention_mask (B, N), and whatever else the classifier takes; labels (B,)
            are used with target="gold" only.
        target: which logit, or contrast of logits, the value is: see `adapler.backbones.targets.target_weights`;
            or class indices (B,).
        layers: K different layers, from 0. Only their hidden states are kept, and the backward pass ends at the lowest
            of them. Default: all.

    Returns:
        (B, K, N) float32, 0 at padding, and 0 in a layer where nothing has a gradient.

    Raises:
        ArgumentError: a target or a layer that the model does not have, or labels outside the model's.
    """
    asked = checked_layers(classifier, layers)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with recorded_inputs(classifier, asked) as recorded:
        logits = classifier(**inputs, return_dict=True).logits  # (B, C)
        weights = target_weights(
            target, logits, labels=batch.get("labels"), id2label=getattr(classifier.config, "id2label", None)
        )
        hidden = [recorded[layer] for layer in asked]  # K times (B, N, D)
        gradients = torch.autograd.grad((logits * weights).sum(), hidden)
    scores = torch.stack(
        [(g.float() * h.float()).norm(dim=-1) for g, h in zip(gradients, hidden, strict=True)], dim=1
    ).detach()  # (B, K, N)
    mask = batch.get("attention_mask")
    if mask is not None:
        scores = scores * mask[:, None, :]
    return scores / scores.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
