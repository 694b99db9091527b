"""Soft removal by gates: how a policy trains that is not AdapLeR's own. All tokens stay in the row.

Dimensions: B batch, N padded length of the input, T packed tokens, L layers, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.packing import segment_sum
from adapler.model.outputs import AdapLeROutput
from adapler.model.passes.packed import Embedded, embedded
from adapler.model.predictors.row import PackedRow, exact_dtype
from adapler.policies import LayerView, Policy

# The attention weight that a closed gate leaves, as a share. Not 0, and no bound either: log m has no derivative at 0,
# and a bound has 0 there, so that a token once skimmed would never hear from the classifier again.
CLOSED = 1e-6


def _gates(policy: Policy, view: LayerView) -> Tensor:
    """(T,) the gates of a layer's tokens, 1 for [CLS]."""
    return policy.gate(view, policy.score(view)).index_fill(0, view.row.segments.first, 1.0)


def _fading_before(backbone: PreTrainedModel, policy: Policy, batch: Embedded) -> tuple[Tensor, list[Tensor]]:
    """A policy that decides before a layer: see gated_pass.

    Returns:
        (1, B, D) what the head reads; (B,) soft lengths of each layer.
    """
    segments, at, hidden = batch.segments, batch.positions, batch.hidden
    row, layers = PackedRow(segments, batch.place), len(families.layers_of(backbone))
    presence = torch.ones_like(batch.place, dtype=exact_dtype(hidden))  # (T,)
    soft_lengths = []
    for index in range(layers):
        if policy.decides(index, layers=layers):
            presence = presence * _gates(policy, LayerView(index, hidden[0], row))
        soft_lengths.append(segment_sum(presence, segments))
        bias = (CLOSED + (1 - CLOSED) * presence).log()[None]  # (1, T)
        if index == layers - 1:
            hidden = families.run_last_layer(backbone, hidden, positions=at, segments=segments, key_bias=bias)
        else:
            new = families.run_layer(backbone, index, hidden, positions=at, segments=segments, key_bias=bias)
            there = presence[None, :, None].to(new.dtype)
            hidden = there * new + (1 - there) * hidden
    return hidden, soft_lengths


def _fading_between(backbone: PreTrainedModel, policy: Policy, batch: Embedded) -> tuple[Tensor, list[Tensor]]:
    """A policy that decides between a layer's halves, and never in the last layer: see gated_pass.

    Returns:
        As of `_fading_before`.
    """
    segments, at, hidden = batch.segments, batch.positions, batch.hidden
    row, layers = PackedRow(segments, batch.place), len(families.layers_of(backbone))
    whole = torch.ones_like(batch.place, dtype=exact_dtype(hidden))  # (T,)
    left, soft_lengths = segments.lengths.to(whole.dtype), []  # (B,)
    for index in range(layers - 1):
        decides = policy.decides(index, layers=layers)
        states, received = families.run_attention_half(
            backbone, index, hidden, positions=at, segments=segments, reads=policy.reads if decides else "nothing"
        )
        gate = _gates(policy, LayerView(index, states[0], row, received)) if decides else whole
        left = segment_sum(gate, segments)
        soft_lengths.append(left)
        there = gate[None, :, None].to(states.dtype)
        states = states * there if policy.fades == "feed_forward" else states
        hidden = families.run_feed_forward_half(backbone, index, states)
        hidden = hidden * there if policy.fades == "output" else hidden
    soft_lengths.append(left)  # the last layer drops nothing
    return families.run_last_layer(backbone, hidden, positions=at, segments=segments), soft_lengths


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
    batch = embedded(backbone, input_ids=input_ids, mask=mask, positions=positions, token_type_ids=token_type_ids)
    fading = _fading_before if policy.place == "before" else _fading_between
    hidden, soft_lengths = fading(backbone, policy, batch)  # (1, B, D)
    return AdapLeROutput(
        logits=families.head(backbone, hidden[0]), lengths=torch.stack(soft_lengths, dim=1), head_states=hidden[0]
    )
