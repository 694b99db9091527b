"""Plain transformers classifiers as AdapLeR's backbones: loaded whole, or refused with one line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from adapler.backbones import families
from adapler.backbones.sources import HubArguments, config_of, find_model, is_local, read_config
from adapler.backbones.weights import LOADING_ERRORS, check_loaded, reason_of
from adapler.errors import ArgumentError, CheckpointError, is_number

__all__ = [
    "is_fine_tuned",
    "is_local",
    "load_any_classifier",
    "load_classifier",
    "read_config",
    "reinitialise_head",
]

logger = logging.getLogger(__name__)


def is_fine_tuned(config: Any) -> bool:
    """Whether a configuration is that of a classifier whose head was trained, and not of an encoder."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


def _check_names(labels: Any) -> None:
    """Raises ArgumentError for what are no label names: those that a reader of a prediction can tell apart."""
    if isinstance(labels, str) or not isinstance(labels, Sequence) or not all(isinstance(x, str) for x in labels):
        raise ArgumentError(f"labels: {labels!r} is not a list of names")
    twice = next((label for number, label in enumerate(labels) if label in labels[:number]), None)
    if twice is not None:
        raise ArgumentError(f"labels: {twice!r} stands there twice")


def _check_labels(labels: Sequence[str], config: Any, name_or_path: str | Path) -> None:
    """Raises ArgumentError where a trained head has another number of labels, or these under other numbers."""
    own = [str(name) for _, name in sorted(config.id2label.items())]
    lower = [[name.lower() for name in names] for names in (labels, own)]
    found = f"labels: got {', '.join(labels)}, but the classifier in {name_or_path} has"
    if len(own) != len(labels):
        raise ArgumentError(f"{found} {len(own)}, {', '.join(own)}")
    if lower[0] != lower[1] and sorted(lower[0]) == sorted(lower[1]):
        raise ArgumentError(f"{found} them in another order, {', '.join(own)}")


def load_classifier(
    name_or_path: str | Path,
    *,
    num_labels: int | None = None,
    labels: list[str] | None = None,
    **hub: Unpack[HubArguments],
) -> PreTrainedModel:
    """A plain transformers classifier in float32, attention dropout off, ready to be AdapLeR's backbone.

    Args:
        name_or_path: an encoder (gets a new head) or a fine-tuned classifier (keeps its own).
        num_labels, labels: the task's labels, by number or by name; default: the checkpoint's own.
        hub: subfolder, revision, token, cache_dir, local_files_only, as of transformers' `from_pretrained`.

    Raises:
        CheckpointError: nothing loadable there, weights that are missing or not finite, or a head that does not
            choose one of several labels.
        ArgumentError: unsupported backbone, or a fine-tuned head with another number of labels, or with the same labels
            in another order.
    """
    if labels is not None:
        _check_names(labels)
    if num_labels is not None and not is_number(num_labels, whole=True):
        raise ArgumentError(f"num_labels: {num_labels!r} is not a whole number")
    if labels is not None and num_labels is not None and len(labels) != num_labels:
        raise ArgumentError(f"num_labels: {num_labels} is not the number of labels, {len(labels)}")
    wanted = num_labels if labels is None else len(labels)
    if wanted is not None and wanted < 2:
        raise ArgumentError(f"num_labels: {wanted} is not at least 2")
    found = find_model(name_or_path, **hub)
    config = config_of(name_or_path, found)
    if config.model_type == "adapler":
        raise CheckpointError(
            f"{name_or_path}: already is an AdapLeR model, and a plain encoder or classifier is needed"
        )
    family, fine_tuned = families.family_of(config), is_fine_tuned(config)
    if fine_tuned and labels is not None:
        _check_labels(labels, config, name_or_path)
    elif fine_tuned and wanted is not None and config.num_labels != wanted:
        raise ArgumentError(
            f"num_labels: {wanted} asked for, but the classifier in {name_or_path} has {config.num_labels}"
        )
    if labels is not None:
        config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    elif wanted is not None and config.num_labels != wanted:
        config.num_labels = wanted
    try:
        families.check_config(config)
    except ArgumentError as error:
        raise CheckpointError(f"{name_or_path}: its config.json: {error}") from error
    setattr(config, family.attention_dropout, 0.0)
    classifier, info = _read(name_or_path, config, found)
    # An encoder's head is new, and so may be the pooler that some encoders are saved without.
    head = (family.pooler, *(name for name, _ in classifier.named_children() if name != family.base))
    check_loaded(classifier, info, name_or_path=name_or_path, new=() if fine_tuned else head)
    return classifier


def load_any_classifier(name_or_path: str | Path, **hub: Unpack[HubArguments]) -> PreTrainedModel:
    """A fine-tuned classifier of any architecture that transformers has, in float32 and evaluation mode.

    AdapLeR cannot be built on every one of them; scores can be computed for every one.

    Args:
        name_or_path: folder or hub name.
        hub: subfolder, revision, token, cache_dir, local_files_only, as of transformers' `from_pretrained`.

    Raises:
        CheckpointError: nothing loadable there, an encoder without a trained head, a head that does not choose one
            of several labels, or weights that are missing or not finite.
    """
    found = find_model(name_or_path, **hub)
    config = config_of(name_or_path, found)
    if not is_fine_tuned(config):
        architectures = ", ".join(config.architectures or []) or config.model_type
        raise CheckpointError(
            f"{name_or_path}: holds no fine-tuned classifier (found {architectures}, "
            "need a ...ForSequenceClassification)"
        )
    classifier, info = _read(name_or_path, config, found)
    check_loaded(classifier, info, name_or_path=name_or_path)
    return classifier.eval()


def _read(name_or_path: str | Path, config: Any, found: HubArguments) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A classifier in float32, and what transformers says about its loading; CheckpointError for what cannot be."""
    try:
        families.check_task(config)
    except ArgumentError as error:
        raise CheckpointError(f"{name_or_path}: its config.json: {error}") from error
    classifier: PreTrainedModel
    try:
        classifier, info = AutoModelForSequenceClassification.from_pretrained(
            name_or_path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and refused by check_loaded
            **found,
        )
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{name_or_path}: {reason_of(error)}") from error
    return classifier, info


@torch.no_grad()
def reinitialise_head(classifier: PreTrainedModel, *, mode: str = "auto", fine_tuned: bool | None = None) -> bool:
    """Give a classifier a new pooler and classifier when its pooler was never trained.

    Encoders trained with mean pooling (sentence-transformers) carry a pooler that no loss ever reached. Its weights
    are tiny, so hardly anything of [CLS] passes through it, and fine-tuning on long inputs does not start. "auto"
    recognises it by a standard deviation below half of 1/sqrt(D), which a dense layer needs to keep the size of its
    input. The pooler of BERT, trained with next-sentence prediction, lies above it. The head of a fine-tuned
    classifier may lie below it and is trained all the same, so "auto" never touches one.

    Args:
        classifier: changed in place; uses torch's global random generator.
        mode: "auto", "yes" or "no".
        fine_tuned: whether the head was trained; default: what the classifier's configuration says.

    Returns:
        Whether it was re-initialised.
    """
    if mode not in ("auto", "yes", "no"):
        raise ArgumentError(f"reinit-head: {mode!r} is not one of 'auto', 'yes', 'no'")
    pooler = families.pooler_of(classifier)
    healthy = pooler.in_features**-0.5
    spread = float(pooler.weight.std())
    trained = is_fine_tuned(classifier.config) if fine_tuned is None else fine_tuned
    if mode == "no" or (mode == "auto" and (trained or spread >= healthy / 2)):
        return False
    last = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    for layer in dict.fromkeys((pooler, last)):  # in a fixed order: each draws from the seeded generator
        layer.weight.normal_(std=healthy)
        if layer.bias is not None:  # ModernBERT's pooler has none
            layer.bias.zero_()
    logger.warning(
        "pooler and classifier re-initialised (std %.3f): the pooler's weights have std %.4f, as of one never trained",
        healthy,
        spread,
    )
    return True
