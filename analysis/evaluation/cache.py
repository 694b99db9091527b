"""Scores on disk, so that a second look at the same model and documents runs no model.

A file holds what one method gives for one chunk of documents. Its name is a hash of everything that the scores
depend on: the weights and the configuration of the model, the method with its options and its source, the seed,
the precision, and the windows as the model gets them. The windows stand for the data, its split, the policy, the
length and the tokenizer: whatever changes one of these changes a wordpiece or a name, and the same input is never
computed twice, under whatever policy.

Files are .npz without pickle, written beside and renamed: a run that is killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

import adapler as adapler_package
from adapler.errors import ArgumentError
from adapler.files import replacing
from analysis.documents.windows import Window

FORMAT = 1  # of the files; raise it when a scoring method gives other numbers or a file holds other arrays
VARIABLE = "ADAPLER_CACHE"

Arrays = dict[str, NDArray[Any]]


def default_folder() -> Path:
    """$ADAPLER_CACHE, or else ~/.cache/adapler/scores ($XDG_CACHE_HOME for ~/.cache)."""
    if folder := os.environ.get(VARIABLE):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "adapler" / "scores"


class ScoreCache:
    """A folder of chunk files, or nothing at all (folder None), with a count of what came out of it.

    hits, misses: chunk files found and not found.

    Raises ArgumentError when the folder is a file or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.hits = self.misses = 0
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ArgumentError(f"cache: {self.folder} cannot be a folder ({error.strerror})") from error
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise ArgumentError(f"cache: {self.folder} cannot be written")

    def load(self, key: str) -> Arrays | None:
        """The arrays under a key; None when there are none, or the file is damaged."""
        found = None if self.folder is None else _read(_path(self.folder, key))
        self.hits += found is not None
        self.misses += found is None
        return found

    def save(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the arrays of a key, whole or not at all."""
        if self.folder is not None:
            with replacing(_path(self.folder, key)) as temporary, temporary.open("xb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy types **kwds as allow_pickle too


def _path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.npz"


def _read(path: Path) -> Arrays | None:
    try:
        with path.open("rb") as stream:  # numpy leaves a damaged file open when it opens it itself
            content = np.load(stream, allow_pickle=False)
            return {name: content[name] for name in content.files} if isinstance(content, NpzFile) else None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None  # not there, or damaged: it is computed and written again


def chunk_key(facts: Mapping[str, Any], windows: Sequence[Window], labels: Sequence[int]) -> str:
    """Hash of what the scores of a chunk depend on; facts are plain values, for JSON."""
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **facts}, sort_keys=True).encode())
    for window, label in zip(windows, labels, strict=True):
        digest.update(f"\0{window.id}\0{len(window)}\0{label}\0".encode())
        digest.update(np.ascontiguousarray(window.input_ids, dtype="<i8").tobytes())
        digest.update(np.packbits(window.special).tobytes())
        if window.token_type_ids is not None:
            digest.update(np.ascontiguousarray(window.token_type_ids, dtype="<i8").tobytes())
    return digest.hexdigest()


def model_fingerprint(model: Any) -> str:
    """Hash of a model's class, configuration and weights, wherever they came from.

    The attention implementation and the place it was loaded from are left out: they do not change the scores.
    """
    config = model.config.to_dict()
    config = {name: value for name, value in config.items() if not name.startswith("_") and name not in _VOLATILE}
    digest = hashlib.sha256(type(model).__name__.encode())
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"\0{name}\0{values.dtype}\0{tuple(values.shape)}\0".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


_VOLATILE = ("transformers_version", "output_attentions", "output_hidden_states")


@lru_cache(maxsize=1)
def code_fingerprint() -> str:
    """Hash of the code that computes scores: this package's methods and the model package."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parents[1] / "scores", Path(adapler_package.__file__).parent):
        for file in sorted(folder.glob("*.py")):
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def source_fingerprint(function: Any) -> str:
    """Hash of the file that defines a function: somebody's own method, edited, does not get its old scores."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    try:
        module = inspect.getmodule(function)
        source = inspect.getsource(module if module is not None else function)
    except (OSError, TypeError):
        source = ""  # typed into a session: its name has to do
    return hashlib.sha256(f"{name}\0{source}".encode()).hexdigest()
