"""Plain transformers classifiers: what AdapLeR is built on.

Each kind of encoder is a file with a `Family`; FAMILIES has them by transformers' model type. `view(classifier)` runs
one. packing and attention work on rows without padding, loading finds and checks checkpoints, decomposition computes
what each token contributes to a logit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones.bert import Bert, Electra, Ernie, Roberta
from adapler.backbones.distilbert import DistilBert
from adapler.backbones.family import Family
from adapler.backbones.modernbert import ModernBert
from adapler.backbones.mpnet import MPNet
from adapler.errors import ArgumentError, is_number

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


def check_config(config: Any) -> None:
    """Raise ArgumentError for a size that no model can have: transformers checks types, not values."""
    family = family_of(config)
    sizes = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads")
    for name in (*sizes, family.inner_size):
        value: Any = getattr(config, name, None)
        if not is_number(value, whole=True) or value < 1:
            raise ArgumentError(f"{name}: {value!r} is not a whole number of at least 1")
    heads, width = config.num_attention_heads, config.hidden_size
    if width % heads:
        raise ArgumentError(f"num_attention_heads: {heads} does not divide hidden_size, {width}")
    family.check(config)


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
    """A classifier whose layers run on packed rows, in place; what it computes elsewhere stays the same.

    `chunk_size_feed_forward`, which changes no number, is off: it needs a multiple of the chunk, which removal does not
    leave.
    """
    classifier.config._attn_implementation = family_of(classifier.config).implementation
    classifier.config.chunk_size_feed_forward = 0
    for module in classifier.modules():
        if hasattr(module, "chunk_size_feed_forward"):
            module.chunk_size_feed_forward = 0
    return classifier


def train_packed(classifier: PreTrainedModel) -> None:
    """Make a classifier ready to be fine-tuned by `plain_pass`; see Family.hold_pairwise."""
    view(ready(classifier)).hold_pairwise()
