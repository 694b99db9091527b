"""Attention weights times their gradients, one map a layer, for the methods that read them.

B batch, N padded length
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores.base import Batch
from analysis.scores.shared.forward import differentiable, eager_forward, share_logits
from analysis.scores.shared.precision import full, full_precision
from analysis.scores.shared.targets import Target, target_value, weights_of


def attention_gradient_maps(model: Any, batch: Batch, target: Target) -> list[Tensor]:
    """L times (B, N, N) float32: mean over heads of max(d value / d A^l * A^l, 0). Computed once per batch and target.

    Raises ArgumentError when the weights that the model returns are not the ones that it uses.
    """

    def compute() -> list[Tensor]:
        with differentiable(model) as twin:
            output = eager_forward(twin, batch)
            weights = weights_of(model, batch, target, output.logits)
            value = target_value(output.logits, weights).sum()
            gradients = torch.autograd.grad(value, output.attentions, allow_unused=True)
        share_logits(model, batch, output.logits)
        if any(gradient is None for gradient in gradients):
            raise ArgumentError(
                f"model: the attention weights that {type(model).__name__} returns are not the ones its prediction "
                "is computed from; attention x gradient cannot run on it"
            )
        with full_precision(batch):
            return [
                (full(gradient) * full(attention.detach())).clamp_min(0).mean(1).to(batch.input_ids.device)
                for attention, gradient in zip(output.attentions, gradients, strict=True)
            ]

    return batch.shared(model, f"attention_gradient_maps {target!r}", compute)
