"""ALTI: how much nearer each token's part brings a layer's attention block to its output, rolled out from the input.

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
from analysis.scores.shared.precision import full, full_precision, run_full

_ENTRIES = 1 << 24  # numbers of one block of (documents, rows, tokens, width)


@scoring_method(
    "alti",
    paper="https://aclanthology.org/2022.emnlp-main.595",
    needs="attention",
    title="ALTI",
    cost="1 forward and n x n x D numbers a layer",
    reads=(),
    scope=FROM_INPUT,
)
def alti(model: Any, batch: Batch) -> LayerScores:
    """ALTI: how much nearer each token's part brings a layer's attention block to its output, rolled out.

    Formula: T_i(x_j) = gamma * C( sum_h alpha^h_ij x_j W_V^h W_O^h + [i = j] x_i ) / s_i, C takes off the mean over
        the width, gamma and s_i are the layer norm's; y_i: the norm's output.
        c_ij = max(0, ||y_i||_1 - ||y_i - T_i(x_j)||_1), rows divided by their sum; score^l = e_CLS^T c^l ... c^0. The
        residual is in T already: no identity is added.
    Layer: from the input to the layer. Layer L - 1 has the whole network's map.
    Cost: 1 forward with the slower eager attention, and N x N x D numbers a layer, worked on in blocks.
    Misleads: the feed-forward block is left out, as in the paper; it does not know the class. A part that points away
        from the output counts 0, however large it is; where all do, as in small random models, the row is 0. It runs
        on layers with norms after the residuals, laid out as in BERT, DistilBERT or MPNet, only.
    Reference: Ferrando, Gallego and Costa-jussa (2022), Measuring the Mixing of Contextual Information in the
        Transformer, https://aclanthology.org/2022.emnlp-main.595
    """
    twin = working_copy(model)
    parts = post_norm_parts(twin, "alti")
    with torch.no_grad():
        output = mixing_pass(twin, parts, batch)
        with full_precision(batch):
            maps = [
                contribution_map(part, states, attention).to(batch.input_ids.device)
                for part, states, attention in zip(parts, output.hidden_states, output.attentions, strict=False)
            ]  # there is one more hidden state than layers: the last layer's output
    share_logits(model, batch, output.logits)
    return LayerScores(normalise(roll_out(maps), batch.attention_mask))


def contribution_map(parts: LayerParts, states: Tensor, attention: Tensor) -> Tensor:
    """states (B, N, D), attention (B, H, N, N) -> c of one layer, (B, N, N), rows sum to 1; in float32."""
    alpha, states = full(attention), full(states)
    n_batch, n_heads, n_tokens, _ = alpha.shape
    values = parts.values(states)  # (B, N, D)
    mixed = torch.einsum("bhij,bjhd->bihd", alpha, values.view(n_batch, n_tokens, n_heads, -1))  # (B, N, H, d)
    attended = run_full(parts.output, mixed.flatten(2)) + states  # (B, N, D), before the norm
    outputs = run_full(parts.norm_1, attended)
    gamma, eps = full(cast(Tensor, parts.norm_1.weight)), cast(float, parts.norm_1.eps)
    scale = (attended.var(-1, unbiased=False, keepdim=True) + eps).rsqrt()  # (B, N, 1)
    plain = values - parts.values(torch.zeros_like(states[:1, :1]))  # without the bias
    projection = parts.projection(plain.shape[-1]).view(-1, n_heads, plain.shape[-1] // n_heads)  # (D, H, d)
    given = torch.einsum("bnhd,ohd->bnho", plain.view(n_batch, n_tokens, n_heads, -1), projection)  # (B, N, H, D)
    given = (given - given.mean(-1, keepdim=True)) * gamma
    residual = (states - states.mean(-1, keepdim=True)) * gamma  # (B, N, D)
    size = outputs.abs().sum(-1)  # (B, N)
    rows = []
    step = max(1, _ENTRIES // (n_batch * n_tokens * states.shape[-1]))
    for start in range(0, n_tokens, step):
        block = slice(start, start + step)
        part = torch.einsum("bhij,bjho->bijo", alpha[:, :, block], given)  # (B, rows, N, D)
        own = torch.arange(part.shape[1], device=part.device)
        part[:, own, start + own] += residual[:, block]
        part *= scale[:, block, None]
        left = (outputs[:, block, None] - part).abs().sum(-1)  # (B, rows, N)
        rows.append((size[:, block, None] - left).clamp_min(0))
    nearer = torch.cat(rows, dim=1)  # (B, N, N)
    return nearer / nearer.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
