"""Loading of a saved AdapLeR model: all of its weights and no older ones, or an error of one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from adapler.backbones.sources import HubArguments, config_of, find_model
from adapler.backbones.weights import LOADING_ERRORS, check_whole, reason_of
from adapler.errors import ArgumentError, CheckpointError
from adapler.model.configuration import AdapLeRConfig


def load_whole(from_pretrained: Callable[..., Any], name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
    """transformers' `from_pretrained`, in float32 by default, that refuses weights which are not the model's.

    Args:
        from_pretrained: transformers' own, of the model's class.
        name_or_path: folder or hub name.
        args, kwargs: as of transformers' `from_pretrained`.

    Returns:
        The model; with `output_loading_info=True` the model and what transformers says about its loading.

    Raises:
        CheckpointError: the folder is missing, holds something else than an AdapLeR model, or its weights are
            not exactly those of the model in its config.json, or are not finite.
    """
    hub: Any = {name: kwargs.pop(name) for name in HubArguments.__annotations__ if name in kwargs}
    found = find_model(name_or_path, **hub)
    if "config" not in kwargs:
        config = config_of(name_or_path, found)
        if config.model_type != AdapLeRConfig.model_type:
            raise CheckpointError(
                f"{name_or_path}: holds a {config.model_type!r} model, not 'adapler'; "
                "`adapler run --classifier` trains one on it "
                "(AdapLeRForSequenceClassification.from_backbone builds it, untrained)"
            )
    if "torch_dtype" in kwargs:  # its name before transformers 5, which still takes it
        kwargs.setdefault("dtype", kwargs.pop("torch_dtype"))
    kwargs.setdefault("dtype", torch.float32)
    kwargs.setdefault("use_safetensors", True)
    informed = kwargs.pop("output_loading_info", False)
    resized = kwargs.pop("ignore_mismatched_sizes", False)
    try:
        model, info = from_pretrained(
            name_or_path, *args, **found, **kwargs, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except ArgumentError as error:
        raise CheckpointError(f"{name_or_path}: {error}") from error
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{name_or_path}: {reason_of(error)}") from error
    check_whole(model, info, name_or_path=name_or_path, resized=resized)
    return (model, info) if informed else model


def keep_as_made(backbone: nn.Module) -> None:
    """Let a model that is built around a classifier draw none of its weights, in place.

    transformers draws those of all modules that it has not made itself: of a head or an adapter that was put into the
    classifier, and trained, since.
    """
    for module in backbone.modules():
        cast(Any, module)._is_hf_initialized = True


def check_push(options: Mapping[str, Any]) -> None:
    """Raises ArgumentError for a `save_pretrained` that would upload before calibration and run.json are written."""
    if options.get("push_to_hub"):
        raise ArgumentError("push_to_hub: would leave out run.json and the calibration; use model.push_to_hub(NAME)")


@contextmanager
def without_older_weights(folder: Path) -> Iterator[None]:
    """Removes what the block, a save, leaves of an earlier one: the single file when it wrote shards, their index when
    it wrote a single file. transformers keeps both, and then loads the single file, which may be the older."""
    files = [folder / SAFE_WEIGHTS_NAME, folder / SAFE_WEIGHTS_INDEX_NAME]
    before = [_written(file) for file in files]
    yield
    older = [file for file, stamp in zip(files, before, strict=True) if stamp and stamp == _written(file)]
    if len(older) < sum(file.exists() for file in files):  # something was written
        for file in older:
            file.unlink()


def _written(file: Path) -> tuple[int, int] | None:
    """Changes when a file is written anew; None where there is none."""
    found = file.stat() if file.is_file() else None
    return found and (found.st_mtime_ns, found.st_ino)
