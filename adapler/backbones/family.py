"""What AdapLeR needs to know of one backbone family, and how it runs one of its layers.

Dimensions: B batch, n tokens that enter a layer, T packed tokens, D hidden size, C labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from adapler.backbones.attention import ATTENTION, cls_attention, packed_attention
from adapler.backbones.packing import Segments
from adapler.backbones.pieces import computes_in_pieces, in_pieces, narrowed, own_formats, products_dtype
from adapler.backbones.received import Reads, Received, received_attention, received_from_cls


def _bert_attention_output(layer: Any, context: Tensor, states: Tensor) -> Tensor:
    return layer.attention.output(context, states)  # type: ignore[no-any-return]


def _bert_feed_forward(layer: Any, states: Tensor) -> Tensor:
    between = layer.intermediate(narrowed(states, layer.intermediate.dense))
    return layer.output(between, states)  # type: ignore[no-any-return]


def _is_hooked(module: nn.Module) -> bool:
    """Whether something is hooked into a module or a part of it; asked in every layer, and `modules()` takes longer."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or any(
        _is_hooked(part) for part in module._modules.values() if part is not None
    )


def attention_and_received(
    query: Tensor, key: Tensor, value: Tensor, *, reads: Reads, **options: Any
) -> tuple[Tensor, Received]:
    """What the heads give, (1, H, T, E), and what is read of their weights.

    Args:
        query, key, value: (1, H, T, E).
        reads: no other weights are computed: a fused kernel holds none. With a term all are computed all the same.
        options: of `received_attention`.
    """
    if reads == "all" or options.get("term") is not None:
        return received_attention(query, key, value, **options)
    options = {name: options[name] for name in ("segments", "scale")}
    context = packed_attention(query, key, value, **options)
    return context, received_from_cls(query, key, **options) if reads == "cls" else Received()


@dataclass(frozen=True)
class Family:
    """One backbone family.

    A family whose layers need the tokens' positions (rotary or relative ones) is a subclass that overrides `layer`, and
    `last_layer` if it can; until then its last layer runs whole.

    Attributes:
        base: name of the encoder inside the classifier.
        layers: attribute path from the encoder to its list of layers.
        head: (classifier, hidden states of [CLS] (B, D)) -> logits (B, C).
        pooler: attribute path of the dense layer between [CLS] and the classifier.
        attention_dropout: name of the configuration's attention dropout.
        inner_size: name of the configuration's feed-forward width.
        activation: name of the configuration's activation.
        positions_after_padding: whether the first position is padding_idx + 1 (RoBERTa) and not 0.
        position_embeddings: whether the embeddings take positions.
        gated: whether the feed-forward network has a gate, a third matrix as large as the other two.
        implementation: attention implementation of the configuration; "eager" for a family whose layers have
            attention code of their own.
        projections: attribute paths from a layer to its query, key and value.
        attention_output: (layer, what the heads give, hidden states) -> what the feed-forward network reads, all
            (1, n, D).
        feed_forward: (layer, that) -> the layer's output, both (1, n, D).
    """

    base: str
    layers: str
    head: Callable[[Any, Tensor], Tensor]
    pooler: str
    attention_dropout: str = "attention_probs_dropout_prob"
    inner_size: str = "intermediate_size"
    activation: str = "hidden_act"
    positions_after_padding: bool = False
    position_embeddings: bool = True
    gated: bool = False
    implementation: str = ATTENTION
    projections: tuple[str, str, str] = ("attention.self.query", "attention.self.key", "attention.self.value")
    attention_output: Callable[[Any, Tensor, Tensor], Tensor] = _bert_attention_output
    feed_forward: Callable[[Any, Tensor], Tensor] = _bert_feed_forward

    def _layers(self, encoder: Any) -> Any:
        """The encoder's layers. `attrgetter` takes a third of `get_submodule`'s time, and every layer asks."""
        return attrgetter(self.layers)(encoder)

    def _projections(self, layer: Any) -> tuple[Any, Any, Any]:
        """A layer's query, key and value."""
        return attrgetter(*self.projections)(layer)

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
        layer = self._layers(encoder)[index]
        plain = attention.keys() == {"segments"} and encoder.config._attn_implementation == ATTENTION
        if plain and computes_in_pieces(hidden) and self._is_plain(encoder, layer):
            return self._packed_layer(encoder, layer, hidden, segments=attention["segments"])
        with own_formats(layer, hidden):
            output: Tensor = layer(hidden, attention_mask=None, **attention)
        return output

    def _packed_layer(self, encoder: Any, layer: Any, hidden: Tensor, *, segments: Segments) -> Tensor:
        """A layer on a packed row, (1, T, D), without gradients: the numbers of transformers' own layer."""
        query, key, value = self._by_head(encoder, layer, hidden)
        scale = query.shape[-1] ** -0.5
        context = packed_attention(query, key, value, segments=segments, scale=scale)  # (1, H, T, E)
        return self._after_attention(layer, context.transpose(1, 2).flatten(2), hidden)

    def _by_head(self, encoder: Any, layer: Any, hidden: Tensor) -> list[Tensor]:
        """A layer's query, key and value, each (1, H, T, E), in pieces where that pays."""
        projections = self._projections(layer)

        def project(states: Tensor) -> tuple[Tensor, ...]:
            read = narrowed(states, projections[0])
            return tuple(one(read) for one in projections)

        pieced = computes_in_pieces(hidden)
        projected = in_pieces(project, hidden, dtype=products_dtype(layer)) if pieced else project(hidden)
        by_head = (encoder.config.num_attention_heads, -1)
        return [torch.unflatten(part, -1, by_head).transpose(1, 2) for part in projected]

    def _after_attention(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        """A layer from what its heads give, in pieces where that pays; all (1, n, D)."""

        def rest(context: Tensor, states: Tensor) -> tuple[Tensor]:
            return (self.feed_forward(layer, self.attention_output(layer, context, states)),)

        return in_pieces(rest, context, states)[0] if computes_in_pieces(states) else rest(context, states)[0]

    def attention_half(
        self, encoder: Any, index: int, hidden: Tensor, *, positions: Tensor, segments: Segments, reads: Reads
    ) -> tuple[Tensor, Received]:
        """A layer up to its feed-forward network, and the attention that each token received.

        Args:
            encoder, index, hidden, positions, segments: see `layer`; hidden is a packed row (1, T, D).
            reads: what is wanted of the attention, see `attention_and_received`.

        Returns:
            (1, T, D), what the feed-forward network reads; the attention received.
        """
        layer = self._layers(encoder)[index]
        query, key, value = self._by_head(encoder, layer, hidden)  # (1, H, T, E)
        options = {"segments": segments, "scale": query.shape[-1] ** -0.5, **self.pairwise(encoder, positions)}
        context, received = attention_and_received(query, key, value, reads=reads, **options)

        def rest(context: Tensor, states: Tensor) -> tuple[Tensor]:
            return (self.attention_output(layer, context, states),)

        mixed = context.transpose(1, 2).flatten(2)  # (1, T, D)
        output = in_pieces(rest, mixed, hidden) if computes_in_pieces(hidden) else rest(mixed, hidden)
        return output[0], received

    def hold_pairwise(self, encoder: Any) -> None:
        """Stop training what the attention adds to each pair of tokens: a mask with a gradient has no fast kernel."""

    def pairwise(self, encoder: Any, positions: Tensor) -> dict[str, Any]:
        """`term` and `positions` of `received_attention`, for a family whose attention has a term for each pair."""
        return {}

    def feed_forward_half(self, encoder: Any, index: int, states: Tensor) -> Tensor:
        """The rest of the layer after `attention_half`: (1, n, D) -> (1, n, D), each token alone."""
        layer = self._layers(encoder)[index]
        if not computes_in_pieces(states):
            return self.feed_forward(layer, states)
        return in_pieces(lambda part: (self.feed_forward(layer, part),), states, dtype=products_dtype(layer))[0]

    @property
    def runs_last_layer_whole(self) -> bool:
        """Whether the last layer runs for all tokens, and not for [CLS] only: with a `layer` of its own, it does."""
        return type(self).layer is not Family.layer

    def last_layer(
        self, encoder: Any, hidden: Tensor, *, positions: Tensor, segments: Segments, key_bias: Tensor | None = None
    ) -> Tensor:
        """Run the last layer for the first token of each sequence, which is all that a classifier reads. Exact.

        A head's logits are q . (K h + b) = (K^T q) . h + q . b. The last term is the same for every key, so it does not
        change the softmax. The values are V h + c, and attention weights sum to 1, so the mean of the values is
        V (mean of h) + c. So the keys and values of all tokens need not be computed.

        Args:
            encoder: the encoder inside the classifier.
            hidden: (1, T, D), the tokens that enter the layer.
            positions: (1, T), see `layer`.
            segments: where the sequences begin and end.
            key_bias: (1, T), added to the logits of each key.

        Returns:
            (1, B, D).
        """
        layers = self._layers(encoder)
        layer, first = layers[len(layers) - 1], segments.first
        if self.runs_last_layer_whole or not self._is_plain(encoder, layer):
            attention = {"segments": segments} if key_bias is None else {"segments": segments, "key_bias": key_bias}
            return self.layer(encoder, len(layers) - 1, hidden, positions=positions, **attention)[:, first]
        query, key, value = self._projections(layer)
        states = hidden.index_select(1, first)  # (1, B, D)
        by_head = (encoder.config.num_attention_heads, -1)
        # What depends on the number of texts and tokens is in float32 at least on a CPU: see pieces.GRAIN.
        exact = torch.promote_types(hidden.dtype, torch.float32)
        small = exact if computes_in_pieces(hidden) else hidden.dtype
        read = narrowed(states, query)
        projected = in_pieces(lambda part: (query(part),), read)[0] if computes_in_pieces(read) else query(read)
        queries = torch.unflatten(projected[0], 1, by_head).to(small)  # (B, H, E)
        queries = queries * queries.shape[-1] ** -0.5
        folded = torch.einsum("bhe,hed->bhd", queries, key.weight.to(small).unflatten(0, by_head))  # (B, H, D)
        mixed = cls_attention(folded, hidden.to(small), segments=segments, key_bias=key_bias)  # (B, H, D)
        context = torch.einsum("bhd,hed->bhe", mixed, value.weight.to(small).unflatten(0, by_head))  # (B, H, E)
        context = narrowed(context.to(hidden.dtype), value).flatten(1) + value.bias  # (B, D)
        if key.bias.requires_grad:  # its gradient is 0, and training in several processes waits for every gradient
            context = context + 0 * key.bias
        return self._after_attention(layer, context[None], states)

    def _is_plain(self, encoder: Any, layer: Any) -> bool:
        """Whether a layer is as transformers built it: dense projections, nothing hooked in, no attention dropout."""
        return (
            all(type(one) is nn.Linear and one.bias is not None for one in self._projections(layer))
            and not _is_hooked(layer)
            and not (layer.training and getattr(encoder.config, self.attention_dropout))
        )
