"""GlobEnc: Modarressi, Fayyaz, Yaghoobzadeh and Pilehvar (2022), https://aclanthology.org/2022.naacl-main.19.

N^l_ij is the norm of what token j gives to token i in layer l, through the attention heads, the residual and
both layer norms (the feed-forward network between the norms is left out, as in the paper):

    N_ij = || g2_i( g1_i( sum_h alpha^h_ij f^h(x_j) + [i = j] x_i ) ) ||
    f^h(x) = (x W_V^h + b_V^h) W_O^h        g_i(u) = gamma * (u - mean(u)) / s_i

Rows are normalised to sum 1 and rolled out, R^l = N^l ... N^0. The residual is in N already: no identity is added.

g2_i . g1_i = M / (s1_i s2_i) with one matrix M = diag(gamma2) C diag(gamma1) C for all i, and the divisors leave
with the row's normalisation. So with y^h_j = M f^h(x_j), only || sum_h alpha^h_ij y^h_j ||^2 = alpha_ij^T G_j alpha_ij
is wanted, where G_j holds the inner products of the heads' y_j: H^2 numbers a token, not N x N x D.

    B batch, N padded length, H heads, d head size, D = H * d
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from analysis.scores.attention.rollout import roll_out
from analysis.scores.base import Batch, LayerScores, normalise, scoring_method
from analysis.scores.shared.forward import as_found, eager_forward, share_logits
from analysis.scores.shared.layout import LayerParts, layer_parts


@scoring_method(
    "globenc", paper="https://aclanthology.org/2022.naacl-main.19", needs="attention", title="GlobEnc", reads=()
)
def globenc(model: Any, batch: Batch) -> LayerScores:
    """[CLS] row of the norm-based maps rolled out up to layer l."""
    parts = layer_parts(model)
    with as_found(model), torch.no_grad():
        output = eager_forward(model, batch, output_hidden_states=True)
        maps = [
            norm_map(part, states, attention)
            for part, states, attention in zip(parts, output.hidden_states, output.attentions, strict=False)
        ]  # there is one more hidden state than layers: the last layer's output
    share_logits(model, batch, output.logits)
    return LayerScores(normalise(roll_out(maps), batch.attention_mask))


def norm_map(parts: LayerParts, states: Tensor, attention: Tensor) -> Tensor:
    """states (B, N, D), attention (B, H, N, N) -> N of one layer, (B, N, N), rows sum to 1."""
    alpha = attention.float()
    n_batch, n_heads, n_tokens, _ = alpha.shape
    values = parts.value(states).float().view(n_batch, n_tokens, n_heads, -1)  # (B, N, H, d)
    projection = parts.output.weight.float().view(-1, n_heads, values.shape[-1])  # (D, H, d)
    given = _through_norms(parts, torch.einsum("bnhd,ohd->bnho", values, projection))  # (B, N, H, D)
    residual = _through_norms(parts, states.float())  # (B, N, D)
    gram = torch.einsum("bnho,bngo->bnhg", given, given)  # (B, N, H, H)
    squared = (torch.einsum("bhij,bjhg->bgij", alpha, gram) * alpha).sum(1)  # (B, N, N)
    own = alpha.diagonal(dim1=-2, dim2=-1)  # (B, H, N)
    crossed = torch.einsum("bhn,bnho,bno->bn", own, given, residual)
    squared.diagonal(dim1=-2, dim2=-1).add_(2 * crossed + residual.square().sum(-1))
    norms = squared.clamp_min(0).sqrt()  # rounding can leave a small negative square
    return norms / norms.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def _through_norms(parts: LayerParts, vectors: Tensor) -> Tensor:
    """M u for vectors (..., D): both layer norms, without their shifts and divisors."""
    for norm in (parts.norm_1, parts.norm_2):
        vectors = (vectors - vectors.mean(-1, keepdim=True)) * norm.weight.float()
    return vectors
