"""Attention x gradient of each layer alone."""

from __future__ import annotations

from typing import Any

import torch

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import IN_LAYER, scoring_method
from analysis.scores.shared.attention_gradients import attention_gradient_maps
from analysis.scores.shared.targets import Target


@scoring_method(
    "attention_gradient_local",
    paper="https://arxiv.org/abs/2103.15679",
    needs=("attention", "gradient"),
    title="Attention x gradient (local)",
    cost="1 forward + backward",
    reads=(),
    scope=IN_LAYER,
)
def attention_gradient_local(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Attention x gradient, local: the [CLS] row of one layer's attention weighted by its gradient.

    Formula: score^l = [CLS] row of Abar^l, Abar^l = mean over heads of max(d value / d A^l * A^l, 0).
    Layer: in the layer. What [CLS] reads in this layer alone, weighed by what it does to the target.
    Cost: 1 forward + backward, with the slower eager attention; shared with `attention_gradient`.
    Misleads: the class reaches the last layer's [CLS] row only directly; in layers below, much of it flows through
        other tokens' rows, which are not in this score. Evidence against the target is cut off at 0.
    Reference: Chefer, Gur and Wolf (2021), Generic Attention-model Explainability, equation 5,
        https://arxiv.org/abs/2103.15679
    """
    rows = torch.stack([layer[:, 0] for layer in attention_gradient_maps(model, batch, target)], dim=1)  # (B, L, N)
    return LayerScores(normalise(rows, batch.attention_mask))
