"""What AdapLeR needs to know of one backbone family, and how it runs one of its layers.

Dimensions: B batch, n tokens that enter a layer, T packed tokens, D hidden size, C labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adapler.backbones.attention import ATTENTION
from adapler.backbones.packing import Segments


@dataclass(frozen=True)
class Family:
    """One backbone family.

    A family whose layers need the tokens' positions (rotary or relative ones) is a subclass that overrides `layer`.

    Attributes:
        base: name of the encoder inside the classifier.
        layers: attribute path from the encoder to its list of layers.
        head: (classifier, hidden states of [CLS] (B, D)) -> logits (B, C).
        pooler: attribute path of the dense layer between [CLS] and the classifier.
        attention_dropout: name of the configuration's attention dropout.
        feed_forward: name of the configuration's feed-forward width.
        activation: name of the configuration's activation.
        positions_after_padding: whether the first position is padding_idx + 1 (RoBERTa) and not 0.
        position_embeddings: whether the embeddings take positions.
        gated: whether the feed-forward network has a gate, a third matrix as large as the other two.
        implementation: attention implementation of the configuration; "eager" for a family whose layers have
            attention code of their own.
    """

    base: str
    layers: str
    head: Callable[[Any, Tensor], Tensor]
    pooler: str
    attention_dropout: str = "attention_probs_dropout_prob"
    feed_forward: str = "intermediate_size"
    activation: str = "hidden_act"
    positions_after_padding: bool = False
    position_embeddings: bool = True
    gated: bool = False
    implementation: str = ATTENTION

    def check(self, config: Any) -> None:
        """Raises ArgumentError for a configuration that this family cannot run; most run all of them."""

    def layer(self, encoder: Any, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        """Run one layer.

        Args:
            encoder: the encoder inside the classifier.
            index: of the layer, from 0.
            hidden: (B, n, D), the tokens that enter the layer; one packed row (1, T, D) in hard removal.
            positions: (B, n) the tokens' positions in the input, before any token was removed. Absolute positions
                were added to the embeddings; only relative and rotary positions are computed from this.
            attention: keyword arguments for `adapler_attention`: `segments`, `key_bias`.

        Returns:
            Shape of hidden.
        """
        output: Tensor = encoder.get_submodule(self.layers)[index](hidden, attention_mask=None, **attention)
        return output

    def last_layer(
        self,
        encoder: Any,
        hidden: Tensor,
        *,
        positions: Tensor,
        segments: Segments | None = None,
        key_bias: Tensor | None = None,
    ) -> Tensor:
        """Run the last layer, and take what the head reads of each sequence: its first token's state.

        Args:
            encoder, hidden, positions: see `layer`.
            segments, key_bias: keyword arguments for `adapler_attention`.

        Returns:
            (1, B, D).
        """
        given = {"segments": segments, "key_bias": key_bias}
        given = {name: value for name, value in given.items() if value is not None}
        last = len(encoder.get_submodule(self.layers)) - 1
        hidden = self.layer(encoder, last, hidden, positions=positions, **given)
        return hidden[:, :1].transpose(0, 1) if segments is None else hidden[:, segments.first]
