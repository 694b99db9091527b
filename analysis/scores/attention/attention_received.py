"""The attention that each token receives."""

from __future__ import annotations

from typing import Any

import torch

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import IN_LAYER, scoring_method
from analysis.scores.shared.forward import attention_pass
from analysis.scores.shared.precision import full_precision


@scoring_method(
    "attention_received",
    paper="https://arxiv.org/abs/2107.00910",
    needs="attention",
    title="Attention received",
    reads=(),
    scope=IN_LAYER,
)
def attention_received(model: Any, batch: Batch) -> LayerScores:
    """Attention received: how much all tokens attend to each token, mean over heads and real query tokens.

    Formula: score_i^l = 1/(H n) * sum over heads h and real tokens j of A^(l,h)[j, i].
    Layer: in the layer.
    Cost: 1 forward, with the slower eager attention.
    Misleads: as for raw attention; and a token can be looked at by tokens that the prediction never reads.
    Reference: Kim et al. (2021), Learned Token Pruning for Transformers, https://arxiv.org/abs/2107.00910
    """
    weights = attention_pass(model, batch).attentions
    queries = batch.attention_mask.to(torch.float32)  # (B, N), padded queries do not count
    queries = queries / queries.sum(-1, keepdim=True)
    with full_precision(batch):
        received = torch.stack([torch.einsum("bq,bqk->bk", queries, layer) for layer in weights], dim=1)  # (B, L, N)
    return LayerScores(normalise(received, batch.attention_mask))
