"""Value zeroing: how far a layer's [CLS] moves when a token's value vector is set to 0 in that layer.

The paper's map has every token as a row; here it is the [CLS] row, as for attention. [CLS] mixes the values once,
so that zeroing v_j takes alpha_0j v_j off its mix: N variants of one token pass through the rest of the layer,
at the cost of that layer for one ordinary input, instead of N runs of the layer.

    B batch, N padded length, H heads, d head size, D = H * d
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import IN_LAYER, scoring_method
from analysis.scores.shared.forward import share_logits, working_copy
from analysis.scores.shared.layout import LayerParts, layer_parts, mixing_pass
from analysis.scores.shared.precision import full, full_precision


@scoring_method(
    "value_zeroing",
    paper="https://aclanthology.org/2023.eacl-main.245",
    needs="attention",
    title="Value zeroing",
    cost="2 forwards",
    reads=(),
    scope=IN_LAYER,
)
def value_zeroing(model: Any, batch: Batch) -> LayerScores:
    """Value zeroing: cosine distance by which [CLS] moves in layer l when token j's value is zeroed there.

    Formula: score_j^l = 1 - cos( h_CLS^(l+1), h_CLS^(l+1) with the value vector of token j set to 0 in layer l ),
        computed in float32 whatever the precision of the run.
    Layer: in the layer. Layers below and above are as they are.
    Cost: 2 forwards (each layer's rest once more, for as many variants of [CLS] as there are tokens).
    Misleads: a move is no evidence for the class; where [CLS] hardly moves at all, shares rest on tiny
        distances. It runs on layers laid out as in BERT, DistilBERT, MPNet or ModernBERT only.
    Reference: Mohebbi, Zuidema, Chrupala and Alishahi (2023), Quantifying Context Mixing in Transformers,
        https://aclanthology.org/2023.eacl-main.245
    """
    twin = working_copy(model)
    parts = layer_parts(twin)
    with torch.no_grad():
        output = mixing_pass(twin, parts, batch)
        with full_precision(batch):
            distances = [
                _distances(part, states, attention[:, :, 0]).to(batch.input_ids.device)
                for part, states, attention in zip(parts, output.hidden_states, output.attentions, strict=False)
            ]  # there is one more hidden state than layers: the last layer's output
    share_logits(model, batch, output.logits)
    return LayerScores(normalise(torch.stack(distances, dim=1), batch.attention_mask))


def _distances(parts: LayerParts, states: Tensor, attention: Tensor) -> Tensor:
    """states (B, N, D), [CLS]'s attention (B, H, N) -> (B, N), in float32."""
    n_batch, n_tokens, _ = states.shape
    values = parts.values(states).view(n_batch, n_tokens, attention.shape[1], -1)  # (B, N, H, d)
    shares = full(attention).transpose(1, 2)[..., None] * values  # (B, N, H, d), what each token adds to [CLS]'s mix
    mixed = shares.sum(1, keepdim=True)  # (B, 1, H, d)
    variants = torch.cat([mixed, mixed - shares], dim=1).flatten(2)  # (B, 1 + N, D), the first is untouched
    outputs = parts.finish(variants, states[:, :1])
    directions = normalize(outputs, dim=-1)
    # 1 - cos is half the squared chord, which does not lose the small distances to rounding as 1 - cos does
    return (directions[:, 1:] - directions[:, :1]).square().sum(-1) / 2
