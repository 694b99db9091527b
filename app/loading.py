"""What the page needs, loaded once: arguments, checkpoints, corpora, results.

Only paths found here, on the server, can be chosen on the page; nothing that a browser sends becomes a path.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from adapler import AdapLeRForSequenceClassification
from adapler.data.encoding import load_tokenizer
from adapler.data.eraser import EraserCorpus, holds_corpus, read_corpus
from adapler.errors import AdapLeRError, ArgumentError, CheckpointError
from app.tracing import Trace, trace

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "checkpoints"
DEFAULT_CHECKPOINT = "movies-minilm"
CORPORA = (ROOT / "data" / "eraser" / "sample", ROOT / "data" / "eraser" / "movies")
MAX_CHARACTERS = 20_000


@dataclass(frozen=True)
class Arguments:
    """Folders named on the command line."""

    checkpoints: tuple[Path, ...]
    data: tuple[Path, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentError(f"{message}; allowed after -- are --checkpoints DIR and --data DIR_OR_TAR")


def read_arguments(argv: Sequence[str]) -> Arguments:
    """What stands after `--` in `streamlit run app/main.py -- --checkpoints DIR --data DIR_OR_TAR`.

    Raises:
        ArgumentError: an unknown argument, or a path that is not there.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--checkpoints", type=Path, action="append", default=[])
    parser.add_argument("--data", type=Path, action="append", default=[])
    found = parser.parse_args(argv)
    for name, paths in (("--checkpoints", found.checkpoints), ("--data", found.data)):
        for path in paths:
            if not path.exists():
                raise ArgumentError(f"{name}: {path}: no such file or folder")
    return Arguments(tuple(found.checkpoints), tuple(found.data))


def list_checkpoints(folders: Sequence[Path]) -> dict[str, Path]:
    """AdapLeR models in these folders and up to two levels below, by the name the menu shows; the default first.

    A folder whose config.json cannot be read is listed too: choosing it says what is wrong with it.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for config in sorted(path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}config.json")):
            if _may_be_adapler(config):
                inside = config.parent.relative_to(folder)
                name = inside.as_posix() if inside.parts else folder.resolve().name
                if name in found:
                    name = str(config.parent)
                found[name] = config.parent
    return {name: found[name] for name in sorted(found, key=lambda name: name != DEFAULT_CHECKPOINT)}


def find_checkpoint(found: Mapping[str, Path], name: str | None) -> Checkpoint:
    """The model of a name in the menu; see load_checkpoint. Raises CheckpointError where the menu is empty."""
    if name is None:
        raise CheckpointError(
            f"{CHECKPOINTS.name}/: no AdapLeR checkpoint in it; name another folder with "
            "streamlit run app/main.py -- --checkpoints DIR"
        )
    return load_checkpoint(found[name])


def list_corpora(named: Sequence[Path]) -> list[Path]:
    """Those named on the command line, then the embedded sample, then the movies where they were downloaded."""
    return [path for path in (*named, *CORPORA) if holds_corpus(path)]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model in evaluation mode and its tokenizer, shared between sessions and never changed."""

    model: Any
    tokenizer: Any
    key: str


def load_checkpoint(folder: Path) -> Checkpoint:
    """The model in a folder.

    Raises:
        CheckpointError: the folder holds no AdapLeR model, or a damaged one.
    """
    weights = folder / "model.safetensors"
    stamp = weights.stat().st_mtime_ns if weights.is_file() else 0  # a model trained anew is loaded anew
    return _load_checkpoint(str(folder), stamp)


@st.cache_resource(max_entries=4, show_spinner="Loading the model ...")
def _load_checkpoint(folder: str, stamp: int) -> Checkpoint:
    try:
        model = AdapLeRForSequenceClassification.from_pretrained(Path(folder)).eval()
        return Checkpoint(model, load_tokenizer(folder), f"{folder}:{stamp}")
    except AdapLeRError:
        raise
    except Exception as error:  # damaged files end in errors of safetensors, json, tokenizers, torch ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{folder}: cannot be loaded ({reason:.160})") from error


# A resource and not data: a corpus is frozen, and cached data is copied at every rerun of the page.
@st.cache_resource(max_entries=4, show_spinner="Reading the corpus ...")
def load_corpus(path: Path) -> EraserCorpus:
    """Raises DataError for what is not a corpus in ERASER layout."""
    return read_corpus(path)


@st.cache_data(
    max_entries=64,
    show_spinner="Running the model ...",
    hash_funcs={Checkpoint: lambda checkpoint: checkpoint.key},
)
def load_trace(
    checkpoint: Checkpoint, text: str, spans: tuple[tuple[int, int], ...], *, threshold_scale: float
) -> Trace:
    """`trace` of a text with some word in it; `spans` are the word ranges of its rationale."""
    words = tuple(text.split())
    return trace(
        checkpoint.model,
        checkpoint.tokenizer,
        words,
        rationale=rationale_of(len(words), spans),
        threshold_scale=threshold_scale,
    )


def rationale_of(words: int, spans: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    """(words,) bool from word ranges."""
    mask = np.zeros(words, dtype=np.bool_)
    for start, end in spans:
        mask[start:end] = True
    return mask


def _may_be_adapler(config: Path) -> bool:
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return isinstance(read, dict) and read.get("model_type", "adapler") == "adapler"
