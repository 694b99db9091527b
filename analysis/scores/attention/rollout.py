"""Attention rollout.

Only the [CLS] row is wanted, so no N x N product is ever formed. Going down the layers, the row that starts
at layer k joins the rows that started above it, and all of them take one step through A~^k together: L
products of a (at most L) x N with an N x N matrix, for all layers' rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import FROM_INPUT, scoring_method
from analysis.scores.shared.forward import attention_pass
from analysis.scores.shared.precision import full, full_precision


def roll_out(maps: Sequence[Tensor], *, residual: float = 0.0) -> Tensor:
    """[CLS] rows of M^l ... M^0 for every l, with M = (1 - residual) * map + residual * I; products in float32.

    maps: L times (B, N, N), first layer first. Returns (B, L, N).
    """
    n_batch, n_tokens, _ = maps[0].shape
    start = torch.zeros(n_batch, 1, n_tokens, device=maps[0].device, dtype=full(maps[0]).dtype)
    start[:, :, 0] = 1.0
    rows = start[:, :0]  # (B, 0, N)
    with full_precision(start):
        for matrix in reversed(maps):
            rows = torch.cat([start, rows], dim=1)  # (B, rows that started at or above this layer, N)
            rows = (1 - residual) * torch.bmm(rows, full(matrix)) + residual * rows
    return rows  # row l started at layer l


@scoring_method(
    "rollout",
    paper="https://aclanthology.org/2020.acl-main.385",
    needs="attention",
    title="Rollout",
    reads=(),
    scope=FROM_INPUT,
)
def rollout(model: Any, batch: Batch) -> LayerScores:
    """Attention rollout: raw attention multiplied from the input up to layer l, the [CLS] row.

    Formula: score^l = e_CLS^T A~^l ... A~^0, with A~ = (A averaged over heads + I) / 2 for the residual.
    Layer: from the input to the layer. Layer L - 1 has the whole network's map.
    Cost: 1 forward, with the slower eager attention.
    Misleads: it grows ever more even with depth; it knows neither values nor the class, so that evidence against
        the class counts as much as evidence for it.
    Reference: Abnar and Zuidema (2020), Quantifying Attention Flow in Transformers,
        https://aclanthology.org/2020.acl-main.385
    """
    rows = roll_out(attention_pass(model, batch).attentions, residual=0.5)
    return LayerScores(normalise(rows, batch.attention_mask))
