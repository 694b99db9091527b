"""Attention rollout: Abnar and Zuidema (2020), https://aclanthology.org/2020.acl-main.385.

    rollout^l = e_CLS^T · A~^l · ... · A~^0          A~ = (mean-head attention + I) / 2

Only the [CLS] row is wanted, so no N x N product is ever formed. Going down the layers, the row that starts
at layer k joins the rows that started above it, and all of them take one step through A~^k together: L
products of a (at most L) x N with an N x N matrix, for all layers' rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from analysis.scores.base import Batch, LayerScores, normalise, scoring_method
from analysis.scores.shared.forward import attention_pass


def roll_out(maps: Sequence[Tensor], *, residual: float = 0.0) -> Tensor:
    """[CLS] rows of M^l ... M^0 for every l, with M = (1 - residual) * map + residual * I.

    maps: L times (B, N, N), first layer first. Returns (B, L, N).
    """
    n_batch, n_tokens, _ = maps[0].shape
    start = torch.zeros(n_batch, 1, n_tokens, device=maps[0].device)
    start[:, :, 0] = 1.0
    rows = start[:, :0]  # (B, 0, N)
    for matrix in reversed(maps):
        rows = torch.cat([start, rows], dim=1)  # (B, rows that started at or above this layer, N)
        rows = (1 - residual) * torch.bmm(rows, matrix) + residual * rows
    return rows  # row l started at layer l


@scoring_method(
    "rollout", paper="https://aclanthology.org/2020.acl-main.385", needs="attention", title="Rollout", reads=()
)
def rollout(model: Any, batch: Batch) -> LayerScores:
    """[CLS] row of the rolled-out attention up to layer l."""
    rows = roll_out(attention_pass(model, batch).attentions, residual=0.5)
    return LayerScores(normalise(rows, batch.attention_mask))
