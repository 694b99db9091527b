"""MPNet: absolute positions in the embeddings, and a bias by relative position in every layer.

transformers computes the bias once, from the places 0 to n - 1, and its layers have attention code of their own. Here
the bias is that of the positions which the tokens had in the input, so it stays right when tokens between are dropped.

Dimensions: B batch, N tokens of a row, D hidden size, H heads.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from adapler.backbones.attention import pairwise_attention
from adapler.backbones.family import Family
from adapler.backbones.packing import narrowed
from adapler.errors import ArgumentError


class MPNet(Family):
    """See the top of this file."""

    base = "mpnet"
    pooler_path = "classifier.dense"
    positions_after_padding = True
    implementation = "eager"
    projections = ("attention.attn.q", "attention.attn.k", "attention.attn.v")

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise ArgumentError for another padding id than 1: transformers' MPNet counts positions from 1 whatever its
        configuration says."""
        if config.pad_token_id != 1:
            raise ArgumentError(f"pad_token_id: {config.pad_token_id!r} is not 1, which MPNet's positions begin after")

    def layer(self, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        """See Family.layer.

        Raises:
            ArgumentError: attention dropout, which the attention of soft and hard removal does not have.
        """
        layer: Any = self.layers[index]
        parts = layer.attention.attn
        if parts.training and parts.dropout.p:
            raise ArgumentError(
                f"attention dropout: {parts.dropout.p} is not 0, and only the backbone's own forward pass has it"
            )

        def run(states: Tensor) -> Tensor:
            read, by_head = narrowed(states, parts.q), (parts.num_attention_heads, parts.attention_head_size)
            query, key, value = (
                project(read).unflatten(-1, by_head).transpose(1, 2) for project in (parts.q, parts.k, parts.v)
            )  # (B, H, N, E)
            scale = parts.attention_head_size**-0.5
            options = {**self.pairwise(positions), "scale": scale, "one_term": True, **attention}
            context = pairwise_attention(query, key, value, **options).transpose(1, 2).flatten(2)
            return self.feed_forward(layer, self.attention_output(layer, context, states))

        if getattr(layer, "gradient_checkpointing", False) and layer.training:
            # transformers' own MPNetLayer knows nothing of it, unlike those of other families.
            return cast(Tensor, layer._gradient_checkpointing_func(run, hidden))
        return run(hidden)

    def attention_output(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        """See Family.attention_output."""
        mixed = layer.attention.attn.o(context)
        output: Tensor = layer.attention.LayerNorm(layer.attention.dropout(mixed) + states)
        return output

    def hold_pairwise(self) -> None:
        """See Family.hold_pairwise: the biases by relative position stay as they are."""
        self.encoder.encoder.relative_attention_bias.requires_grad_(False)

    def pairwise(self, positions: Tensor) -> dict[str, Any]:
        """See Family.pairwise."""
        return {"term": partial(relative_bias, self.encoder.encoder), "positions": positions}


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
