"""Finding and loading model folders and hub models, with errors a user can act on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from adapler.backbones import families
from adapler.errors import ArgumentError, CheckpointError

logger = logging.getLogger(__name__)

# What transformers and safetensors raise for files that are missing, cut short or not what they are called;
# KeyError and TypeError for an index of shards without its fields.
LOADING_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError)


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong while weights were read."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"the weights cannot be read ({type(error).__name__}: {line})"


def is_local(name_or_path: str | Path) -> bool:
    """Whether a model name means a local folder.

    A name like `checkpoints/x` has the form of a hub name too. It means the folder when that, or its first
    part, is there; so a mistyped folder never turns into a request to the network.

    Raises:
        CheckpointError: it can only mean a folder, and there is none.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return True
    if path.exists():
        raise CheckpointError(f"{name_or_path}: is a file, not a model folder")
    parts = str(name_or_path).split("/")
    only_local = isinstance(name_or_path, Path) or len(parts) > 2 or parts[0] in ("", ".", "..", "~")
    if only_local or Path(parts[0]).is_dir():
        raise CheckpointError(f"{name_or_path}: no such model folder")
    return False


def read_config(name_or_path: str | Path) -> Any:
    """The transformers configuration of a folder or hub model.

    Raises:
        CheckpointError: missing, unreadable, or of a type unknown to transformers.
    """
    local = is_local(name_or_path)
    if local and not (Path(name_or_path) / "config.json").is_file():
        raise CheckpointError(f"{name_or_path}: no config.json in this folder, so it is not a model")
    try:
        return AutoConfig.from_pretrained(name_or_path, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, ArgumentError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name_or_path}: cannot read its config.json: {reason}") from error


def is_fine_tuned(config: Any) -> bool:
    """Whether a configuration is that of a classifier whose head was trained, and not of an encoder."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


def check_whole(model: PreTrainedModel, info: dict[str, Any], *, name_or_path: str | Path, resized: bool) -> None:
    """Refuse weights that are not exactly those of the model that config.json describes.

    transformers gives new random weights to what a checkpoint lacks, and a warning; a model that drops tokens at
    random is not what anybody asked for.

    Args:
        model: as loaded.
        info: what transformers' `output_loading_info` returns.
        name_or_path: for the message.
        resized: whether the caller asked for `ignore_mismatched_sizes`.

    Raises:
        CheckpointError: names the first tensor (in the model's order) that is missing, has another shape, or
            has no place in the model, and how many more there are.
    """
    order = list(model.state_dict())
    missing = [name for name in order if name in info["missing_keys"]] or sorted(info["missing_keys"])
    shapes = {name: (tuple(stored), tuple(wanted)) for name, stored, wanted in info["mismatched_keys"]}
    if missing:
        raise CheckpointError(
            f"{name_or_path}: no weights for {missing[0]!r}{_more(missing)}; the checkpoint is incomplete, "
            "or its config.json is another model's"
        )
    if shapes and not resized:
        wrong = [name for name in order if name in shapes] or sorted(shapes)
        stored, wanted = shapes[wrong[0]]
        raise CheckpointError(
            f"{name_or_path}: {wrong[0]!r} has shape {stored}, the model of its config.json has {wanted}{_more(wrong)}"
        )
    if info["unexpected_keys"]:
        strange = sorted(info["unexpected_keys"])
        raise CheckpointError(
            f"{name_or_path}: weights {strange[0]!r}{_more(strange)} have no place in the model of its config.json"
        )


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def load_classifier(
    name_or_path: str | Path, *, num_labels: int | None = None, labels: list[str] | None = None
) -> PreTrainedModel:
    """A plain transformers classifier in float32, attention dropout off, ready to be AdapLeR's backbone.

    Args:
        name_or_path: an encoder (gets a new head) or a fine-tuned classifier (keeps its own).
        num_labels, labels: the task's labels, by number or by name; default: the checkpoint's own.

    Raises:
        CheckpointError: nothing loadable there.
        ArgumentError: unsupported backbone, or a fine-tuned head with another number of labels.
    """
    if labels is not None and num_labels is not None and len(labels) != num_labels:
        raise ArgumentError(f"num_labels: {num_labels} is not the number of labels, {len(labels)}")
    config = read_config(name_or_path)
    if config.model_type == "adapler":
        raise CheckpointError(f"{name_or_path}: already is an AdapLeR model; load it with from_pretrained")
    family = families.family_of(config)
    wanted = num_labels if labels is None else len(labels)
    if wanted is not None and wanted < 2:
        raise ArgumentError(f"num_labels: {wanted} is not at least 2")
    if is_fine_tuned(config) and wanted is not None and config.num_labels != wanted:
        raise ArgumentError(
            f"num_labels: {wanted} asked for, but the classifier in {name_or_path} has {config.num_labels}"
        )
    if labels is not None:
        config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    elif wanted is not None and config.num_labels != wanted:
        config.num_labels = wanted
    setattr(config, family.attention_dropout, 0.0)
    try:
        classifier: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            name_or_path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=is_local(name_or_path),
        )
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{name_or_path}: {reason_of(error)}") from error
    return classifier


@torch.no_grad()
def reinitialise_head(classifier: PreTrainedModel, *, mode: str = "auto") -> bool:
    """Give a classifier a new pooler and classifier when the pooler was never trained.

    Encoders trained with mean pooling (sentence-transformers) carry a pooler that no loss ever reached; its
    weights are tiny, [CLS] says nothing through it, and fine-tuning on long inputs does not start. "auto"
    recognises it by a standard deviation below half the 1/sqrt(D) that a dense layer needs to pass its input on;
    BERT's own, trained with next-sentence prediction, lies above it.

    Args:
        classifier: changed in place; uses torch's global random generator.
        mode: "auto", "yes" or "no".

    Returns:
        Whether it was re-initialised.
    """
    if mode not in ("auto", "yes", "no"):
        raise ArgumentError(f"reinit-head: {mode!r} is not one of 'auto', 'yes', 'no'")
    pooler = families.pooler_of(classifier)
    healthy = pooler.in_features**-0.5
    spread = float(pooler.weight.std())
    if mode == "no" or (mode == "auto" and spread >= healthy / 2):
        return False
    last = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    for layer in {pooler, last}:
        layer.weight.normal_(std=healthy)
        layer.bias.zero_()
    logger.warning(
        "pooler and classifier re-initialised (std %.3f): the pooler's weights have std %.4f, as of one never trained",
        healthy,
        spread,
    )
    return True
