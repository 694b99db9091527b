"""Attention x gradient relevance: Chefer, Gur and Wolf (2021), https://arxiv.org/abs/2103.15679.

    Abar^l = mean over heads of max(dlogit/dA^l * A^l, 0)                                   (equation 5)
    R^l    = (I + Abar^(L-1)) ... (I + Abar^l)                                              (equation 6)

The paper has one relevance map, R^0. Here every layer has one: R^l starts at layer l, so that its [CLS] row
says how much the token that *enters* layer l weighs in the prediction, as saliency at layer l does, and layer 0
is the paper's map. The row starts as the unit vector of [CLS], which only says that [CLS] is itself; it is taken
off. As with rollout, only rows are multiplied, never two N x N matrices.
"""

from __future__ import annotations

from typing import Any

import torch

from adapler.errors import ArgumentError
from analysis.scores.base import Batch, LayerScores, normalise, scoring_method
from analysis.scores.shared.forward import Target, differentiable, eager_forward, share_logits, target_classes


@scoring_method(
    "attention_gradient",
    paper="https://arxiv.org/abs/2103.15679",
    needs=("attention", "gradient"),
    title="Attention x gradient",
    cost="1 forward + backward",
    reads=(),
)
def attention_gradient(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """[CLS] row of R^l - I: what each token entering layer l weighs in the target's logit."""
    with differentiable(model):
        output = eager_forward(model, batch)
        classes = target_classes(batch, target, output.logits)
        logit = output.logits.gather(-1, classes[:, None]).sum()
        gradients = torch.autograd.grad(logit, output.attentions, allow_unused=True)
    share_logits(model, batch, output.logits)
    if any(gradient is None for gradient in gradients):
        raise ArgumentError(
            f"model: the attention weights that {type(model).__name__} returns are not the ones its prediction "
            "is computed from; attention_gradient cannot run on it"
        )
    n_batch, n_tokens = batch.attention_mask.shape
    row = torch.zeros(n_batch, 1, n_tokens, device=batch.input_ids.device)
    row[:, :, 0] = 1.0
    rows = []
    for attention, gradient in zip(reversed(output.attentions), reversed(gradients), strict=True):
        weights = (gradient.float() * attention.detach().float()).clamp_min(0).mean(1)  # (B, N, N)
        row = row + torch.bmm(row, weights)  # (B, 1, N)
        rows.append(row.clone())
    relevance = torch.cat(rows[::-1], dim=1)  # (B, L, N)
    relevance[:, :, 0] -= 1.0
    return LayerScores(normalise(relevance.clamp_min(0), batch.attention_mask))
