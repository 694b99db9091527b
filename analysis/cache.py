"""Scores on disk: one .npz a (model, method, split), so that a second look at the same texts runs no model.

A file's name has the hash of all that its values depend on besides the text: the model's weights, the method with its
options, the code of `adapler`, `analysis.scores` and `analysis.metrics`, dtype, device. In it arrays stand under the
hash of their text, so that a sample and the whole split share a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from adapler.files import cache_folder, replacing
from analysis.alignment import Window

Arrays = dict[str, NDArray[Any]]
ROOT = Path(__file__).resolve().parent.parent
_KNOWN = ("torch", "transformers", "adapler")  # whose modules compute what their versions, or `code_hash`, say


def default_folder() -> Path:
    """$ADAPLER_CACHE, or else `scores` in the user's cache folder."""
    folder = os.environ.get("ADAPLER_CACHE")
    return Path(folder).expanduser() if folder else cache_folder() / "scores"


class ScoreFile:
    """Arrays by key; those of an existing file, and those to be written by `save`."""

    def __init__(self, folder: Path | None = None, name: str = "", facts: Mapping[str, Any] | None = None) -> None:
        self.hits = self.misses = 0
        self.path, self._new, self._stored = None, {}, {}  # type: Path | None, dict[str, Arrays], dict[str, Any]
        if folder is None or facts is None:
            return
        digest = hashlib.sha256(json.dumps({"code": code_hash(), **facts}, sort_keys=True, default=str).encode())
        self.path = folder / f"{file_name(name)[:80]}-{digest.hexdigest()[:24]}.npz"
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                for name, values in stored.items():
                    key, _, part = name.partition("/")
                    self._stored.setdefault(key, {})[part] = values
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            self._stored = {}  # not there, or damaged: it is computed again

    def get(self, key: str) -> Arrays | None:
        """The arrays under a key, or None."""
        found = self._stored.get(key) or self._new.get(key)
        self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        return found

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep arrays until `save`."""
        if self.path is not None:
            self._new[key] = arrays

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is None or not self._new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entries = self._stored | self._new
        with replacing(self.path) as partial, partial.open("wb") as stream:
            np.savez(stream, **{f"{key}/{part}": one for key, row in entries.items() for part, one in row.items()})
        self._stored, self._new = entries, {}


def file_name(method: str) -> str:
    """A method's key as a file name: letters, digits, "_", ".", "=" and "-"."""
    return re.sub(r"[^\w.=-]+", "-", method).strip("-")


def window_key(window: Window, **facts: Any) -> str:
    """Hash of a window's tokens, and of a label or a seed where values depend on them."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    types = window.input_ids * 0 - 1 if window.token_type_ids is None else window.token_type_ids
    for values in (window.input_ids, types, window.special.astype(np.int64)):
        digest.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    return digest.hexdigest()[:32]


def model_hash(model: Any) -> str | None:
    """Hash of a model's configuration and weights; None for one with hooks, or with modules of somebody's own, whose
    code is not known."""
    for module in model.modules():
        if "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
            return None
        if type(module).__module__.partition(".")[0] not in _KNOWN:
            return None
    config = {name: value for name, value in model.config.to_dict().items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


@lru_cache(maxsize=1)  # the code that runs is the code that was there when it was imported
def code_hash() -> str:
    """Hash of the code that makes scores and values, and of the libraries below."""
    digest = hashlib.sha256(f"{torch.__version__} {transformers.__version__}".encode())
    folders = [ROOT / "adapler", ROOT / "analysis" / "scores", ROOT / "analysis" / "metrics"]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    for path in sorted([*files, *(ROOT / "analysis" / name for name in ("alignment.py", "faithfulness.py"))]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
