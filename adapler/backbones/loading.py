"""Checkpoints of a folder or the hub: loaded whole, or refused with one line that says what is wrong with them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from adapler.backbones.families import check_config, check_task, family_of, view
from adapler.errors import ArgumentError, CheckpointError

logger = logging.getLogger(__name__)

# Raised by transformers, torch and safetensors for damaged files, and for configurations whose values do not fit.
LOADING_ERRORS = (
    *(OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError),
    SafetensorError,
)


class HubArguments(TypedDict, total=False):
    """Arguments of transformers' `from_pretrained` that locate a model on the hub."""

    subfolder: str
    revision: str
    token: str | bool | None
    cache_dir: str | Path | None
    local_files_only: bool


def is_local(name_or_path: str | Path) -> bool:
    """Whether a model name means a local folder; CheckpointError if it can only mean one, and there is none.

    A name like `checkpoints/x` has the form of a hub name too. It means the folder when that, or its first part, is
    there; so a mistyped folder never turns into a request to the network.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise ArgumentError(f"model: got a {type(name_or_path).__name__}, must be a folder or a hub name")
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


def located(name_or_path: str | Path, hub: HubArguments) -> HubArguments:
    """Arguments of transformers' `from_pretrained` for a model: no request to the hub for a folder's. CheckpointError
    for no such folder, or no config.json in it."""
    if not is_local(name_or_path):
        return hub
    folder = Path(name_or_path) / (hub.get("subfolder") or "")
    if not (folder / "config.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        models = f"; there are models in it: {', '.join(inside)}" if inside else ""
        raise CheckpointError(f"{folder}: no config.json in this folder, so it is not a model{models}")
    return {**hub, "local_files_only": True}


def read_config(name_or_path: str | Path, **hub: Unpack[HubArguments]) -> Any:
    """The transformers configuration of a folder or hub model; CheckpointError if it is missing, unreadable, or of a
    type unknown to transformers."""
    hub = located(name_or_path, hub)
    try:
        fields, _ = PretrainedConfig.get_config_dict(name_or_path, **hub)
        model_type = fields.get("model_type")
        if model_type not in CONFIG_MAPPING:
            raise ArgumentError(f"model_type: {model_type!r} is not known to transformers")
        return CONFIG_MAPPING[model_type].from_dict(fields, name_or_path=str(name_or_path))
    except Exception as error:  # damaged files make transformers raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{name_or_path}: cannot read its config.json: {reason}") from error


def is_fine_tuned(config: Any) -> bool:
    """Whether a configuration is that of a classifier whose head was trained, and not of an encoder."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


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

    Raises:
        CheckpointError: nothing loadable there, weights that are missing or not finite, or a head that does not
            choose one of several labels.
        ArgumentError: unsupported backbone, or a fine-tuned head with another number of labels, or with the same labels
            in another order.
    """
    if labels is not None and len(set(labels)) < len(labels):
        raise ArgumentError(f"labels: {labels!r} is not a list of different names")
    wanted = num_labels if labels is None else len(labels)
    if wanted is not None and not (wanted >= 2 and num_labels in (None, wanted)):
        raise ArgumentError(f"num_labels: {num_labels!r} with labels {labels!r} is not a number of at least 2 labels")
    config = read_config(name_or_path, **hub)
    if config.model_type == "adapler":
        raise CheckpointError(f"{name_or_path}: already is an AdapLeR model; a plain encoder or classifier is needed")
    family, fine_tuned = family_of(config), is_fine_tuned(config)
    if fine_tuned and wanted is not None:
        own = [str(name) for _, name in sorted(config.id2label.items())]
        if len(own) != wanted:
            raise ArgumentError(f"num_labels: {wanted}, but the classifier in {name_or_path} has {len(own)} labels")
        given, had = ([name.lower() for name in names] for names in (labels or own, own))
        if given != had and sorted(given) == sorted(had):
            raise ArgumentError(f"labels: the classifier in {name_or_path} has them in another order, {', '.join(own)}")
    if labels is not None:
        config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    elif wanted is not None and config.num_labels != wanted:
        config.num_labels = wanted
    setattr(config, family.attention_dropout, 0.0)
    load, checks = AutoModelForSequenceClassification.from_pretrained, (check_config, check_task)
    classifier, info = _load(load, name_or_path, hub=hub, checks=checks, config=config)
    # An encoder's head is new, and so may be the pooler that some encoders are saved without.
    head = (family.pooler_path, *(name for name, _ in classifier.named_children() if name != family.base))
    check_weights(classifier, info, name_or_path=name_or_path, new=() if fine_tuned else head)
    return classifier


def load_any_classifier(name_or_path: str | Path, **hub: Unpack[HubArguments]) -> PreTrainedModel:
    """A fine-tuned classifier of any architecture that transformers has, in float32 and evaluation mode.

    AdapLeR cannot be built on every one of them; scores can be computed for every one. Raises CheckpointError as
    `load_classifier`, and for an encoder without a trained head.
    """
    config = read_config(name_or_path, **hub)
    if not is_fine_tuned(config):
        found = ", ".join(config.architectures or []) or config.model_type
        raise CheckpointError(
            f"{name_or_path}: holds no fine-tuned classifier (found {found}, need a ...ForSequenceClassification)"
        )
    load = AutoModelForSequenceClassification.from_pretrained
    classifier, info = _load(load, name_or_path, hub=hub, checks=(check_task,), config=config)
    check_weights(classifier, info, name_or_path=name_or_path)
    return classifier.eval()


def load_adapler(from_pretrained: Callable[..., Any], name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
    """transformers' `from_pretrained` of AdapLeR's class, in float32 by default, with all weights checked; see
    AdapLeRForSequenceClassification.from_pretrained."""
    hub: Any = {name: kwargs.pop(name) for name in HubArguments.__annotations__ if name in kwargs}
    if "config" not in kwargs:
        config = read_config(name_or_path, **hub)
        if config.model_type != "adapler":
            raise CheckpointError(
                f"{name_or_path}: holds a {config.model_type!r} model, not 'adapler'; "
                "`adapler run --classifier` trains one on it "
                "(AdapLeRForSequenceClassification.from_backbone builds it, untrained)"
            )
    if "torch_dtype" in kwargs:  # its name before transformers 5, which still takes it
        kwargs.setdefault("dtype", kwargs.pop("torch_dtype"))
    informed, resized = kwargs.pop("output_loading_info", False), kwargs.pop("ignore_mismatched_sizes", False)
    model, info = _load(from_pretrained, name_or_path, *args, hub=hub, **kwargs)
    check_weights(model, info, name_or_path=name_or_path, resized=resized, whole=True)
    return (model, info) if informed else model


def _load(
    from_pretrained: Callable[..., Any],
    name_or_path: Any,
    *args: Any,
    hub: HubArguments,
    checks: Sequence[Callable[[Any], None]] = (),
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """A model, in float32 by default, and transformers' loading info; CheckpointError for what cannot be loaded."""
    options = {"dtype": torch.float32, "use_safetensors": True, **located(name_or_path, hub), **options}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # which check_weights refuses
    try:
        for check in checks:
            check(options["config"])
        model, info = from_pretrained(name_or_path, *args, **options)
    except LOADING_ERRORS as error:
        line = (str(error).strip().splitlines() or [""])[0]
        unreadable = f"the weights cannot be read ({type(error).__name__}: {line})"
        reason = f"its config.json: {line}" if isinstance(error, ArgumentError) else unreadable
        raise CheckpointError(f"{name_or_path}: {reason}") from error
    return model, info


def check_weights(
    model: PreTrainedModel,
    info: dict[str, Any],
    *,
    name_or_path: str | Path,
    resized: bool = False,
    new: tuple[str, ...] = (),
    whole: bool = False,
) -> None:
    """Refuse weights that lack something, have another shape, or are not numbers.

    transformers gives new random weights to what a checkpoint lacks, and a warning only. Such a model would drop
    tokens at random.

    Args:
        info: transformers' `output_loading_info`.
        resized: whether the caller set `ignore_mismatched_sizes`.
        new: beginnings of the names that may be missing, because they are new in this model.
        whole: refuse weights that the model has no place for; hub checkpoints of classifiers carry the remains of
            other heads.
    """
    lost = sorted(name for name in info["missing_keys"] if not new or not name.startswith(new))
    shapes = [] if resized else [f"{name!r} {tuple(had)}" for name, had, _ in sorted(info["mismatched_keys"])]
    strange = sorted(info["unexpected_keys"]) if whole else []
    infinite = [name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all())]
    for names, problem in (
        (lost, "has no weights for"),
        (shapes, "has, in another shape than the model of its config.json,"),
        (strange, "has weights that have no place in the model of its config.json:"),
        (infinite, "has NaN or infinity in the weights"),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{name_or_path}: the checkpoint {problem} {names[0]}{more}")


@torch.no_grad()
def reinitialise_head(
    classifier: PreTrainedModel, *, mode: Literal["auto", "yes", "no"] = "auto", fine_tuned: bool | None = None
) -> bool:
    """Give a classifier a new pooler and classifier when its pooler was never trained.

    Encoders trained with mean pooling (sentence-transformers) carry a pooler with tiny weights that no loss ever
    reached, so that fine-tuning on long inputs does not start. "auto" recognises it by a standard deviation below half
    of 1/sqrt(D), which a dense layer needs to keep the size of its input; it never touches a fine-tuned classifier's.

    The classifier is changed in place, with torch's global random generator. `fine_tuned`: whether the head was
    trained; default: by the configuration. Returns whether it was re-initialised.
    """
    pooler = view(classifier).pooler
    healthy = pooler.in_features**-0.5
    spread = float(pooler.weight.std())
    trained = is_fine_tuned(classifier.config) if fine_tuned is None else fine_tuned
    if mode == "no" or (mode != "yes" and (trained or spread >= healthy / 2)):
        return False
    last = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    for layer in dict.fromkeys((pooler, last)):  # in a fixed order: each draws from the seeded generator
        layer.weight.normal_(std=healthy)
        if layer.bias is not None:  # ModernBERT's pooler has none
            layer.bias.zero_()
    said = "pooler and classifier re-initialised (std %.3f): the pooler's weights have std %.4f, as if never trained"
    logger.warning(said, healthy, spread)
    return True
