"""What AdapLeR needs to know of each backbone family: where its embeddings, its layers and its head are.

A backbone is a plain `...ForSequenceClassification` of transformers. None of its code is copied or changed.

Dimensions: B batch, N padded length, n tokens that enter a layer, D hidden size, C labels.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones.family import Family
from adapler.backbones.packing import Segments
from adapler.backbones.pieces import computes_in_pieces, in_pieces, narrowed, states_dtype
from adapler.backbones.positional import modernbert, mpnet
from adapler.backbones.received import Reads, Received
from adapler.errors import ArgumentError

SINGLE_LABEL = "single_label_classification"  # transformers' name of the one problem type that AdapLeR solves


def _bert_head(classifier: Any, cls: Tensor) -> Tensor:
    pooler = classifier.get_submodule(f"{classifier.base_model_prefix}.pooler")
    return classifier.classifier(classifier.dropout(pooler(cls[:, None])))  # type: ignore[no-any-return]


def _dense_head(classifier: Any, cls: Tensor) -> Tensor:
    return classifier.classifier(cls[:, None])  # type: ignore[no-any-return]


def _distilbert_head(classifier: Any, cls: Tensor) -> Tensor:
    hidden = torch.relu(classifier.pre_classifier(cls))
    return classifier.classifier(classifier.dropout(hidden))  # type: ignore[no-any-return]


def _distilbert_attention_output(layer: Any, context: Tensor, states: Tensor) -> Tensor:
    return layer.sa_layer_norm(layer.attention.out_lin(context) + states)  # type: ignore[no-any-return]


def _distilbert_feed_forward(layer: Any, states: Tensor) -> Tensor:
    return layer.output_layer_norm(layer.ffn(narrowed(states, layer.ffn.lin1)) + states)  # type: ignore[no-any-return]


_BERT = Family("bert", "encoder.layer", _bert_head, "bert.pooler.dense")
_ROBERTA = Family("roberta", "encoder.layer", _dense_head, "classifier.dense", positions_after_padding=True)

FAMILIES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "electra": Family("electra", "encoder.layer", _dense_head, "classifier.dense"),
    "distilbert": Family(
        "distilbert",
        "transformer.layer",
        _distilbert_head,
        "pre_classifier",
        attention_dropout="attention_dropout",
        inner_size="hidden_dim",
        activation="activation",
        projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        attention_output=_distilbert_attention_output,
        feed_forward=_distilbert_feed_forward,
    ),
    "ernie": replace(_BERT, base="ernie", pooler="ernie.pooler.dense"),
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "mpnet": mpnet.MPNet(
        "mpnet",
        "encoder.layer",
        _dense_head,
        "classifier.dense",
        positions_after_padding=True,
        implementation="eager",
        projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        attention_output=mpnet.attention_output,
    ),
    "modernbert": modernbert.ModernBert(
        "model",
        "layers",
        modernbert.head,
        "head.dense",
        attention_dropout="attention_dropout",
        activation="hidden_activation",
        position_embeddings=False,
        gated=True,
        feed_forward=modernbert.feed_forward,
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
    for name in (*sizes, family_of(config).inner_size):
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
    family_of(config).check(config)
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
        ArgumentError: `problem_type` is another one, there are fewer than two labels, or see `label_names`.
    """
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
    """The names of the labels, by their numbers.

    Args:
        config: of a classifier, plain or AdapLeR.

    Raises:
        ArgumentError: `id2label` does not name the labels from 0 on, each by a name of its own.
    """
    names = {int(number): str(name) for number, name in config.id2label.items()}
    count = getattr(config, "backbone_config", config).num_labels
    if sorted(names) != list(range(count)):
        listed = ", ".join(map(str, sorted(names)))
        raise ArgumentError(f"id2label: has names for the labels {listed}; the classifier's are 0 to {count - 1}")
    first: dict[str, int] = {}
    for number, name in sorted(names.items()):
        if first.setdefault(name, number) != number:
            raise ArgumentError(f"id2label: labels {first[name]} and {number} are both called {name!r}")
    return [names[number] for number in range(count)]


def first_position(config: Any) -> int:
    """The position of an input's first token: 0, or padding_idx + 1 for RoBERTa."""
    return int(config.pad_token_id) + 1 if family_of(config).positions_after_padding else 0


def max_positions(config: Any) -> int:
    """The longest input, special tokens included, that a backbone's configuration has positions for."""
    return int(config.max_position_embeddings) - first_position(config)


def ready(classifier: PreTrainedModel) -> PreTrainedModel:
    """A classifier whose layers run on packed rows, in place; what it computes elsewhere stays the same.

    `chunk_size_feed_forward`, which saves memory and changes no number, is off: it needs a number of tokens that is a
    multiple of the chunk, which removal does not leave.
    """
    classifier.config._attn_implementation = family_of(classifier.config).implementation
    classifier.config.chunk_size_feed_forward = 0
    for module in classifier.modules():
        if hasattr(module, "chunk_size_feed_forward"):
            module.chunk_size_feed_forward = 0
    return classifier


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


def head(classifier: PreTrainedModel, cls: Tensor) -> Tensor:
    """Logits (B, C) from [CLS]'s last hidden states (B, D), through the backbone's own head, in the head's format."""
    dtype = getattr(pooler_of(classifier).weight, "dtype", cls.dtype)  # int8 layers have a method of that name
    return family_of(classifier.config).head(classifier, cls.to(dtype))


def position_ids(classifier: PreTrainedModel, attention_mask: Tensor) -> Tensor:
    """(B, N) positions of a padded batch, counted in each row from its first real token.

    With padding on the right these are the positions that the backbone itself uses. With padding on the left
    transformers counts BERT's, ELECTRA's and DistilBERT's positions from the left edge, padding included, so its
    logits depend on the amount of padding. Here they do not: both sides give the same numbers. And a padding token that
    is part of a text ("<pad>", written out) is counted as any other: transformers' RoBERTa and MPNet leave it out.
    """
    columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    start = attention_mask.bool().int().argmax(-1, keepdim=True)  # (B, 1) column of [CLS]
    positions = columns - start + first_position(classifier.config)  # (B, N)
    return torch.where(attention_mask.bool(), positions, 0)


def train_packed(classifier: PreTrainedModel) -> None:
    """Make a classifier ready to be fine-tuned by `plain_pass`; see Family.hold_pairwise."""
    family_of(classifier.config).hold_pairwise(encoder_of(ready(classifier)))


def run_layer(
    classifier: PreTrainedModel, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any
) -> Tensor:
    """One layer of a classifier's encoder; see Family.layer."""
    family = family_of(classifier.config)
    return family.layer(encoder_of(classifier), index, hidden, positions=positions, **attention)


def run_attention_half(
    classifier: PreTrainedModel, index: int, hidden: Tensor, *, positions: Tensor, segments: Segments, reads: Reads
) -> tuple[Tensor, Received]:
    """(1, T, D) -> (1, T, D), a layer up to its feed-forward network, and what each token received, if it is read.

    Raises:
        ArgumentError: a family whose layers cannot be taken apart here.
    """
    family = family_of(classifier.config)
    encoder = encoder_of(classifier)
    return family.attention_half(encoder, index, hidden, positions=positions, segments=segments, reads=reads)


def run_feed_forward_half(classifier: PreTrainedModel, index: int, states: Tensor) -> Tensor:
    """The rest of a layer after `run_attention_half`: (1, n, D) -> (1, n, D)."""
    return family_of(classifier.config).feed_forward_half(encoder_of(classifier), index, states)


def run_last_layer(
    classifier: PreTrainedModel,
    hidden: Tensor,
    *,
    positions: Tensor,
    segments: Segments,
    key_bias: Tensor | None = None,
) -> Tensor:
    """(1, T, D) -> (1, B, D), the last layer and what the head reads of each sequence; see Family.last_layer."""
    family = family_of(classifier.config)
    return family.last_layer(encoder_of(classifier), hidden, positions=positions, segments=segments, key_bias=key_bias)


def embed(
    classifier: PreTrainedModel, input_ids: Tensor, *, positions: Tensor, token_type_ids: Tensor | None
) -> Tensor:
    """h^0: (B, N) ids -> (B, N, D), the input of the first layer, in the format of its states."""
    encoder, dtype = encoder_of(classifier), states_dtype(layers_of(classifier)[0])
    arguments = {"input_ids": input_ids}
    if family_of(classifier.config).position_embeddings:
        arguments["position_ids"] = positions
    if hasattr(encoder.embeddings, "token_type_embeddings"):
        arguments["token_type_ids"] = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids

    def rows(*parts: Tensor) -> tuple[Tensor]:
        hidden = encoder.embeddings(**dict(zip(arguments, parts, strict=True)))
        project = getattr(encoder, "embeddings_project", None)  # ELECTRA, when its embeddings are narrower
        return (cast(Tensor, hidden if project is None else project(hidden)).to(dtype),)

    if len(input_ids) == 1 and computes_in_pieces(input_ids):
        return in_pieces(rows, *arguments.values())[0]
    return rows(*arguments.values())[0]
