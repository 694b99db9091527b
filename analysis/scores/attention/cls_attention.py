"""The attention that [CLS] pays to each token."""

from __future__ import annotations

from typing import Any

import torch

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import IN_LAYER, scoring_method
from analysis.scores.shared.forward import attention_pass


@scoring_method(
    "attention",
    paper="https://aclanthology.org/N19-1357",
    needs="attention",
    title="[CLS] attention",
    reads=(),
    scope=IN_LAYER,
)
def attention(model: Any, batch: Batch) -> LayerScores:
    """Raw attention: how much [CLS] attends to each token, mean over heads.

    Formula: score_i^l = 1/H * sum over heads h of A^(l,h)[CLS, i]; each row sums to 1 by itself.
    Layer: in the layer. It says where layer l's [CLS] looks, not what the prediction uses.
    Cost: 1 forward, with the slower eager attention.
    Misleads: weights can be changed a lot without changing the prediction; [CLS] and [SEP] take most of the mass in
        middle layers, so that few text tokens reach 1/n; above the first layer a position holds a mix of tokens.
    Reference: Jain and Wallace (2019), Attention is not Explanation, https://aclanthology.org/N19-1357
    """
    weights = attention_pass(model, batch).attentions
    rows = torch.stack([layer[:, 0, :] for layer in weights], dim=1)  # (B, L, N)
    return LayerScores(normalise(rows, batch.attention_mask))
