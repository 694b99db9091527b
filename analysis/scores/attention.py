"""Attention weights: raw, rolled out, and weighted by their gradients.

Of a rollout only the [CLS] row is wanted, so no N x N product is formed: going down the layers, the row that starts at
layer k joins those that started above it, and all take one step together.

B batch, L layers, N padded length, H heads
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adapler.backbones.decomposition import accumulated
from adapler.backbones.families import Target
from analysis.scores.base import (
    Batch,
    LayerScores,
    attention_gradient_maps,
    attention_pass,
    full_precision,
    normalise,
    scoring_method,
)


def roll_out(maps: Sequence[Tensor], *, residual: float = 0.0) -> Tensor:
    """[CLS] rows of M^l ... M^0 for every l, with M = (1 - residual) * map + residual * I; products in float32.

    maps: L times (B, N, N), first layer first. Returns (B, L, N).
    """
    n_batch, n_tokens, _ = maps[0].shape
    start = torch.zeros(n_batch, 1, n_tokens, device=maps[0].device, dtype=maps[0].dtype)
    start[:, :, 0] = 1.0
    rows = start[:, :0]  # (B, 0, N)
    with full_precision(start):
        for matrix in reversed(maps):
            rows = torch.cat([start, rows], dim=1)  # (B, rows that started at or above this layer, N)
            rows = (1 - residual) * torch.bmm(rows, matrix) + residual * rows
    return rows  # row l started at layer l


@scoring_method("attention", needs="attention", reads=())
def attention(model: Any, batch: Batch) -> LayerScores:
    """[CLS] attention: how much [CLS] attends to each token, mean over heads (raw attention).

    Formula: score_i^l = 1/H * sum over heads h of A^(l,h)[CLS, i]; each row sums to 1 by itself.
    Layer: in the layer. It says where layer l's [CLS] looks, not what the prediction uses.
    Cost: 1 forward, with the slower eager attention.
    Misleads: weights can be changed a lot without changing the prediction; [CLS] and [SEP] take most of the mass in
        middle layers, so that few text tokens reach 1/n; above the first layer a position holds a mix of tokens.
    Reference: Jain and Wallace (2019), Attention is not Explanation, https://aclanthology.org/N19-1357
    """
    weights = attention_pass(model, batch)
    rows = torch.stack([layer[:, 0, :] for layer in weights], dim=1)  # (B, L, N)
    return LayerScores(normalise(rows, batch.attention_mask))


@scoring_method("attention_received", needs="attention", reads=())
def attention_received(model: Any, batch: Batch) -> LayerScores:
    """Attention received: how much all tokens attend to each token, mean over heads and real query tokens.

    Formula: score_i^l = 1/(H n) * sum over heads h and real tokens j of A^(l,h)[j, i].
    Layer: in the layer.
    Cost: 1 forward, with the slower eager attention.
    Misleads: as for raw attention; and a token can be looked at by tokens that the prediction never reads.
    Reference: Kim et al. (2021), Learned Token Pruning for Transformers, https://arxiv.org/abs/2107.00910
    """
    weights = attention_pass(model, batch)
    queries = batch.attention_mask.to(torch.float32)  # (B, N), padded queries do not count
    queries = queries / queries.sum(-1, keepdim=True)
    with full_precision(batch):
        received = torch.stack([torch.einsum("bq,bqk->bk", queries, layer) for layer in weights], dim=1)  # (B, L, N)
    return LayerScores(normalise(received, batch.attention_mask))


@scoring_method("rollout", needs="attention", reads=())
def rollout(model: Any, batch: Batch) -> LayerScores:
    """Rollout: raw attention multiplied from the input up to layer l, the [CLS] row.

    Formula: score^l = e_CLS^T A~^l ... A~^0, with A~ = (A averaged over heads + I) / 2 for the residual.
    Layer: from the input to the layer. Layer L - 1 has the whole network's map.
    Cost: 1 forward, with the slower eager attention.
    Misleads: it grows ever more even with depth; it knows neither values nor the class.
    Reference: Abnar and Zuidema (2020), Quantifying Attention Flow in Transformers,
        https://aclanthology.org/2020.acl-main.385
    """
    rows = roll_out(attention_pass(model, batch), residual=0.5)
    return LayerScores(normalise(rows, batch.attention_mask))


@scoring_method("attention_gradient", needs=("attention", "gradient"), reads=())
def attention_gradient(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Attention x gradient: attention weighted by its gradient, multiplied from layer l up to the output.

    Formula: Abar^l = mean over heads of max(d value / d A^l * A^l, 0)     (equation 5 of the paper)
        R^l = (I + Abar^(L-1)) ... (I + Abar^l)     (equation 6); score^l is the [CLS] row of R^l - I.
    Layer: from the layer to the output. Layer 0 is the paper's map; the paper has no other.
    Cost: 1 forward + backward, with the slower eager attention.
    Misleads: one strong layer, mostly the last, fills the rows of all layers below it: nearly equal scores in every
        layer say nothing about each of them. Evidence against the target is cut off at 0.
    Reference: Chefer, Gur and Wolf (2021), Generic Attention-model Explainability, https://arxiv.org/abs/2103.15679
    """
    relevance = accumulated(attention_gradient_maps(model, batch, target))  # (B, L, N)
    return LayerScores(normalise(relevance.clamp_min(0), batch.attention_mask))


@scoring_method("attention_gradient_local", needs=("attention", "gradient"), reads=())
def attention_gradient_local(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Attention x gradient (local): the [CLS] row of one layer's attention weighted by its gradient.

    Formula: score^l = [CLS] row of Abar^l, Abar^l = mean over heads of max(d value / d A^l * A^l, 0).
    Layer: in the layer. What [CLS] reads in this layer alone, weighed by what it does to the target.
    Cost: 1 forward + backward, with the slower eager attention; shared with `attention_gradient`.
    Misleads: in layers below the last, much of the class flows through other tokens' rows, which are not in this score.
        Evidence against the target is cut off at 0.
    Reference: Chefer, Gur and Wolf (2021), Generic Attention-model Explainability, equation 5,
        https://arxiv.org/abs/2103.15679
    """
    rows = torch.stack([layer[:, 0] for layer in attention_gradient_maps(model, batch, target)], dim=1)  # (B, L, N)
    return LayerScores(normalise(rows, batch.attention_mask))
