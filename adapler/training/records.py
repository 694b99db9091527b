"""Files that a command leaves: run.json, the record of what was done, and done.json, which marks a finished stage."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adapler.errors import ArgumentError
from adapler.options import flag
from adapler.system import from_main, is_main, processes, read_json, replacing, sha256_of, wait_for_everyone
from adapler.text import RUN

DONE, STARTED = "done.json", "started.json"


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON record, whole or not at all; numbers that are not finite as text: JSON has none."""
    text = json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder that a training command wrote; CheckpointError if there is none."""
    return read_json(folder / RUN)


def versions() -> dict[str, str]:
    """Versions of Python, this package and the packages that the numbers depend on."""
    names = ("adapler", "torch", "transformers", "accelerate", "datasets", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def arguments() -> list[str]:
    """The words of the command line; absolute paths by their last part, for where they lie says nothing to a reader."""
    return [Path(word).name if Path(word).is_absolute() else word for word in sys.argv]


def model_name(name_or_path: str | Path) -> str:
    """The name of a model in a record: the hub's, or of a folder its last part."""
    return Path(name_or_path).resolve().name if Path(name_or_path).is_dir() else str(name_or_path)


def model_checksum(name_or_path: str | Path) -> str | None:
    """sha256 over the names and contents of the weight files of a folder or of a hub's model, which is fetched; None
    where there are none."""
    from transformers.utils import cached_file

    folder = Path(name_or_path)
    files: Iterable[Path] = folder.glob("*.safetensors")
    if not folder.is_dir():
        with suppress(OSError, ValueError):
            found = cached_file(str(name_or_path), "model.safetensors")
            files = [Path(found)] if found else []
    parts = [f"{file.name} {sha256_of(file)}\n" for file in sorted(files)]
    return hashlib.sha256("".join(parts).encode()).hexdigest() if parts else None


# Stages


def is_finished(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a stage has finished in a folder with this configuration: options, data and models. ArgumentError where
    another one finished there, or trains there and has a checkpoint, by the first value that differs."""
    found: Any = _state(folder, _plain(config)) if is_main() else None
    state = from_main(found)
    if isinstance(state, str):
        raise ArgumentError(state)
    return bool(state)


def begin(folder: Path, config: Mapping[str, Any]) -> None:
    """Write started.json; the number of processes counts too: with another one a step has another batch."""
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder / STARTED, {"config": _plain({**config, "processes": processes()})})


def mark_finished(folder: Path, config: Mapping[str, Any]) -> None:
    """Write done.json, the last file of a stage."""
    if is_main():
        write_record(folder / DONE, {"config": _plain(config)})
        os.remove(folder / STARTED)
    wait_for_everyone()


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what changes no number: where a stage runs and where it writes."""
    return {name: value for name, value in config.items() if name not in ("device", "workers", "report_to", "output")}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as it is when it was written and read again, without what changes no number."""
    return json.loads(json.dumps(_finite(comparable(config)), default=str))


def _state(folder: Path, wanted: dict[str, Any]) -> bool | str:
    """Whether the stage has finished, or why it cannot be done here."""
    trained = any(folder.glob("epochs/checkpoint-*")) or (folder / "stages").is_dir()
    for name, what in ((DONE, "finished"), (STARTED, "unfinished")):
        if not (folder / name).is_file():
            continue
        found = read_json(folder / name)
        here = wanted if name == DONE else {**wanted, "processes": processes()}
        key = next((key for key in here if found["config"].get(key) != here[key]), None)
        if key is not None and (name == DONE or trained):
            values = f"{flag(key)} is {here.get(key)} here and {found['config'].get(key)} in the {what} {folder}"
            return f"{values}; give another --output, or remove that folder"
        return name == DONE
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        return f"--output: {folder} is not empty, and holds no stage of a run; give another folder"
    return False
