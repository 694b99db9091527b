"""Where a model comes from: a folder, the local cache or the hub, and the configuration that lies there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import CONFIG_MAPPING, PretrainedConfig

from adapler.errors import ArgumentError, CheckpointError

CONFIG = "config.json"


class HubArguments(TypedDict, total=False):
    """What transformers needs to know to find a model on the hub; see its `from_pretrained`."""

    subfolder: str
    revision: str
    token: str | bool | None
    cache_dir: str | Path | None
    local_files_only: bool


def is_local(name_or_path: str | Path) -> bool:
    """Whether a model name means a local folder.

    A name like `checkpoints/x` has the form of a hub name too. It means the folder when that, or its first
    part, is there; so a mistyped folder never turns into a request to the network.

    Raises:
        CheckpointError: it can only mean a folder, and there is none.
        ArgumentError: it is no name at all, but an object.
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


def find_model(name_or_path: str | Path, **hub: Unpack[HubArguments]) -> HubArguments:
    """Look a model up once, before transformers does it several times and repeats what fails.

    A hub that cannot be reached is no error when the model is in the local cache.

    Args:
        name_or_path: folder or hub name.
        hub: as of transformers' `from_pretrained`.

    Returns:
        `hub` for all later calls: local files only where no request is needed, and on the hub the commit instead of a
        branch's name, so that all files come from one state of the repository.

    Raises:
        CheckpointError: no such folder, no config.json in it, or neither in the cache nor on the hub.
    """
    subfolder = hub.get("subfolder") or ""
    if is_local(name_or_path):
        folder = Path(name_or_path) / subfolder
        if not (folder / CONFIG).is_file():
            inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
            models = f"; there are models in it: {', '.join(inside)}" if inside else ""
            raise CheckpointError(f"{folder}: no config.json in this folder, so it is not a model{models}")
        return {**hub, "local_files_only": True}
    name, revision = str(name_or_path), hub.get("revision") or "main"
    file = f"{subfolder}/{CONFIG}" if subfolder else CONFIG
    try:
        cached = isinstance(try_to_load_from_cache(name, file, hub.get("cache_dir"), revision), str)
    except HFValidationError as error:
        raise CheckpointError(f"{name}: neither a folder here nor a name that the hub allows") from error
    if hub.get("local_files_only") or is_offline_mode():
        if not cached:
            why = "local_files_only is set" if hub.get("local_files_only") else "HF_HUB_OFFLINE is set"
            raise CheckpointError(f"{name}: neither a folder here nor in the local cache, and no hub is asked: {why}")
        return {**hub, "local_files_only": True}
    try:
        found = get_hf_file_metadata(hf_hub_url(name, file, revision=revision), token=hub.get("token"))
    except GatedRepoError as error:
        raise CheckpointError(f"{name}: on the hub, but only for accounts that were let in; pass token=") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name}: neither a folder here nor a model on the hub (for a private one pass token=)"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{name}: has no revision {revision!r} on the hub") from error
    except RemoteEntryNotFoundError as error:
        raise CheckpointError(f"{name}: has no {file} on the hub, so it is not a model") from error
    except Exception as error:  # the kinds of network errors belong to huggingface_hub's HTTP client
        if cached:
            return {**hub, "local_files_only": True}
        raise CheckpointError(
            f"{name}: neither a folder here nor in the local cache, and the hub cannot be reached ({one_line(error)})"
        ) from error
    return {**hub, "revision": found.commit_hash or revision}


def read_config(name_or_path: str | Path, **hub: Unpack[HubArguments]) -> Any:
    """The transformers configuration of a folder or hub model.

    Args:
        name_or_path: folder or hub name.
        hub: as of transformers' `from_pretrained`.

    Raises:
        CheckpointError: missing, unreadable, of a type unknown to transformers, or with a value that its type does
            not allow; the message names the field.
    """
    return config_of(name_or_path, find_model(name_or_path, **hub))


def config_of(name_or_path: str | Path, hub: HubArguments) -> Any:
    """read_config of a model that find_model has found."""
    where = f"{name_or_path}: cannot read its config.json"
    try:
        fields, _ = PretrainedConfig.get_config_dict(name_or_path, **hub)
        _check_fields(fields)
        return CONFIG_MAPPING[fields["model_type"]].from_dict(fields, name_or_path=str(name_or_path))
    except Exception as error:  # damaged files make transformers raise nearly anything
        raise CheckpointError(f"{where}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """An error's kind and what it says, in one line; of our own and of system errors, what they say."""
    text = " ".join(str(error).split())
    if text and isinstance(error, ArgumentError | OSError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check_fields(fields: Any) -> None:
    """Check fields of a config.json that transformers does not check, and that fail later.

    Raises:
        ArgumentError: names the field.
    """
    if not isinstance(fields, dict):
        raise ArgumentError(f"a JSON object is expected, found {type(fields).__name__}")
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ArgumentError(f"model_type: {model_type!r} is not known to transformers")
    for name in ("id2label", "label2id", "backbone_config"):
        value = fields.get(name, {})
        if not (isinstance(value, dict) or (value is None and name != "backbone_config")):
            raise ArgumentError(f"{name}: {value!r} is not a mapping")
    for number, name in (fields.get("id2label") or {}).items():
        if not isinstance(name, str | int | float):
            raise ArgumentError(f"id2label: label {number} is {name!r}, no name")
    names = fields.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ArgumentError(f"architectures: {names!r} is not a list of names")
    for name in ("dtype", "torch_dtype"):
        value = fields.get(name)
        known = isinstance(value, str) and isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype)
        if value is not None and not known:
            raise ArgumentError(f"{name}: {value!r} is not the name of a torch dtype")
    if "backbone_config" in fields:
        _check_fields(fields["backbone_config"])
