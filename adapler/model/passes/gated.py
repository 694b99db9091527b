"""Soft removal by gates: how a policy trains that is not AdapLeR's own. All tokens stay in the row.

Dimensions: B batch, N padded length of the input, T packed tokens, L layers, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.packing import Segments, real_lengths, segment_sum
from adapler.model.outputs import AdapLeROutput
from adapler.model.predictors import PackedRow
from adapler.policies import LayerView, Policy

# The attention weight that a closed gate leaves, as a share. Not 0, and no bound either: log m has no derivative at 0,
# and a bound has 0 there, so that a token once skimmed would never hear from the classifier again.
CLOSED = 1e-6


def gated_pass(
    backbone: PreTrainedModel,
    policy: Policy,
    *,
    input_ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    token_type_ids: Tensor | None,
) -> AdapLeROutput:
    """Each layer's tokens are multiplied by their gates (see `Policy.fades`); the last layer runs for [CLS] only.

    A policy that decides before a layer ("attention"): the gates of all layers so far are multiplied to a presence m.
    Attention weights are m_j exp(logit_j), renormalised, and a token that is not there is carried past the layer:
    h <- m layer(h) + (1 - m) h. Between a layer's halves: the gate multiplies the input of the feed-forward network
    ("feed_forward") or the layer's output ("output"), in this layer alone.

    Args:
        backbone, policy, input_ids, mask, positions, token_type_ids: see hard_pass.

    Returns:
        `lengths` (B, L): the sum of the presences, or of the gates, after each layer's decision.

    Raises:
        ArgumentError: a row without a real token, or a policy without soft removal.
    """
    real = mask.bool()  # (B, N)
    lengths, width = real_lengths(real), input_ids.shape[1]
    place = real.flatten().nonzero()[:, 0]  # (T,)
    segments = Segments(lengths, owners=place // width, bound=width)
    row, layers = PackedRow(segments, place), len(families.layers_of(backbone))
    at = positions.expand_as(input_ids).flatten()[place][None]  # (1, T)
    hidden = families.embed(
        backbone,
        input_ids[real][None],
        positions=at,
        token_type_ids=None if token_type_ids is None else token_type_ids[real][None],
    )  # (1, T, D)
    is_cls = torch.zeros_like(place, dtype=torch.bool).index_fill(0, segments.first, True)
    presence = torch.ones_like(place, dtype=torch.promote_types(hidden.dtype, torch.float32))  # (T,)
    soft_lengths = []

    def gates(view: LayerView) -> Tensor:
        return policy.gate(view, policy.score(view)).masked_fill(is_cls, 1.0)  # (T,)

    for index in range(layers):
        decides, last = policy.decides(index, layers=layers), index == layers - 1
        if policy.place == "before":
            if decides:
                presence = presence * gates(LayerView(index, hidden[0], row))
            soft_lengths.append(segment_sum(presence, segments))
            bias = (CLOSED + (1 - CLOSED) * presence).log()[None]  # (1, T)
            if last:
                hidden = families.run_last_layer(
                    backbone, hidden=hidden, positions=at, segments=segments, key_bias=bias
                )  # (1, B, D)
            else:
                new = families.run_layer(backbone, index, hidden, positions=at, segments=segments, key_bias=bias)
                there = presence[None, :, None].to(new.dtype)
                hidden = there * new + (1 - there) * hidden
        elif last:
            soft_lengths.append(soft_lengths[-1] if soft_lengths else lengths.to(presence.dtype))
            hidden = families.run_last_layer(backbone, hidden=hidden, positions=at, segments=segments)  # (1, B, D)
        else:
            states, received = families.run_attention_half(backbone, index, hidden, positions=at, segments=segments)
            gate = gates(LayerView(index, states[0], row, received)) if decides else torch.ones_like(presence)
            soft_lengths.append(segment_sum(gate, segments))
            there = gate[None, :, None].to(states.dtype)
            states = states * there if policy.fades == "feed_forward" else states
            hidden = families.run_feed_forward_half(backbone, index, states)
            hidden = hidden * there if policy.fades == "output" else hidden
    return AdapLeROutput(
        logits=families.head(backbone, hidden[0]), lengths=torch.stack(soft_lengths, dim=1), head_states=hidden[0]
    )
