"""A classifier of transformers seen as embeddings, layers that run one by one on packed rows, and a head.

Dimensions: B batch, N padded length, n tokens that enter a layer, T packed tokens, D hidden size, C labels.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones.attention import (
    ATTENTION,
    Reads,
    Received,
    cls_attention,
    packed_attention,
    received_attention,
    received_from_cls,
)
from adapler.backbones.packing import (
    Segments,
    computes_in_pieces,
    in_pieces,
    narrowed,
    own_formats,
    products_dtype,
    states_dtype,
)


class Family:
    """One kind of encoder, as class attributes and methods; an instance is a view of one classifier.

    None of transformers' code is copied or changed. A kind whose layers need the tokens' positions (rotary or relative
    ones) overrides `layer`, and `last_layer` if it can; until then its last layer runs whole.

    Attributes:
        base: name of the encoder inside the classifier.
        layers_path: attribute path from the encoder to its list of layers.
        pooler_path: attribute path from the classifier to the dense layer between [CLS] and the labels.
        attention_dropout, inner_size, activation: names of the configuration's attention dropout, feed-forward width
            and activation.
        positions_after_padding: whether the first position is padding_idx + 1 (RoBERTa) and not 0.
        position_embeddings: whether the embeddings take positions.
        gated: whether the feed-forward network has a gate, a third matrix as large as the other two.
        implementation: attention implementation of the configuration; "eager" for layers with attention code of their
            own.
        projections: attribute paths from a layer to its query, key and value.
        classifier, config, encoder, layers: of the classifier in view.
    """

    base: ClassVar[str]
    layers_path: ClassVar[str] = "encoder.layer"
    pooler_path: ClassVar[str]
    attention_dropout: ClassVar[str] = "attention_probs_dropout_prob"
    inner_size: ClassVar[str] = "intermediate_size"
    activation: ClassVar[str] = "hidden_act"
    positions_after_padding: ClassVar[bool] = False
    position_embeddings: ClassVar[bool] = True
    gated: ClassVar[bool] = False
    implementation: ClassVar[str] = ATTENTION
    projections: ClassVar[tuple[str, str, str]] = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    )

    def __init__(self, classifier: PreTrainedModel) -> None:
        self.classifier: Any = classifier
        self.config: Any = classifier.config
        self.encoder: Any = getattr(classifier, self.base)
        self.layers: nn.ModuleList = attrgetter(self.layers_path)(self.encoder)

    # What a kind may do in its own way

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise ArgumentError for a configuration that this kind cannot run; most run all of them."""

    def labels(self, cls: Tensor) -> Tensor:
        """(B, D) -> (B, C): the backbone's own head on [CLS]'s last hidden states."""
        logits: Tensor = self.classifier.classifier(cls[:, None])
        return logits

    def attention_output(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        """Context of the heads and the layer's input -> input of the feed-forward network, all (1, n, D)."""
        output: Tensor = layer.attention.output(context, states)
        return output

    def feed_forward(self, layer: Any, states: Tensor) -> Tensor:
        """The layer's output from what its attention gave, both (1, n, D)."""
        output: Tensor = layer.output(layer.intermediate(narrowed(states, layer.intermediate.dense)), states)
        return output

    def pairwise(self, positions: Tensor) -> dict[str, Any]:
        """`term` and `positions` of `received_attention`, for a kind whose attention has a term for each pair."""
        return {}

    def hold_pairwise(self) -> None:
        """Stop training the terms of pairs of tokens: a mask with a gradient has no fast kernel."""

    @classmethod
    def layer_flops(cls, config: Any, lengths: Tensor, *, after: Tensor) -> Tensor:
        """FLOPs of one layer on float64 lengths, whose feed-forward network reads `after` tokens."""
        width, inner = config.hidden_size, getattr(config, cls.inner_size)
        linear = 2 * 4 * width * width  # query, key, value, output
        forward = 2 * (3 if cls.gated else 2) * width * inner  # feed-forward in and out, and its gate
        attention = 2 * 2 * width  # q.k and weights.v, for each pair of tokens
        flops: Tensor = lengths * linear + after * forward + lengths * lengths * attention
        return flops

    @classmethod
    def last_layer_flops(cls, config: Any, lengths: Tensor) -> Tensor:
        """FLOPs of the last layer as `last_layer` runs it."""
        if cls.runs_last_layer_whole():
            return cls.layer_flops(config, lengths, after=lengths)
        width, inner = config.hidden_size, getattr(config, cls.inner_size)
        one = 2 * (4 * width * width + 2 * width * inner)  # [CLS] alone has as many products as a token of a layer
        attention = 2 * 2 * width * config.num_attention_heads  # each head reads whole hidden states
        flops: Tensor = one + lengths * attention
        return flops

    # The same for all

    @property
    def pooler(self) -> nn.Linear:
        """The dense layer between [CLS]'s last hidden state and the labels."""
        pooler: nn.Linear = attrgetter(self.pooler_path)(self.classifier)
        return pooler

    def head(self, cls: Tensor) -> Tensor:
        """Logits (B, C) from [CLS]'s last hidden states (B, D), in the head's dtype."""
        dtype = getattr(self.pooler.weight, "dtype", cls.dtype)  # int8 layers have a method of that name
        return self.labels(cls.to(dtype))

    def embed(self, input_ids: Tensor, *, positions: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """h^0: (B, N) ids -> (B, N, D), the input of the first layer, in the dtype of its states."""
        dtype = states_dtype(self.layers[0])
        arguments = {"input_ids": input_ids}
        if self.position_embeddings:
            arguments["position_ids"] = positions
        if hasattr(self.encoder.embeddings, "token_type_embeddings"):
            arguments["token_type_ids"] = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids

        def rows(*parts: Tensor) -> tuple[Tensor]:
            hidden = self.encoder.embeddings(**dict(zip(arguments, parts, strict=True)))
            project = getattr(self.encoder, "embeddings_project", None)  # ELECTRA, when its embeddings are narrower
            return (cast(Tensor, hidden if project is None else project(hidden)).to(dtype),)

        return (rows(*arguments.values()) if len(input_ids) > 1 else in_pieces(rows, *arguments.values()))[0]

    def layer(self, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        """Run one layer.

        Args:
            index: of the layer, from 0.
            hidden: (B, n, D), the tokens that enter the layer; one packed row (1, T, D) in hard removal.
            positions: (B, n) the tokens' positions in the input, before any token was removed. Absolute positions
                were added to the embeddings; only relative and rotary positions are computed from this.
            attention: keyword arguments for `adapler_attention`: `segments`, `key_bias`.

        Returns:
            Shape of hidden.
        """
        layer = self.layers[index]
        plain = attention.keys() == {"segments"} and self.config._attn_implementation == ATTENTION
        if plain and computes_in_pieces(hidden) and self._is_plain(layer):
            query, key, value = self._by_head(layer, hidden)
            scale = query.shape[-1] ** -0.5
            context = packed_attention(query, key, value, segments=attention["segments"], scale=scale)  # (1, H, T, E)
            return self._after_attention(layer, context.transpose(1, 2).flatten(2), hidden)
        with own_formats(layer, hidden):
            output: Tensor = layer(hidden, attention_mask=None, **attention)
        return output

    def _by_head(self, layer: Any, hidden: Tensor) -> list[Tensor]:
        """A layer's query, key and value, each (1, H, T, E)."""
        projections = attrgetter(*self.projections)(layer)

        def project(states: Tensor) -> tuple[Tensor, ...]:
            read = narrowed(states, projections[0])
            return tuple(one(read) for one in projections)

        projected = in_pieces(project, hidden, dtype=products_dtype(layer))
        by_head = (self.config.num_attention_heads, -1)
        return [torch.unflatten(part, -1, by_head).transpose(1, 2) for part in projected]

    def _after_attention(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        """A layer from the context of its heads; all (1, n, D)."""

        def rest(context: Tensor, states: Tensor) -> tuple[Tensor]:
            return (self.feed_forward(layer, self.attention_output(layer, context, states)),)

        return in_pieces(rest, context, states)[0]

    def attention_half(
        self, index: int, hidden: Tensor, *, positions: Tensor, segments: Segments, reads: Reads
    ) -> tuple[Tensor, Received]:
        """A layer up to its feed-forward network, (1, T, D), and the attention that each token received, as far as a
        policy `reads` it; arguments as of `layer`."""
        layer = self.layers[index]
        query, key, value = self._by_head(layer, hidden)  # (1, H, T, E)
        options = {"segments": segments, "scale": query.shape[-1] ** -0.5, **self.pairwise(positions)}
        context, received = attention_and_received(query, key, value, reads=reads, **options)

        def rest(context: Tensor, states: Tensor) -> tuple[Tensor]:
            return (self.attention_output(layer, context, states),)

        return in_pieces(rest, context.transpose(1, 2).flatten(2), hidden)[0], received

    def feed_forward_half(self, index: int, states: Tensor) -> Tensor:
        """The rest of the layer after `attention_half`: (1, n, D) -> (1, n, D), each token alone."""
        layer = self.layers[index]
        return in_pieces(lambda part: (self.feed_forward(layer, part),), states, dtype=products_dtype(layer))[0]

    @classmethod
    def runs_last_layer_whole(cls) -> bool:
        """Whether the last layer runs for all tokens, and not for [CLS] only: with a `layer` of its own, it does."""
        return cls.layer is not Family.layer

    def last_layer(
        self, hidden: Tensor, *, positions: Tensor, segments: Segments, key_bias: Tensor | None = None
    ) -> Tensor:
        """Run the last layer for the first token of each sequence, which is all that a classifier reads. Exact.

        A head's logits are q . (K h + b) = (K^T q) . h + q . b. The last term is the same for every key, so it does not
        change the softmax. The values are V h + c, and attention weights sum to 1, so the mean of the values is
        V (mean of h) + c. So the keys and values of all tokens need not be computed. Arguments as of `layer`, hidden
        (1, T, D) -> (1, B, D); `key_bias` (1, T) is added to the logits of each key.
        """
        layer, first = self.layers[-1], segments.first
        if self.runs_last_layer_whole() or not self._is_plain(layer):
            attention = {"segments": segments} if key_bias is None else {"segments": segments, "key_bias": key_bias}
            return self.layer(len(self.layers) - 1, hidden, positions=positions, **attention)[:, first]
        query, key, value = attrgetter(*self.projections)(layer)
        states = hidden.index_select(1, first)  # (1, B, D)
        by_head = (self.config.num_attention_heads, -1)
        # Products whose size depends on the number of texts and tokens are in float32 at least on a CPU: packing.GRAIN.
        exact = torch.promote_types(hidden.dtype, torch.float32)
        small = exact if computes_in_pieces(hidden) else hidden.dtype
        read = narrowed(states, query)
        projected = in_pieces(lambda part: (query(part),), read)[0]
        queries = torch.unflatten(projected[0], 1, by_head).to(small)  # (B, H, E)
        queries = queries * queries.shape[-1] ** -0.5
        folded = torch.einsum("bhe,hed->bhd", queries, key.weight.to(small).unflatten(0, by_head))  # (B, H, D)
        mixed = cls_attention(folded, hidden.to(small), segments=segments, key_bias=key_bias)  # (B, H, D)
        context = torch.einsum("bhd,hed->bhe", mixed, value.weight.to(small).unflatten(0, by_head))  # (B, H, E)
        context = narrowed(context.to(hidden.dtype), value).flatten(1) + value.bias  # (B, D)
        if key.bias.requires_grad:  # its gradient is 0, and training in several processes waits for every gradient
            context = context + 0 * key.bias
        return self._after_attention(layer, context[None], states)

    def _is_plain(self, layer: Any) -> bool:
        """Whether a layer is as transformers built it: dense projections, nothing hooked in, no attention dropout."""
        return (
            all(type(one) is nn.Linear and one.bias is not None for one in attrgetter(*self.projections)(layer))
            and not _is_hooked(layer)
            and not (layer.training and getattr(self.config, self.attention_dropout))
        )


def _is_hooked(module: nn.Module) -> bool:
    """Whether something is hooked into a module or a part of it; asked in every layer, and `modules()` takes longer."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or any(
        _is_hooked(part) for part in module._modules.values() if part is not None
    )


def attention_and_received(
    query: Tensor, key: Tensor, value: Tensor, *, reads: Reads, **options: Any
) -> tuple[Tensor, Received]:
    """Context of the heads, (1, H, T, E), and the requested part of their weights; options as for `received_attention`.

    Other weights are not computed: a fused kernel holds none. With a term all are computed all the same.
    """
    if reads == "all" or options.get("term") is not None:
        return received_attention(query, key, value, **options)
    options = {name: options[name] for name in ("segments", "scale")}
    context = packed_attention(query, key, value, **options)
    return context, received_from_cls(query, key, **options) if reads == "cls" else Received()
