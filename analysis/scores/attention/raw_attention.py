"""Raw attention weights, averaged over heads.

Jain and Wallace (2019), "Attention is not Explanation", https://aclanthology.org/N19-1357; the variant that
adds up what a token receives is Kim et al.'s (2021) "Learned Token Pruning" importance,
https://arxiv.org/abs/2107.00910.
"""

from __future__ import annotations

from typing import Any

import torch

from analysis.scores.base import Batch, LayerScores, normalise, scoring_method
from analysis.scores.shared.forward import attention_pass


@scoring_method(
    "attention", paper="https://aclanthology.org/N19-1357", needs="attention", title="[CLS] attention", reads=()
)
def cls_attention(model: Any, batch: Batch) -> LayerScores:
    """Attention that [CLS] pays to token i in layer l, mean over heads."""
    weights = attention_pass(model, batch).attentions
    rows = torch.stack([layer[:, 0, :] for layer in weights], dim=1)  # (B, L, N)
    return LayerScores(normalise(rows, batch.attention_mask))


@scoring_method(
    "attention_received",
    paper="https://arxiv.org/abs/2107.00910",
    needs="attention",
    title="Attention received",
    reads=(),
)
def attention_received(model: Any, batch: Batch) -> LayerScores:
    """Attention that token i receives in layer l, mean over heads and over the real query tokens."""
    weights = attention_pass(model, batch).attentions
    queries = batch.attention_mask.to(torch.float32)  # (B, N), padded queries do not count
    queries = queries / queries.sum(-1, keepdim=True)
    received = torch.stack([torch.einsum("bq,bqk->bk", queries, layer) for layer in weights], dim=1)  # (B, L, N)
    return LayerScores(normalise(received, batch.attention_mask))
