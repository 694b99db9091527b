"""One backward pass for every method that reads the gradients at the layers' inputs.

B batch, L layers, N padded length, D hidden size
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis.scores.base import Batch
from analysis.scores.shared.forward import differentiable, gradients_of, share_logits
from analysis.scores.shared.targets import Target, target_value, weights_of


@dataclass(frozen=True, eq=False)
class GradientPass:
    """What is kept of g = d value / d h_i^l and of h_i^l, the input of layer l: each (B, L, N) float32.

    product_norm  || g * h ||_2
    product_sum   sum over D of g * h
    norm_1        || g ||_1
    norm_2        || g ||_2
    """

    product_norm: Tensor
    product_sum: Tensor
    norm_1: Tensor
    norm_2: Tensor


def gradient_pass(model: Any, batch: Batch, target: Target) -> GradientPass:
    """Gradients of the target's value at the input of every layer; one pass per batch and target.

    Raises ArgumentError when the hidden states that the model returns are not the ones that it uses.
    """

    def compute() -> GradientPass:
        with differentiable(model) as twin:
            output = twin(**batch.model_inputs(), output_hidden_states=True)
            weights = weights_of(model, batch, target, output.logits)
            hidden = output.hidden_states[:-1]  # L times (B, N, D)
            value = target_value(output.logits, weights).sum()
            gradients = gradients_of(value, hidden, model=model, what="hidden states")
        share_logits(model, batch, output.logits)
        # norms are taken here: the states and gradients themselves would be 2 * D times as large
        pairs = [(g.float(), h.detach().float()) for g, h in zip(gradients, hidden, strict=True)]
        real = batch.attention_mask[:, None, :].to(torch.float32)  # (B, 1, N)

        def stacked(values: list[Tensor]) -> Tensor:
            return torch.stack([one.to(real.device) for one in values], dim=1) * real  # (B, L, N)

        return GradientPass(
            product_norm=stacked([(g * h).norm(dim=-1) for g, h in pairs]),
            product_sum=stacked([(g * h).sum(-1) for g, h in pairs]),
            norm_1=stacked([g.abs().sum(-1) for g, _ in pairs]),
            norm_2=stacked([g.norm(dim=-1) for g, _ in pairs]),
        )

    return batch.shared(model, f"gradient_pass {target!r}", compute)
