"""MPNet: absolute positions in the embeddings, and a bias by relative position in every layer.

transformers computes the bias once, from the places 0 to n - 1, and its layers have attention code of their own. Here
the bias is that of the positions which the tokens had in the input, so it stays right when tokens between are dropped.

Dimensions: B batch, N tokens of a row, D hidden size, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from adapler.backbones.family import Family
from adapler.backbones.pieces import narrowed
from adapler.backbones.positional.pairwise import pairwise_attention
from adapler.errors import ArgumentError


@dataclass(frozen=True)
class MPNet(Family):
    """See the top of this file."""

    def check(self, config: Any) -> None:
        """Raises ArgumentError for another padding id than 1: transformers' MPNet counts positions from 1 whatever
        its configuration says."""
        if config.pad_token_id != 1:
            raise ArgumentError(f"pad_token_id: {config.pad_token_id!r} is not 1, which MPNet's positions begin after")

    def layer(self, encoder: Any, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        """See Family.layer.

        Raises:
            ArgumentError: attention dropout, which the attention of soft and hard removal does not have.
        """
        layer = encoder.encoder.layer[index]
        parts = layer.attention.attn
        if parts.training and parts.dropout.p:
            raise ArgumentError(
                f"attention dropout: {parts.dropout.p} is not 0, and only the backbone's own forward pass has it"
            )

        def run(states: Tensor) -> Tensor:
            attended = _attended(encoder.encoder, layer, states, positions=positions, **attention)
            return self.feed_forward(layer, attended)

        if getattr(layer, "gradient_checkpointing", False) and layer.training:
            # transformers' own MPNetLayer knows nothing of it, unlike those of other families.
            return cast(Tensor, layer._gradient_checkpointing_func(run, hidden))
        return run(hidden)

    def hold_pairwise(self, encoder: Any) -> None:
        """See Family.hold_pairwise: the biases by relative position stay as they are."""
        encoder.encoder.relative_attention_bias.requires_grad_(False)

    def pairwise(self, encoder: Any, positions: Tensor) -> dict[str, Any]:
        """See Family.pairwise."""
        return {"term": partial(relative_bias, encoder.encoder), "positions": positions}


def _attended(encoder: Any, layer: Any, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
    """A layer of transformers' MPNetEncoder up to its feed-forward network: (B, n, D) -> (B, n, D)."""
    parts = layer.attention.attn
    read, by_head = narrowed(hidden, parts.q), (parts.num_attention_heads, parts.attention_head_size)
    query, key, value = (
        project(read).unflatten(-1, by_head).transpose(1, 2) for project in (parts.q, parts.k, parts.v)
    )  # (B, H, N, E)
    mixed = pairwise_attention(
        query,
        key,
        value,
        term=partial(relative_bias, encoder),
        positions=positions,
        scale=parts.attention_head_size**-0.5,
        one_term=True,
        **attention,
    )
    return attention_output(layer, mixed.transpose(1, 2).flatten(2), hidden)


def attention_output(layer: Any, context: Tensor, states: Tensor) -> Tensor:
    """What the heads give and the layer's input -> what its feed-forward network reads; all (B, n, D)."""
    mixed = layer.attention.attn.o(context)
    return layer.attention.LayerNorm(layer.attention.dropout(mixed) + states)  # type: ignore[no-any-return]


def relative_bias(encoder: Any, distance: Tensor) -> Tensor:
    """MPNet's bias of each head by relative position, learned for buckets of distances.

    Args:
        encoder: transformers' MPNetEncoder, which has the buckets and their biases.
        distance: (B, N, N) key's position minus query's.

    Returns:
        (B, H, N, N).
    """
    reach = int(encoder.config.max_position_embeddings)
    steps = torch.arange(-reach, reach + 1, device=distance.device)
    by_distance = encoder.relative_attention_bias(encoder.relative_position_bucket(steps))  # (2 reach + 1, H)
    # By head, so that a head's biases lie side by side, as attention reads them.
    found: Tensor = by_distance.T.contiguous().index_select(1, (distance + reach).flatten())  # (H, B N N)
    return found.view(-1, *distance.shape).transpose(0, 1)
