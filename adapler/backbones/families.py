"""What AdapLeR needs to know of each backbone family: where its embeddings, its layers and its head are.

A backbone is a plain `...ForSequenceClassification` of transformers. Nothing is copied or patched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

from adapler.errors import ArgumentError


def _bert_head(classifier: Any, cls: Tensor) -> Tensor:
    return classifier.classifier(classifier.dropout(classifier.bert.pooler(cls[:, None])))  # type: ignore[no-any-return]


def _dense_head(classifier: Any, cls: Tensor) -> Tensor:
    return classifier.classifier(cls[:, None])  # type: ignore[no-any-return]


def _distilbert_head(classifier: Any, cls: Tensor) -> Tensor:
    hidden = torch.relu(classifier.pre_classifier(cls))
    return classifier.classifier(classifier.dropout(hidden))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Family:
    """One backbone family.

    Attributes:
        base: name of the encoder inside the classifier.
        layers: attribute path from the encoder to its list of layers.
        head: (classifier, hidden states of [CLS] (B, D)) -> logits (B, C).
        pooler: attribute path of the dense layer between [CLS] and the classifier.
        attention_dropout: name of the configuration's attention dropout.
        feed_forward: name of the configuration's feed-forward width.
        positions: whether positions are counted over real tokens only, from padding_idx + 1 (RoBERTa).
    """

    base: str
    layers: str
    head: Callable[[Any, Tensor], Tensor]
    pooler: str
    attention_dropout: str = "attention_probs_dropout_prob"
    feed_forward: str = "intermediate_size"
    positions: bool = False


FAMILIES = {
    "bert": Family("bert", "encoder.layer", _bert_head, "bert.pooler.dense"),
    "roberta": Family("roberta", "encoder.layer", _dense_head, "classifier.dense", positions=True),
    "electra": Family("electra", "encoder.layer", _dense_head, "classifier.dense"),
    "distilbert": Family(
        "distilbert",
        "transformer.layer",
        _distilbert_head,
        "pre_classifier",
        attention_dropout="attention_dropout",
        feed_forward="hidden_dim",
    ),
}


def family_of(config: Any) -> Family:
    """The family of a backbone's configuration.

    Raises:
        ArgumentError: the model type is not supported, or the layout is one AdapLeR cannot run (a decoder,
            relative positions, chunked feed-forward).
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


def max_positions(config: Any) -> int:
    """The longest input, special tokens included, that a backbone's configuration has positions for."""
    first = config.pad_token_id + 1 if family_of(config).positions else 0
    return int(config.max_position_embeddings) - first


def encoder_of(classifier: PreTrainedModel) -> Any:
    return getattr(classifier, family_of(classifier.config).base)


def layers_of(classifier: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers, in order."""
    return encoder_of(classifier).get_submodule(family_of(classifier.config).layers)  # type: ignore[no-any-return]


def pooler_of(classifier: PreTrainedModel) -> nn.Linear:
    """The dense layer between [CLS]'s last hidden state and the classifier."""
    pooler: nn.Linear = classifier.get_submodule(family_of(classifier.config).pooler)
    return pooler


def head(classifier: PreTrainedModel, cls: Tensor) -> Tensor:
    """Logits (B, C) from [CLS]'s last hidden states (B, D), through the backbone's own kind of head."""
    return family_of(classifier.config).head(classifier, cls)


def position_ids(classifier: PreTrainedModel, attention_mask: Tensor) -> Tensor:
    """(B, N) the positions that the backbone itself gives to a padded batch."""
    if family_of(classifier.config).positions:
        padding: int = encoder_of(classifier).embeddings.padding_idx
        ids: Tensor = RobertaEmbeddings.create_position_ids_from_input_ids(
            torch.where(attention_mask.bool(), padding + 1, padding), padding
        )
        return ids
    return torch.arange(attention_mask.shape[1], device=attention_mask.device).expand_as(attention_mask)


def embed(
    classifier: PreTrainedModel, input_ids: Tensor, *, positions: Tensor, token_type_ids: Tensor | None
) -> Tensor:
    """h^0: (B, N) ids -> (B, N, D), the input of the first layer."""
    encoder = encoder_of(classifier)
    arguments = {"input_ids": input_ids, "position_ids": positions}
    if hasattr(encoder.embeddings, "token_type_embeddings"):
        arguments["token_type_ids"] = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    hidden: Tensor = encoder.embeddings(**arguments)
    project = getattr(encoder, "embeddings_project", None)  # ELECTRA, when its embeddings are narrower
    return hidden if project is None else project(hidden)
