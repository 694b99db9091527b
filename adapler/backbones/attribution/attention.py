"""Attention weights times their gradients: one map a layer, and their product up to the output.

Source: Chefer, Gur and Wolf, "Generic Attention-model Explainability", ICCV 2021.

Dimensions: B batch, L layers, N padded length, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapler.backbones.attribution.twin import differentiable, eager_forward, gradients_of


def attention_gradient_maps(
    model: Any, inputs: Mapping[str, Tensor], *, weigh: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Mean over heads of max(d value / d A^l * A^l, 0) in every layer, in at least float32.

    Args:
        model, inputs, weigh: see `adapler.backbones.attribution.detached.decompose`.

    Returns:
        L times (B, N, N), row = query, column = key; and the logits (B, C).

    Raises:
        ArgumentError: the weights that the model returns are not the ones that it uses.
    """
    with differentiable(model) as twin:
        output = eager_forward(twin, inputs)
        value = (output.logits * weigh(output.logits.detach())).sum()
        gradients = gradients_of(value, output.attentions, model=model, what="attention weights")
    home = inputs["input_ids"].device
    with torch.autocast(home.type, enabled=False):
        maps = [
            (_full(gradient) * _full(attention.detach())).clamp_min(0).mean(1).to(home)
            for attention, gradient in zip(output.attentions, gradients, strict=True)
        ]
    return maps, output.logits.detach()


def accumulated(maps: Sequence[Tensor]) -> Tensor:
    """[CLS]'s row of R^l - I, where R^l = (I + A^(L-1)) ... (I + A^l): what reaches the output from layer l on.

    Only rows are multiplied, never two N x N matrices. The row starts as the unit vector of [CLS], which only says that
    [CLS] is itself; it is taken off.

    Args:
        maps: L times (B, N, N), [CLS] in row 0.

    Returns:
        (B, L, N).
    """
    row = torch.zeros_like(maps[0][:, :1])  # (B, 1, N)
    row[:, :, 0] = 1.0
    rows = []
    with torch.autocast(row.device.type, enabled=False):
        for weights in reversed(maps):
            row = row + torch.bmm(row, weights)
            rows.append(row)
    relevance = torch.cat(rows[::-1], dim=1)  # (B, L, N)
    relevance[:, :, 0] -= 1.0
    return relevance


def _full(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
