"""What AdapLeR's training starts from: a pre-trained encoder, a fine-tuned classifier, or an AdapLeR model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from adapler.backbones.loading import is_fine_tuned, read_config, reinitialise_head
from adapler.configuration import AdapLeRConfig
from adapler.data import Task
from adapler.errors import ArgumentError
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.policies import ContributionPolicy, options_of
from adapler.training.settings import Objectives, option_name


def kind_of(model: str | Path) -> str:
    """What training starts from: "adapler", a fine-tuned "classifier" or a pre-trained "encoder"."""
    config = read_config(model)
    if config.model_type == AdapLeRConfig.model_type:
        return "adapler"
    return "classifier" if is_fine_tuned(config) else "encoder"


def with_predictors_of(model: str | Path, objectives: Objectives) -> Objectives:
    """With the kind and the width of the predictors and the first layer that drops filled in, where none are asked for:
    an AdapLeR model's own, a new one's otherwise. The record names them."""
    config = read_config(model)
    own = config if config.model_type == AdapLeRConfig.model_type else AdapLeRConfig
    options = own.policy_options if own.policy == ContributionPolicy.name else None
    usual = {
        "predictor": own.predictor,
        "contribution_hidden_size": own.contribution_hidden_size,
        "first_layer": options_of(ContributionPolicy, options).first_layer,
    }
    return replace(objectives, **{name: value for name, value in usual.items() if getattr(objectives, name) is None})


def _options_of(objectives: Objectives) -> dict[str, Any] | None:
    """`config.policy_options`: none where every layer drops, as in models that were made before there was a choice."""
    return {"first_layer": objectives.first_layer} if objectives.first_layer else None


def check_first_layer(objectives: Objectives, model: str | Path) -> None:
    """Raises ArgumentError when the model has not so many layers."""
    layers = read_config(model).num_hidden_layers
    if not (objectives.first_layer or 0) < layers:
        raise ArgumentError(f"--first-layer: {objectives.first_layer} is not below the {layers} layers of {model}")


def start_model(
    model: str | Path, task: Task, *, objectives: Objectives, initial_head: str
) -> AdapLeRForSequenceClassification:
    """The model before its first step.

    An AdapLeR model goes on with its backbone, predictors, eta and theta. On anything else, predictors and thresholds
    are new.

    Args:
        model, task, initial_head: of the training.
        objectives: of `with_predictors_of`.

    Raises:
        ArgumentError: an AdapLeR model with another number of labels, with predictors of another kind or width, or
            with another removal policy.
    """
    kind = kind_of(model)
    predictors: dict[str, Any] = {name: getattr(objectives, name) for name in ("predictor", "contribution_hidden_size")}
    if kind != "adapler":
        made = AdapLeRForSequenceClassification.from_backbone(
            model, labels=list(task.labels), policy_options=_options_of(objectives), **predictors
        )
        if kind == "encoder":
            reinitialise_head(made.backbone, mode=initial_head, fine_tuned=False)
        return made
    trained: AdapLeRForSequenceClassification = AdapLeRForSequenceClassification.from_pretrained(model)
    if trained.config.policy != ContributionPolicy.name:
        raise ArgumentError(f"--model: {model} has the removal policy {trained.config.policy!r}, not AdapLeR's")
    if (labels := trained.config.num_labels) != len(task.labels):
        raise ArgumentError(f"--task: {task.name} has {len(task.labels)} labels, the model in {model} {labels}")
    for name, asked in predictors.items():
        if asked != (own := getattr(trained.config, name)):
            raise ArgumentError(f"{option_name(name)}: {asked}, but {model} has {own}")
    trained.config.policy_options = _options_of(objectives)
    return trained
