"""A classifier of transformers seen as embeddings, layers that run one by one on packed rows, and a head.

`Family` is the protocol, each kind of encoder a subclass; FAMILIES has them by transformers' model type, and
`view(classifier)` runs one.

Dimensions: B batch, N padded length, n tokens that enter a layer, T packed tokens, D hidden size, H heads, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from adapler.backbones.attention import (
    ATTENTION,
    Reads,
    Received,
    Segments,
    Term,
    cls_attention,
    computes_in_pieces,
    in_pieces,
    narrowed,
    own_formats,
    packed_attention,
    products_dtype,
    received_attention,
    segment_sum,
    states_dtype,
    window,
)
from adapler.errors import ArgumentError
from adapler.options import ambiguous


class Family:
    """One kind of encoder, as class attributes and methods; an instance is a view of one classifier.

    None of transformers' code is copied or changed. A kind whose layers need the tokens' positions (rotary or relative
    ones) overrides `layer`, and `last_layer` if it can; until then its last layer runs whole.
    """

    # Attribute paths: from the classifier to the encoder and to the dense layer between [CLS] and the labels, from the
    # encoder to its list of layers, from a layer to its query, key and value.
    base: ClassVar[str]
    pooler_path: ClassVar[str]
    layers_path: ClassVar[str] = "encoder.layer"
    projections: ClassVar[tuple[str, ...]] = ("attention.self.query", "attention.self.key", "attention.self.value")
    # Names of the configuration's fields; inner_size is the feed-forward width.
    attention_dropout: ClassVar[str] = "attention_probs_dropout_prob"
    inner_size: ClassVar[str] = "intermediate_size"
    activation: ClassVar[str] = "hidden_act"
    positions_after_padding: ClassVar[bool] = False  # whether the first position is padding_idx + 1 (RoBERTa), not 0
    position_embeddings: ClassVar[bool] = True  # whether the embeddings take positions
    gated: ClassVar[bool] = False  # whether the feed-forward network has a gate, a matrix as large as the other two
    implementation: ClassVar[str] = ATTENTION  # "eager" for layers with attention code of their own

    def __init__(self, classifier: PreTrainedModel) -> None:
        self.classifier: Any = classifier
        self.config: Any = classifier.config
        self.encoder: Any = getattr(classifier, self.base)
        self.layers: nn.ModuleList = attrgetter(self.layers_path)(self.encoder)

    # ---- what a kind may do in its own way

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise ArgumentError for a configuration that this kind cannot run; most run all of them."""

    def labels(self, cls: Tensor) -> Tensor:
        """(B, D) -> (B, C): the backbone's own head on [CLS]'s last hidden states."""
        return self.classifier.classifier(cls[:, None])

    def attention_output(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        """Context of the heads and the layer's input -> input of the feed-forward network, all (1, n, D)."""
        return layer.attention.output(context, states)

    def feed_forward(self, layer: Any, states: Tensor) -> Tensor:
        """The layer's output from what its attention gave, both (1, n, D)."""
        return layer.output(layer.intermediate(narrowed(states, layer.intermediate.dense)), states)

    def pairwise(self, layer: Any) -> Term | None:
        """What a layer's attention adds for each pair of tokens; the same in all layers that add something."""
        return None

    def hold_pairwise(self) -> None:
        """Stop training the terms of pairs of tokens: a mask with a gradient has no fast kernel."""

    @classmethod
    def layer_flops(cls, config: Any, lengths: Tensor, *, after: Tensor) -> Tensor:
        """FLOPs of one layer on float64 lengths, whose feed-forward network reads `after` tokens."""
        width, inner = config.hidden_size, getattr(config, cls.inner_size)
        linear = 2 * 4 * width * width  # query, key, value, output
        forward = 2 * (3 if cls.gated else 2) * width * inner  # feed-forward in and out, and its gate
        attention = 2 * 2 * width  # q.k and weights.v, for each pair of tokens
        return lengths * linear + after * forward + lengths * lengths * attention

    @classmethod
    def last_layer_flops(cls, config: Any, lengths: Tensor) -> Tensor:
        """FLOPs of the last layer as `last_layer` runs it."""
        if cls.runs_last_layer_whole():
            return cls.layer_flops(config, lengths, after=lengths)
        width, inner = config.hidden_size, getattr(config, cls.inner_size)
        one = 2 * (4 * width * width + 2 * width * inner)  # [CLS] alone has as many products as a token of a layer
        attention = 2 * 2 * width * config.num_attention_heads  # each head reads whole hidden states
        return one + lengths * attention

    # ---- the same for all

    @property
    def pooler(self) -> nn.Linear:
        """The dense layer between [CLS]'s last hidden state and the labels."""
        return attrgetter(self.pooler_path)(self.classifier)

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
        """Run one layer on the packed row of the tokens that enter it, (1, T, D) -> (1, T, D).

        `positions` (1, T) are the tokens' in the input, before any token was removed, for relative and rotary ones
        (absolute ones were added to the embeddings); `attention` is for `adapler_attention`: `segments`, `key_bias`.
        """
        layer = self.layers[index]
        plain = attention.keys() == {"segments"} and self.config._attn_implementation == ATTENTION
        if plain and computes_in_pieces(hidden) and self._is_plain(layer):
            return self._by_parts(layer, hidden, positions=positions, **attention)
        with own_formats(layer, hidden):
            output: Tensor = layer(hidden, attention_mask=None, **attention)
        return output

    def _by_parts(self, layer: Any, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        """`layer` without its own code, where it is as transformers built it."""
        query, key, value = self.by_head(layer, hidden, positions)  # (1, H, T, E)
        options = {"scale": query.shape[-1] ** -0.5, "term": self.pairwise(layer), "positions": positions, **attention}
        context = packed_attention(query, key, value, **options)
        return self._after_attention(layer, context.transpose(1, 2).flatten(2), hidden)

    def by_head(self, layer: Any, hidden: Tensor, positions: Tensor) -> Sequence[Tensor]:
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
        query, key, value = self.by_head(layer, hidden, positions)  # (1, H, T, E)
        options: dict[str, Any] = {"scale": query.shape[-1] ** -0.5, "term": self.pairwise(layer)}
        options |= {"segments": segments, "positions": positions}
        context, received = received_attention(query, key, value, reads=reads, **options)

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
        # Products whose size depends on the number of texts and tokens are in float32 at least on a CPU: see GRAIN.
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


class Bert(Family):
    """BERT: a pooler inside the encoder."""

    base = "bert"
    pooler_path = "bert.pooler.dense"

    def labels(self, cls: Tensor) -> Tensor:
        return self.classifier.classifier(self.classifier.dropout(self.encoder.pooler(cls[:, None])))


class Ernie(Bert):
    """BERT's layers and head under another name."""

    base = "ernie"
    pooler_path = "ernie.pooler.dense"


class Roberta(Family):
    """RoBERTa, XLM-RoBERTa and CamemBERT: positions after the padding id, a head with a dense layer."""

    base = "roberta"
    pooler_path = "classifier.dense"
    positions_after_padding = True


class Electra(Family):
    """ELECTRA: a head with a dense layer."""

    base = "electra"
    pooler_path = "classifier.dense"


class DistilBert(Family):
    """DistilBERT: layers with other names, and a pre-classifier with a ReLU."""

    base = "distilbert"
    layers_path = "transformer.layer"
    pooler_path = "pre_classifier"
    attention_dropout = "attention_dropout"
    inner_size = "hidden_dim"
    activation = "activation"
    projections = ("attention.q_lin", "attention.k_lin", "attention.v_lin")

    def labels(self, cls: Tensor) -> Tensor:
        hidden = torch.relu(self.classifier.pre_classifier(cls))
        return self.classifier.classifier(self.classifier.dropout(hidden))

    def attention_output(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        return layer.sa_layer_norm(layer.attention.out_lin(context) + states)

    def feed_forward(self, layer: Any, states: Tensor) -> Tensor:
        return layer.output_layer_norm(layer.ffn(narrowed(states, layer.ffn.lin1)) + states)


class MPNet(Family):
    """MPNet: absolute positions in the embeddings, and a bias by relative position in every layer.

    transformers computes the bias once, from the places 0 to n - 1. Here it is that of the positions which the tokens
    had in the input, so it stays right when tokens between are dropped.
    """

    base = "mpnet"
    pooler_path = "classifier.dense"
    positions_after_padding = True
    implementation = "eager"
    projections = ("attention.attn.q", "attention.attn.k", "attention.attn.v")

    @classmethod
    def check(cls, config: Any) -> None:
        if config.pad_token_id != 1:
            # transformers' MPNet counts positions from 1, whatever its configuration says.
            raise ArgumentError(f"pad_token_id: {config.pad_token_id!r} is not 1, which MPNet's positions begin after")

    def layer(self, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        """See Family.layer; ArgumentError for attention dropout, which soft and hard removal do not have."""
        layer: Any = self.layers[index]
        parts = layer.attention.attn
        if parts.training and parts.dropout.p:
            raise ArgumentError(
                f"attention dropout: {parts.dropout.p} is not 0, and only the backbone's own forward pass has it"
            )

        def run(states: Tensor) -> Tensor:
            return self._by_parts(layer, states, positions=positions, **attention)

        if getattr(layer, "gradient_checkpointing", False) and layer.training:
            # transformers' own MPNetLayer knows nothing of it, unlike those of other families.
            return layer._gradient_checkpointing_func(run, hidden)
        return run(hidden)

    def attention_output(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        mixed = layer.attention.attn.o(context)
        return layer.attention.LayerNorm(layer.attention.dropout(mixed) + states)

    def hold_pairwise(self) -> None:
        self.encoder.encoder.relative_attention_bias.requires_grad_(False)

    def pairwise(self, layer: Any) -> Term:
        return partial(relative_bias, self.encoder.encoder)


def relative_bias(encoder: Any, distance: Tensor) -> Tensor:
    """The bias of each head by relative position, learned for buckets of distances by transformers' MPNetEncoder.

    distance (B, N, N), key's position minus query's -> (B, H, N, N).
    """
    reach = int(encoder.config.max_position_embeddings)
    steps = torch.arange(-reach, reach + 1, device=distance.device)
    by_distance = encoder.relative_attention_bias(encoder.relative_position_bucket(steps))  # (2 reach + 1, H)
    # By head, so that a head's biases lie side by side, as attention reads them.
    found: Tensor = by_distance.T.contiguous().index_select(1, (distance + reach).flatten())  # (H, B N N)
    return found.view(-1, *distance.shape).transpose(0, 1)


class ModernBert(Family):
    """ModernBERT: rotary positions, sliding windows in its local layers, norms before each block and after the last.

    Both are those of the positions that the tokens had in the input: a token that was 200 positions away stays out of
    the window when those between were dropped.
    """

    base = "model"
    layers_path = "layers"
    pooler_path = "head.dense"
    attention_dropout = "attention_dropout"
    activation = "hidden_activation"
    position_embeddings = False
    gated = True

    def labels(self, cls: Tensor) -> Tensor:
        return self.classifier.classifier(self.classifier.drop(self.classifier.head(cls)))

    def feed_forward(self, layer: Any, states: Tensor) -> Tensor:
        return states + layer.mlp(narrowed(layer.mlp_norm(states), layer.mlp.Wi))

    def layer(self, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        layer: Any = self.layers[index]
        rotary = self.encoder.rotary_emb(hidden, positions, layer.attention_type)
        with own_formats(layer, hidden):
            output: Tensor = layer(
                hidden, attention_mask=None, position_embeddings=rotary, positions=positions, **attention
            )
        return output

    def pairwise(self, layer: Any) -> Term | None:
        reach = layer.attn.sliding_window
        return None if reach is None else partial(window, reach=reach - 1)

    def by_head(self, layer: Any, hidden: Tensor, positions: Tensor) -> Sequence[Tensor]:
        part = layer.attn
        projected = part.Wqkv(narrowed(layer.attn_norm(hidden), part.Wqkv)).unflatten(-1, (3, -1, part.head_dim))
        query, key, value = (x.transpose(1, 2) for x in projected.unbind(-3))  # (1, T, 3, H, E) -> (1, H, T, E) each
        rotary = self.encoder.rotary_emb(hidden, positions, layer.attention_type)
        return *apply_rotary_pos_emb(query, key, *rotary), value

    def attention_output(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        return states + layer.attn.out_drop(layer.attn.Wo(context))

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
            return states.index_select(0, segments.first)[None]
        weights = torch.ones_like(states[:, 0]) if key_bias is None else key_bias.flatten().exp().to(states)  # (T,)
        total, count = segment_sum(states * weights[:, None], segments), segment_sum(weights, segments)
        pooled: Tensor = total / count[:, None]
        return pooled[None]


SINGLE_LABEL = "single_label_classification"  # transformers' name of the one problem type that AdapLeR solves

FAMILIES: dict[str, type[Family]] = {
    "bert": Bert,
    "roberta": Roberta,
    "electra": Electra,
    "distilbert": DistilBert,
    "ernie": Ernie,
    "xlm-roberta": Roberta,
    "camembert": Roberta,
    "mpnet": MPNet,
    "modernbert": ModernBert,
}


def family_of(config: Any) -> type[Family]:
    """The family of a backbone's configuration; ArgumentError for one that AdapLeR cannot run."""
    kind, position_type = getattr(config, "model_type", None), getattr(config, "position_embedding_type", "absolute")
    if kind not in FAMILIES:
        raise ArgumentError(f"backbone: model type {kind!r} is not supported; supported: {', '.join(FAMILIES)}")
    if getattr(config, "is_decoder", False):
        raise ArgumentError("backbone: is_decoder=True is not supported; AdapLeR needs a bidirectional encoder")
    if position_type != "absolute":
        raise ArgumentError(f"backbone: position_embedding_type {position_type!r} is not supported; only 'absolute'")
    return FAMILIES[kind]


def view(classifier: PreTrainedModel) -> Family:
    """A classifier as embeddings, layers and a head; ArgumentError for one of no supported family."""
    return family_of(classifier.config)(classifier)


def check_task(config: Any) -> None:
    """Raise ArgumentError for a classifier, plain or AdapLeR, that does not choose exactly one of several labels: a
    regression or multi-label head would get the wrong loss and a softmax that says nothing."""
    problem = getattr(config, "problem_type", None)
    if problem not in (None, SINGLE_LABEL):
        raise ArgumentError(f"problem_type: {problem!r} is not supported; only {SINGLE_LABEL!r}")
    if config.num_labels < 2:
        raise ArgumentError(
            f"num_labels: {config.num_labels} is not at least 2; AdapLeR needs a classifier, "
            "a head with one output is a regression"
        )
    label_names(config)


def label_names(config: Any) -> list[str]:
    """The names of a classifier's labels, by their indices; ArgumentError where `id2label` does not name the labels
    from 0 on, each by a name of its own."""
    names = {int(index): str(name) for index, name in config.id2label.items()}
    count = getattr(config, "backbone_config", config).num_labels
    if sorted(names) != list(range(count)):
        listed = ", ".join(map(str, sorted(names)))
        raise ArgumentError(f"id2label: has names for the labels {listed}; the classifier's are 0 to {count - 1}")
    if len(set(names.values())) < count:
        raise ArgumentError(f"id2label: two labels have one name in {list(names.values())}")
    return [names[index] for index in range(count)]


def first_position(config: Any) -> int:
    """The position of an input's first token: 0, or padding_idx + 1 for RoBERTa."""
    return int(config.pad_token_id) + 1 if family_of(config).positions_after_padding else 0


def max_positions(config: Any) -> int:
    """The longest input, special tokens included, that a backbone's configuration has positions for."""
    return int(config.max_position_embeddings) - first_position(config)


def position_ids(config: Any, attention_mask: Tensor) -> Tensor:
    """(B, N) positions of a padded batch, counted in each row from its first real token.

    Padding on either side gives the same numbers. transformers counts BERT's, ELECTRA's and DistilBERT's positions from
    the left edge, padding included, and its RoBERTa and MPNet leave out a padding token that is part of a text.
    """
    columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    start = attention_mask.bool().int().argmax(-1, keepdim=True)  # (B, 1) column of [CLS]
    positions = columns - start + first_position(config)  # (B, N)
    return torch.where(attention_mask.bool(), positions, 0)


def ready(classifier: PreTrainedModel) -> PreTrainedModel:
    """A classifier whose layers run on packed rows, in place; what it computes elsewhere stays the same."""
    classifier.config._attn_implementation = family_of(classifier.config).implementation
    return classifier


# ---- The class whose value is explained

PREDICTED, GOLD, CONTRAST = "predicted", "gold", "contrast"
Target = str | int


def target_weights(
    target: Target | Tensor, logits: Tensor, *, labels: Tensor | None = None, id2label: Mapping[int, str] | None = None
) -> Tensor:
    """The weights (B, C) of the logits in the explained value: value_b = sum over c of weight_bc * logit_bc.

    A class has weight 1; in a contrast the strongest other class of the same row has weight -1: "which tokens speak
    for this class rather than for that one". Both are the classes of these logits, (B, C), of the unchanged input.

    `target` is "predicted", "gold" (from `labels`, (B,)), the name of a class in any case, its index, or a contrast:
    "contrast" (of the predicted class), "contrast:gold", "contrast:NAME", "contrast:INDEX"; a tensor (B,) of class
    indices is taken as it is. ArgumentError for another class, or "gold" without labels.
    """
    logits = logits.detach()
    name, contrast = _parts(target) if isinstance(target, str) else (target, False)
    if isinstance(name, Tensor) or name == GOLD:
        if (given := name if isinstance(name, Tensor) else labels) is None:
            raise ArgumentError(f"target: {target!r} needs the gold labels, and the batch has none")
        if not 0 <= int(given.min()) <= int(given.max()) < logits.shape[-1]:
            argument, found = "labels" if given is labels else "target", sorted(set(given.tolist()))
            raise ArgumentError(f"{argument}: labels must be among the model's {logits.shape[-1]}, got {found}")
        classes = given.to(logits.device)
    elif name == PREDICTED:
        classes = logits.argmax(-1)
    else:
        index = class_index(name, id2label or {}, logits.shape[-1])
        classes = torch.full((len(logits),), index, device=logits.device)
    weights = torch.zeros_like(logits).scatter_(-1, classes[:, None], 1.0)
    if contrast:
        others = logits.scatter(-1, classes[:, None], -torch.inf).argmax(-1)
        weights.scatter_(-1, others[:, None], -1.0)
    return weights


def needs_labels(target: object) -> bool:
    """Whether a target is about the gold class.

    >>> needs_labels("contrast:gold"), needs_labels("contrast: gold"), needs_labels("predicted")
    (True, True, False)
    """
    return isinstance(target, str) and _parts(target)[0] == GOLD


def _parts(target: str) -> tuple[str, bool]:
    """The class that a target is about, and whether it is a contrast of it."""
    kind, _, name = target.partition(":")
    return (name.strip() or PREDICTED, True) if kind.strip() == CONTRAST else (target, False)


def class_index(name: Target, id2label: Mapping[int, str], n_classes: int) -> int:
    """The index of a class by its name, in any case, or by its index. ArgumentError for any other name, for a name that
    two classes share, and for a number that may be an index and the name of another class; as text it is the name.

    >>> class_index("neg", {0: "NEG", 1: "POS"}, 2), class_index("1", {0: "NEG", 1: "POS"}, 2)
    (0, 1)
    """
    names = {int(index): str(label) for index, label in id2label.items() if 0 <= int(index) < n_classes}
    if reason := ambiguous(name, names):
        raise ArgumentError(f"target: {reason}")
    text = str(name).strip()
    exact = [index for index, label in names.items() if label == text]
    found = exact or [index for index, label in names.items() if label.casefold() == text.casefold()]
    if len(found) == 1:
        return found[0]
    numbers = [str(index) for index in range(n_classes)]  # compared as text: Python reads no number of 5000 digits
    if not found and text in numbers:
        return numbers.index(text)
    listed = ", ".join(f"{names.get(index, '?')} ({index})" for index in range(n_classes))
    because = "is the name of several classes" if found else "is no class of this model"
    raise ArgumentError(
        f"target: {name!r} {because}; allowed are {PREDICTED}, {GOLD}, a class - {listed} - "
        f"or {CONTRAST}, {CONTRAST}:{GOLD}, {CONTRAST}:CLASS"
    )
