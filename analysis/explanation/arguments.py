"""What `explain` is given, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from adapler.backbones.targets import class_index
from adapler.data import match_labels
from adapler.errors import ArgumentError, ambiguous, is_number
from analysis.scores import ScoringMethod, get_method

Method = str | ScoringMethod | Callable[..., Any]


def check_arguments(*, threshold_scale: Any, seed: Any, max_length: Any, device: Any, name: Any, scores: Any) -> None:
    """ArgumentError for one of these arguments of `explain` that is of another kind, or out of its bounds."""
    if not is_number(threshold_scale) or threshold_scale < 0:
        raise ArgumentError(f"threshold_scale: got {threshold_scale!r}, must be a number of at least 0")
    _check_whole("seed", seed, least=0)
    if max_length is not None:
        _check_whole("max_length", max_length, least=1)
    for what, word in (("device", device), ("name", name)):
        if not isinstance(word, str):
            raise ArgumentError(f"{what}: got {word!r}, must be a text")
    if scores is not None and not isinstance(scores, Mapping):
        raise ArgumentError(f"scores: got a {type(scores).__name__}, must be a dictionary, {{name: scores}}")


def _check_whole(name: str, value: Any, *, least: int) -> None:
    if not is_number(value, whole=True) or value < least:
        raise ArgumentError(f"{name}: got {value!r}, must be a whole number of at least {least}")


def listed_methods(methods: Sequence[Method] | Method | None) -> list[Method] | None:
    """One method, or several, as a list; None stays None."""
    if methods is None:
        return None
    return [methods] if isinstance(methods, str | ScoringMethod) or callable(methods) else list(methods)


def is_own(method: Method) -> bool:
    """Whether a method is not one of this package, so that nobody knows what it does to a model.

    Raises ArgumentError for a name that there is none of.
    """
    home = getattr(get_method(method).function, "__module__", None)  # None of a function in code that was given to exec
    return not str(home).startswith("analysis.")


def check_classifier(model: Any) -> None:
    """ArgumentError for what is no sequence classifier; a class of one's own is taken at its word."""
    classes = [one.__name__ for one in type(model).__mro__]
    own = not type(model).__module__.startswith("transformers.")
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "config"):
        raise ArgumentError(f"model: got a {type(model).__name__}, must be a model, a folder or a hub name")
    if not own and not any(one.endswith("ForSequenceClassification") for one in classes):
        raise ArgumentError(f"model: {type(model).__name__} is no classifier, need a ...ForSequenceClassification")


def gold_index(gold: str | int, labels: Sequence[str]) -> int:
    """The gold class's index; NEG stands for negative, as in an evaluation.

    Raises ArgumentError that names the classes.
    """
    names = dict(enumerate(labels))
    if reason := ambiguous(gold, names):
        raise ArgumentError(f"gold: {reason}")
    try:
        return class_index(gold, names, len(labels))
    except ArgumentError as error:
        if isinstance(gold, str) and (meant := match_labels([gold], labels)):
            return meant[0]
        listed = ", ".join(f"{label} ({index})" for index, label in enumerate(labels)) or "not known without a model"
        raise ArgumentError(f"gold: got {gold!r}, the model's classes are {listed}") from error
