"""Weights as they were loaded: complete, of the right shapes, and numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

from adapler.errors import CheckpointError

# What transformers, torch and safetensors raise for files that are missing, cut short or not what they are called,
# and for configurations whose values do not fit each other.
LOADING_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    SafetensorError,
)


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong while weights were read."""
    line = (str(error).strip().splitlines() or [""])[0]
    # safetensors says of a file without permission to read it that it is not there.
    named = line.partition("No such file or directory: ")[2]
    if isinstance(error, FileNotFoundError) and named and os.path.exists(named):
        return f"the weights cannot be read (no permission to read {named})"
    return f"the weights cannot be read ({type(error).__name__}: {line})"


def check_whole(model: PreTrainedModel, info: dict[str, Any], *, name_or_path: str | Path, resized: bool) -> None:
    """Refuse weights that are not exactly those of the model that config.json describes.

    transformers gives new random weights to what a checkpoint lacks, and a warning only. Such a model would drop
    tokens at random.

    Args:
        model: as loaded.
        info: what transformers' `output_loading_info` returns.
        name_or_path: for the message.
        resized: whether the caller asked for `ignore_mismatched_sizes`.

    Raises:
        CheckpointError: names the first tensor (in the model's order) that is missing, has another shape, or
            has no place in the model, and how many more there are.
    """
    check_loaded(model, info, name_or_path=name_or_path, resized=resized)
    if info["unexpected_keys"]:
        strange = sorted(info["unexpected_keys"])
        raise CheckpointError(
            f"{name_or_path}: weights {strange[0]!r}{_and_others(strange)} "
            "have no place in the model of its config.json"
        )


def check_loaded(
    model: PreTrainedModel,
    info: dict[str, Any],
    *,
    name_or_path: str | Path,
    resized: bool = False,
    new: tuple[str, ...] = (),
) -> None:
    """Refuse weights that lack something, have another shape, or are not numbers.

    Weights that the model has no place for are let through: hub checkpoints of classifiers carry the remains of other
    heads.

    Args:
        model, info, name_or_path, resized: see check_whole.
        new: beginnings of the names that may be missing, because they are new in this model.

    Raises:
        CheckpointError: names the first tensor that is wrong.
    """
    order = list(model.state_dict())
    lost = {name for name in info["missing_keys"] if not name.startswith(new)} if new else set(info["missing_keys"])
    missing = [name for name in order if name in lost] or sorted(lost)
    shapes = {name: (tuple(stored), tuple(wanted)) for name, stored, wanted in info["mismatched_keys"]}
    if missing:
        raise CheckpointError(
            f"{name_or_path}: no weights for {missing[0]!r}{_and_others(missing)}; the checkpoint is incomplete, "
            "or its config.json is another model's"
        )
    if shapes and not resized:
        wrong = [name for name in order if name in shapes] or sorted(shapes)
        stored, wanted = shapes[wrong[0]]
        raise CheckpointError(
            f"{name_or_path}: {wrong[0]!r} has shape {stored}, "
            f"the model of its config.json has {wanted}{_and_others(wrong)}"
        )
    infinite = [name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all())]
    if infinite:
        raise CheckpointError(f"{name_or_path}: weights {infinite[0]!r}{_and_others(infinite)} hold NaN or infinity")


def _and_others(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
