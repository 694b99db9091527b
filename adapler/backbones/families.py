"""What AdapLeR needs to know of each backbone family: where its embeddings, its layers and its head are.

A backbone is a plain `...ForSequenceClassification` of transformers. None of its code is copied or changed.

Dimensions: B batch, N padded length, n tokens that enter a layer, D hidden size, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones.attention import cls_attention
from adapler.backbones.packing import Segments
from adapler.errors import ArgumentError

SINGLE_LABEL = "single_label_classification"  # transformers' name of the one problem type that AdapLeR solves


def _bert_head(classifier: Any, cls: Tensor) -> Tensor:
    return classifier.classifier(classifier.dropout(classifier.bert.pooler(cls[:, None])))  # type: ignore[no-any-return]


def _dense_head(classifier: Any, cls: Tensor) -> Tensor:
    return classifier.classifier(cls[:, None])  # type: ignore[no-any-return]


def _distilbert_head(classifier: Any, cls: Tensor) -> Tensor:
    hidden = torch.relu(classifier.pre_classifier(cls))
    return classifier.classifier(classifier.dropout(hidden))  # type: ignore[no-any-return]


def _bert_after_attention(layer: Any, context: Tensor, states: Tensor) -> Tensor:
    return layer.feed_forward_chunk(layer.attention.output(context, states))  # type: ignore[no-any-return]


def _distilbert_after_attention(layer: Any, context: Tensor, states: Tensor) -> Tensor:
    states = layer.sa_layer_norm(layer.attention.out_lin(context) + states)
    return layer.output_layer_norm(layer.ffn(states) + states)  # type: ignore[no-any-return]


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
        feed_forward: name of the configuration's feed-forward width.
        positions_after_padding: whether the first position is padding_idx + 1 (RoBERTa) and not 0.
        projections: attribute paths from a layer to its query, key and value.
        after_attention: (layer, what the heads give, hidden states) -> the layer's output, all (1, n, D).
    """

    base: str
    layers: str
    head: Callable[[Any, Tensor], Tensor]
    pooler: str
    attention_dropout: str = "attention_probs_dropout_prob"
    feed_forward: str = "intermediate_size"
    positions_after_padding: bool = False
    projections: tuple[str, str, str] = ("attention.self.query", "attention.self.key", "attention.self.value")
    after_attention: Callable[[Any, Tensor, Tensor], Tensor] = _bert_after_attention

    def layer(self, encoder: Any, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
        """Run one layer.

        Args:
            encoder: the encoder inside the classifier.
            index: of the layer, from 0.
            hidden: (B, n, D), the tokens that enter the layer; one packed row (1, T, D) in hard removal.
            positions: (B, n) the tokens' positions in the input, before any token was removed. Absolute positions
                were added to the embeddings, so these four families do not use it.
            attention: keyword arguments for `adapler_attention`: `key_bias` or `segments`.

        Returns:
            Shape of hidden.
        """
        output: Tensor = encoder.get_submodule(self.layers)[index](hidden, attention_mask=None, **attention)
        return output

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
        layers = encoder.get_submodule(self.layers)
        layer, first = layers[len(layers) - 1], segments.first
        query, key, value = (layer.get_submodule(path) for path in self.projections)
        if type(self).layer is not Family.layer or not self._is_plain(encoder, layer):
            attention = {"segments": segments} if key_bias is None else {"segments": segments, "key_bias": key_bias}
            return self.layer(encoder, len(layers) - 1, hidden, positions=positions, **attention)[:, first]
        states = hidden.index_select(1, first)  # (1, B, D)
        by_head = (encoder.config.num_attention_heads, -1)
        queries = query(states)[0].unflatten(1, by_head)  # (B, H, E)
        queries = queries * queries.shape[-1] ** -0.5
        folded = torch.einsum("bhe,hed->bhd", queries, key.weight.unflatten(0, by_head))  # (B, H, D)
        mixed = cls_attention(folded, hidden, segments=segments, key_bias=key_bias)  # (B, H, D)
        context = torch.einsum("bhd,hed->bhe", mixed, value.weight.unflatten(0, by_head))  # (B, H, E)
        context = context.flatten(1) + value.bias  # (B, D)
        if key.bias.requires_grad:  # its gradient is 0, and training in several processes waits for every gradient
            context = context + 0 * key.bias
        return self.after_attention(layer, context[None], states)

    def _is_plain(self, encoder: Any, layer: Any) -> bool:
        """Whether a layer is as transformers built it: dense projections, nothing hooked in, no attention dropout."""
        projections = (layer.get_submodule(path) for path in self.projections)
        return (
            all(type(one) is nn.Linear and one.bias is not None for one in projections)
            and not any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())
            and not (layer.training and getattr(encoder.config, self.attention_dropout))
        )


FAMILIES = {
    "bert": Family("bert", "encoder.layer", _bert_head, "bert.pooler.dense"),
    "roberta": Family("roberta", "encoder.layer", _dense_head, "classifier.dense", positions_after_padding=True),
    "electra": Family("electra", "encoder.layer", _dense_head, "classifier.dense"),
    "distilbert": Family(
        "distilbert",
        "transformer.layer",
        _distilbert_head,
        "pre_classifier",
        attention_dropout="attention_dropout",
        feed_forward="hidden_dim",
        projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        after_attention=_distilbert_after_attention,
    ),
}


def family_of(config: Any) -> Family:
    """The family of a backbone's configuration.

    Raises:
        ArgumentError: the model type is not supported, or the layout is one that AdapLeR cannot run (a decoder,
            relative positions).
    """
    model_type = getattr(config, "model_type", None)
    if model_type not in FAMILIES:
        raise ArgumentError(f"backbone: model type {model_type!r} is not supported; supported: {', '.join(FAMILIES)}")
    if getattr(config, "is_decoder", False):
        raise ArgumentError("backbone: is_decoder=True is not supported; AdapLeR needs a bidirectional encoder")
    position_type = getattr(config, "position_embedding_type", "absolute")
    if position_type != "absolute":
        raise ArgumentError(f"backbone: position_embedding_type {position_type!r} is not supported; only 'absolute'")
    return FAMILIES[model_type]


def check_config(config: Any) -> None:
    """Refuse a supported backbone's configuration with a number that no model can have.

    transformers checks the types of the fields and not their values.

    Raises:
        ArgumentError: names the field.
    """
    sizes = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads")
    for name in (*sizes, family_of(config).feed_forward):
        value = getattr(config, name, None)
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name}: {value!r} is not a whole number of at least 1")
    if config.hidden_size % config.num_attention_heads:
        raise ArgumentError(
            f"num_attention_heads: {config.num_attention_heads} does not divide hidden_size, {config.hidden_size}"
        )
    for name, value in config.to_dict().items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ArgumentError(f"{name}: {value} is not a finite number")
        if "dropout" in name and isinstance(value, int | float) and not 0 <= value <= 1:
            raise ArgumentError(f"{name}: {value} is not in [0, 1]")
    padding = config.pad_token_id
    if padding is None and not family_of(config).positions_after_padding:
        return
    if not isinstance(padding, int) or not 0 <= padding < config.vocab_size:
        raise ArgumentError(f"pad_token_id: {padding!r} is not an id of the vocabulary")


def check_task(config: Any) -> None:
    """Refuse classifiers that do not choose exactly one of several labels.

    AdapLeR's loss, its predictions and its evaluation are those of single-label classification. A regression or a
    multi-label head would get the wrong loss and a softmax that says nothing.

    Args:
        config: of a classifier, plain or AdapLeR.

    Raises:
        ArgumentError: `problem_type` is another one, or there are fewer than two labels.
    """
    problem = getattr(config, "problem_type", None)
    if problem not in (None, SINGLE_LABEL):
        raise ArgumentError(f"problem_type: {problem!r} is not supported; only {SINGLE_LABEL!r}")
    if config.num_labels < 2:
        raise ArgumentError(
            f"num_labels: {config.num_labels} is not at least 2; AdapLeR needs a classifier, "
            "a head with one output is a regression"
        )


def first_position(config: Any) -> int:
    """The position of an input's first token: 0, or padding_idx + 1 for RoBERTa."""
    return int(config.pad_token_id) + 1 if family_of(config).positions_after_padding else 0


def max_positions(config: Any) -> int:
    """The longest input, special tokens included, that a backbone's configuration has positions for."""
    return int(config.max_position_embeddings) - first_position(config)


def unchunk(classifier: PreTrainedModel) -> None:
    """Switch off `chunk_size_feed_forward`, which saves memory and changes no number.

    It needs a number of tokens that is a multiple of the chunk, and the tokens that removal leaves are none.
    """
    classifier.config.chunk_size_feed_forward = 0
    for module in classifier.modules():
        if hasattr(module, "chunk_size_feed_forward"):
            module.chunk_size_feed_forward = 0


def encoder_of(classifier: PreTrainedModel) -> Any:
    """The encoder inside a classifier: embeddings and layers, without the head."""
    return getattr(classifier, family_of(classifier.config).base)


def layers_of(classifier: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers, in order."""
    return encoder_of(classifier).get_submodule(family_of(classifier.config).layers)  # type: ignore[no-any-return]


def pooler_of(classifier: PreTrainedModel) -> nn.Linear:
    """The dense layer between [CLS]'s last hidden state and the classifier."""
    pooler: nn.Linear = classifier.get_submodule(family_of(classifier.config).pooler)
    return pooler


def layers_dtype(classifier: PreTrainedModel) -> torch.dtype:
    """The number format of the layers' weights; embeddings and head may have another (see for_inference)."""
    return next(layers_of(classifier).parameters()).dtype


def head(classifier: PreTrainedModel, cls: Tensor) -> Tensor:
    """Logits (B, C) from [CLS]'s last hidden states (B, D), through the backbone's own head, in the head's format."""
    dtype = getattr(pooler_of(classifier).weight, "dtype", cls.dtype)  # int8 layers have a method of that name
    return family_of(classifier.config).head(classifier, cls.to(dtype))


def position_ids(classifier: PreTrainedModel, attention_mask: Tensor) -> Tensor:
    """(B, N) positions of a padded batch, counted in each row from its first real token.

    With padding on the right these are the positions that the backbone itself uses. With padding on the left
    transformers counts BERT's, ELECTRA's and DistilBERT's positions from the left edge, padding included, so its
    logits depend on the amount of padding. Here they do not: both sides give the same numbers.
    """
    columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    start = attention_mask.bool().int().argmax(-1, keepdim=True)  # (B, 1) column of [CLS]
    positions = columns - start + first_position(classifier.config)  # (B, N)
    return torch.where(attention_mask.bool(), positions, 0)


def run_layer(
    classifier: PreTrainedModel, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any
) -> Tensor:
    """One layer of a classifier's encoder; see Family.layer."""
    family = family_of(classifier.config)
    return family.layer(encoder_of(classifier), index, hidden, positions=positions, **attention)


def run_last_layer(
    classifier: PreTrainedModel,
    hidden: Tensor,
    *,
    positions: Tensor,
    segments: Segments,
    key_bias: Tensor | None = None,
) -> Tensor:
    """(1, T, D) -> (1, B, D), the last layer for each sequence's first token; see Family.last_layer."""
    family = family_of(classifier.config)
    return family.last_layer(encoder_of(classifier), hidden, positions=positions, segments=segments, key_bias=key_bias)


def embed(
    classifier: PreTrainedModel, input_ids: Tensor, *, positions: Tensor, token_type_ids: Tensor | None
) -> Tensor:
    """h^0: (B, N) ids -> (B, N, D), the input of the first layer, in the layers' number format."""
    encoder = encoder_of(classifier)
    arguments = {"input_ids": input_ids, "position_ids": positions}
    if hasattr(encoder.embeddings, "token_type_embeddings"):
        arguments["token_type_ids"] = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    hidden: Tensor = encoder.embeddings(**arguments)
    project = getattr(encoder, "embeddings_project", None)  # ELECTRA, when its embeddings are narrower
    hidden = hidden if project is None else project(hidden)
    return hidden.to(layers_dtype(classifier))
