"""ModernBERT: rotary positions, sliding windows in its local layers, norms before each block and after the last layer.

Both are those of the positions that the tokens had in the input: a token that was 200 positions away stays out of the
window when those between were dropped.

Dimensions: B batch, N tokens of a row, T packed tokens, D hidden size, C labels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from adapler.backbones.attention import Reads, Received, window
from adapler.backbones.family import Family, attention_and_received
from adapler.backbones.packing import Segments, narrowed, own_formats, segment_sum


class ModernBert(Family):
    """See the top of this file."""

    base = "model"
    layers_path = "layers"
    pooler_path = "head.dense"
    attention_dropout = "attention_dropout"
    activation = "hidden_activation"
    position_embeddings = False
    gated = True

    def labels(self, cls: Tensor) -> Tensor:
        """(B, D), pooled -> logits (B, C)."""
        logits: Tensor = self.classifier.classifier(self.classifier.drop(self.classifier.head(cls)))
        return logits

    def feed_forward(self, layer: Any, states: Tensor) -> Tensor:
        """See Family.feed_forward."""
        output: Tensor = states + layer.mlp(narrowed(layer.mlp_norm(states), layer.mlp.Wi))
        return output

    def layer(self, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        """See Family.layer."""
        layer: Any = self.layers[index]
        rotary = self.encoder.rotary_emb(hidden, positions, layer.attention_type)
        with own_formats(layer, hidden):
            output: Tensor = layer(
                hidden, attention_mask=None, position_embeddings=rotary, positions=positions, **attention
            )
        return output

    def attention_half(
        self, index: int, hidden: Tensor, *, positions: Tensor, segments: Segments, reads: Reads
    ) -> tuple[Tensor, Received]:
        """See Family.attention_half."""
        layer: Any = self.layers[index]
        part, reach = layer.attn, layer.attn.sliding_window
        read = narrowed(layer.attn_norm(hidden), part.Wqkv)
        projected = part.Wqkv(read).unflatten(-1, (3, -1, part.head_dim))  # (1, T, 3, H, E)
        query, key, value = (x.transpose(1, 2) for x in projected.unbind(-3))  # (1, H, T, E)
        rotary = self.encoder.rotary_emb(hidden, positions, layer.attention_type)
        query, key = apply_rotary_pos_emb(query, key, *rotary)
        term = None if reach is None else partial(window, reach=reach - 1, dtype=query.dtype)
        options = {"segments": segments, "scale": part.head_dim**-0.5, "term": term, "positions": positions}
        context, received = attention_and_received(query, key, value, reads=reads, **options)
        return hidden + part.out_drop(part.Wo(context.transpose(1, 2).flatten(2))), received

    def last_layer(
        self, hidden: Tensor, *, positions: Tensor, segments: Segments, key_bias: Tensor | None = None
    ) -> Tensor:
        """The last layer, the final norm, and what the head reads: [CLS], or the mean of the tokens that are left.

        In soft removal a token counts in the mean by its presence, so that a steep slope gives hard removal's mean.
        See Family.last_layer.
        """
        last = len(self.layers) - 1
        hidden = self.layer(last, hidden, positions=positions, segments=segments, key_bias=key_bias)
        states = self.encoder.final_norm(hidden.to(self.encoder.final_norm.weight.dtype))[0]  # (T, D)
        if self.config.classifier_pooling == "cls":
            first: Tensor = states.index_select(0, segments.first)[None]
            return first
        weights = torch.ones_like(states[:, 0]) if key_bias is None else key_bias.flatten().exp().to(states)  # (T,)
        total, count = segment_sum(states * weights[:, None], segments), segment_sum(weights, segments)
        pooled: Tensor = total / count[:, None]
        return pooled[None]
