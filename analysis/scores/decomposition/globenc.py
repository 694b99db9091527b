"""GlobEnc: norms of what tokens give each other, through the attention heads, the residual and both layer norms.

g2_i . g1_i = M / (s1_i s2_i) with one matrix M = diag(gamma2) C diag(gamma1) C for all i, and the divisors leave
with the row's normalisation. So with y^h_j = M f^h(x_j), only || sum_h alpha^h_ij y^h_j ||^2 = alpha_ij^T G_j alpha_ij
is wanted, where G_j holds the inner products of the heads' y_j: H^2 numbers a token, not N x N x D.

    B batch, N padded length, H heads, d head size, D = H * d
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from analysis.scores.attention.rollout import roll_out
from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import FROM_INPUT, scoring_method
from analysis.scores.shared.forward import share_logits, working_copy
from analysis.scores.shared.layout import LayerParts, mixing_pass, post_norm_parts
from analysis.scores.shared.precision import full, full_precision


@scoring_method(
    "globenc",
    paper="https://aclanthology.org/2022.naacl-main.19",
    needs="attention",
    title="GlobEnc",
    reads=(),
    scope=FROM_INPUT,
)
def globenc(model: Any, batch: Batch) -> LayerScores:
    """GlobEnc: norms of what each token gives to each other token in a layer, rolled out from the input.

    Formula: N_ij = || g2_i( g1_i( sum_h alpha^h_ij f^h(x_j) + [i = j] x_i ) ) ||, rows divided by their sum, where
        f^h(x) = (x W_V^h + b_V^h) W_O^h and g_i(u) = gamma * (u - mean(u)) / s_i are the layer norms;
        score^l = e_CLS^T N^l ... N^0. The residual is in N already: no identity is added.
    Layer: from the input to the layer. Layer L - 1 has the whole network's map.
    Cost: 1 forward, with the slower eager attention, and H^2 numbers a token and layer.
    Misleads: the feed-forward network between the norms is left out, as in the paper; it does not know the class.
        It runs on layers with norms after the residuals, laid out as in BERT, DistilBERT or MPNet, only.
    Reference: Modarressi, Fayyaz, Yaghoobzadeh and Pilehvar (2022), GlobEnc,
        https://aclanthology.org/2022.naacl-main.19
    """
    twin = working_copy(model)
    parts = post_norm_parts(twin, "globenc")
    with torch.no_grad():
        output = mixing_pass(twin, parts, batch)
        with full_precision(batch):
            maps = [
                norm_map(part, states, attention).to(batch.input_ids.device)
                for part, states, attention in zip(parts, output.hidden_states, output.attentions, strict=False)
            ]  # there is one more hidden state than layers: the last layer's output
    share_logits(model, batch, output.logits)
    return LayerScores(normalise(roll_out(maps), batch.attention_mask))


def norm_map(parts: LayerParts, states: Tensor, attention: Tensor) -> Tensor:
    """states (B, N, D), attention (B, H, N, N) -> N of one layer, (B, N, N), rows sum to 1; in float32."""
    alpha = full(attention)
    n_batch, n_heads, n_tokens, _ = alpha.shape
    values = parts.values(states).view(n_batch, n_tokens, n_heads, -1)  # (B, N, H, d)
    projection = parts.projection(n_heads * values.shape[-1]).view(-1, n_heads, values.shape[-1])  # (D, H, d)
    given = _through_norms(parts, torch.einsum("bnhd,ohd->bnho", values, projection))  # (B, N, H, D)
    residual = _through_norms(parts, full(states))  # (B, N, D)
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
        vectors = (vectors - vectors.mean(-1, keepdim=True)) * full(cast(Tensor, norm.weight))
    return vectors
