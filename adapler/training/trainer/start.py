"""What AdapLeR's training starts from: a pre-trained encoder, a fine-tuned classifier, or an AdapLeR model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from adapler.backbones.checkpoints import is_fine_tuned, read_config, reinitialise_head
from adapler.data.tasks import Task
from adapler.errors import ArgumentError
from adapler.model.configuration import AdapLeRConfig
from adapler.model.modeling import AdapLeRForSequenceClassification
from adapler.policies import ContributionPolicy
from adapler.training.settings import Objectives


def kind_of(model: str | Path) -> str:
    """What training starts from: "adapler", a fine-tuned "classifier" or a pre-trained "encoder"."""
    config = read_config(model)
    if config.model_type == AdapLeRConfig.model_type:
        return "adapler"
    return "classifier" if is_fine_tuned(config) else "encoder"


def with_predictors_of(model: str | Path, objectives: Objectives) -> Objectives:
    """With the kind and the width of a model's own predictors and its first layer that drops, where no others are asked
    for: the record names them."""
    own = read_config(model)
    wanted = {name: getattr(objectives, name) for name in ("predictor", "contribution_hidden_size")}
    asked = {name: value for name, value in wanted.items() if value != getattr(Objectives, name)}
    options = {} if own.policy != ContributionPolicy.name or objectives.first_layer else (own.policy_options or {})
    return replace(objectives, **{name: getattr(own, name) for name in wanted} | asked | options)


def _options_of(objectives: Objectives) -> dict[str, Any] | None:
    """`config.policy_options`: none where every layer drops, as in models that were made before there was a choice."""
    return {"first_layer": objectives.first_layer} if objectives.first_layer else None


def check_first_layer(objectives: Objectives, model: str | Path) -> None:
    """Raises ArgumentError when the model has not so many layers."""
    layers = read_config(model).num_hidden_layers
    if not objectives.first_layer < layers:
        raise ArgumentError(f"--first-layer: {objectives.first_layer} is not below the {layers} layers of {model}")


def start_model(
    model: str | Path, task: Task, *, objectives: Objectives, initial_head: str
) -> AdapLeRForSequenceClassification:
    """The model before its first step.

    An AdapLeR model goes on with its backbone, predictors, eta and theta. On anything else, predictors and thresholds
    are new.

    Raises:
        ArgumentError: an AdapLeR model with another number of labels, with predictors of another kind or width, or
            with another removal policy.
    """
    kind, width = kind_of(model), objectives.contribution_hidden_size
    if kind != "adapler":
        made = AdapLeRForSequenceClassification.from_backbone(
            model,
            labels=list(task.labels),
            predictor=objectives.predictor,
            contribution_hidden_size=width,
            policy_options=_options_of(objectives),
        )
        if kind == "encoder":
            reinitialise_head(made.backbone, mode=initial_head, fine_tuned=False)
        return made
    trained: AdapLeRForSequenceClassification = AdapLeRForSequenceClassification.from_pretrained(model)
    if trained.config.policy != ContributionPolicy.name:
        raise ArgumentError(f"--model: {model} has the removal policy {trained.config.policy!r}, not AdapLeR's")
    labels, own = trained.config.num_labels, trained.config.contribution_hidden_size
    if labels != len(task.labels):
        raise ArgumentError(f"--task: {task.name} has {len(task.labels)} labels, the model in {model} {labels}")
    if width not in (own, Objectives.contribution_hidden_size):
        raise ArgumentError(f"--contribution-hidden-size: {width}, but the predictors of {model} have {own}")
    if objectives.predictor not in (trained.config.predictor, Objectives.predictor):
        raise ArgumentError(f"--predictor: {objectives.predictor}, but those of {model} are {trained.config.predictor}")
    trained.config.policy_options = _options_of(objectives)
    return trained
