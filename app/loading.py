"""Cached data of the page: arguments, checkpoints, corpora and model outputs.

Only paths found here, on the server, can be chosen on the page, by the name that a menu gives them; nothing that a
browser sends becomes a path. Results are kept for the session only: a text of one's own goes with it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, NoReturn

import pandas as pd
import streamlit as st

from adapler import AdapLeRForSequenceClassification
from adapler.embedded import CHECKPOINT, SAMPLE
from adapler.eraser import EraserCorpus, holds_corpus, read_corpus
from adapler.errors import AdapLeRError, ArgumentError, CheckpointError, DataError
from adapler.text import load_tokenizer
from app import documents, methods, survey, tracing
from app.documents import Document
from app.edits import Edit, Edited, apply

ROOT = Path(__file__).resolve().parents[1]
CORPORA = {"Sample: invented films": SAMPLE, "ERASER Movie Reviews": Path("data/eraser/movies")}
OPTIONS = ("checkpoints", "reports", "data")
FILES = ("*.safetensors", "config.json", "tokenizer*.json", "vocab.*", "calibration.json")
SCALES = tuple(round(0.2 * step, 1) for step in range(11))


@dataclass(frozen=True)
class Arguments:
    """Folders named on the command line."""

    checkpoints: tuple[Path, ...] = ()
    reports: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentError(f"{message}; allowed after -- are --checkpoints DIR --reports DIR --data DIR_OR_TAR")


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Parse the arguments after `--` in `streamlit run app/main.py -- ...`. Raises ArgumentError."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name in OPTIONS:
        parser.add_argument(f"--{name}", type=Path, action="append", default=[])
    found = vars(parser.parse_args(argv))
    for name, paths in found.items():
        if missing := [path for path in paths if not path.exists()]:
            raise ArgumentError(f"--{name}: {missing[0].name}: no such file or folder")
    return Arguments(**{name: tuple(path.resolve() for path in found[name]) for name in OPTIONS})


def holding(file: str, folders: Iterable[Path]) -> dict[str, Path]:
    """Folders that hold a file of this name, these and up to two levels below, by what a menu calls them."""
    found: dict[Path, str] = {}
    for folder in folders:
        for path in (one.parent for depth in ("", "*/", "*/*/") for one in sorted(folder.glob(depth + file))):
            inside = path.relative_to(folder)
            if not any(part.startswith(".") for part in inside.parts):
                found.setdefault(path.resolve(), inside.as_posix() if inside.parts else folder.resolve().name)
    return told_apart((name, path) for path, name in found.items())


def list_reports(folders: Iterable[Path]) -> dict[str, Path]:
    """Reports of `analysis.rationale_eval`; those of the usual truncation, which the others vary, come first."""
    found = holding("layers.csv", folders)
    return {name: found[name] for name in sorted(found, key=lambda name: not name.endswith("/truncate"))}


def told_apart(named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """name -> what is called so; the second of equal names is called `name (2)`."""
    found: dict[str, Any] = {}
    for name, one in named:
        unique, count = name, 1
        while unique in found:
            count += 1
            unique = f"{name} ({count})"
        found[unique] = one
    return found


def list_checkpoints(folders: Sequence[Path]) -> dict[str, Path]:
    """AdapLeR models in these folders and the embedded one, which comes first; an unreadable one is listed too."""
    found = holding("config.json", (CHECKPOINT, *folders))
    return {name: path for name, path in found.items() if _may_be_adapler(path / "config.json")}


def _may_be_adapler(config: Path) -> bool:
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(read, dict) and read.get("model_type", "adapler") == "adapler"


def list_corpora(named: Sequence[Path]) -> dict[str, Path]:
    """The embedded sample, those named on the command line, and the movies where they were downloaded."""
    titled = [*CORPORA.items()][:1] + [(path.name, path) for path in named] + [*CORPORA.items()][1:]
    return told_apart((title, path.resolve()) for title, path in titled if path in named or holds_corpus(path))


def stamp(path: Path, *patterns: str) -> int:
    """Tells a file, or a folder's files of some patterns, from what they were before."""
    files = sorted(file for pattern in patterns for file in path.glob(pattern)) if patterns else [path]
    return hash(tuple((str(file), one.st_size, one.st_mtime_ns) for file in files for one in [file.stat()]))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model in evaluation mode and its tokenizer, shared between sessions and never changed.

    Attributes:
        model: says a verdict and drops tokens; its layers are in the dtype `dtype`.
        key: tells it from all others, from other dtypes, and from what was in its folder before.
        exact: the same model in float32, which scoring methods read.
        lock: held for every call: scoring methods switch the model's attention for the time of theirs.
    """

    model: Any
    tokenizer: Any
    key: str
    dtype: str = "float32"
    exact: Any = None
    lock: Any = field(default_factory=RLock)


def find_checkpoint(folder: Path, name: str, *, dtype: str = "float32") -> Checkpoint:
    """The model in a folder that the menu calls `name`. Raises CheckpointError, without the server's path."""
    try:
        one = _load_checkpoint(str(folder), stamp(folder, *FILES))
        return one if dtype == one.dtype else _in_format(one, dtype)
    except AdapLeRError as error:
        raise CheckpointError(str(error).replace(str(folder), name)) from error


@st.cache_resource(max_entries=3, show_spinner="Loading the model ...")
def _load_checkpoint(folder: str, version: int) -> Checkpoint:
    try:
        model = AdapLeRForSequenceClassification.from_pretrained(folder).eval()
        return Checkpoint(model, load_tokenizer(folder), f"{folder}:{version}", exact=model)
    except AdapLeRError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # damaged files end in errors of safetensors, json, tokenizers, torch ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{folder}: cannot be loaded ({reason:.160})") from error


@st.cache_resource(max_entries=3, show_spinner=False, hash_funcs={Checkpoint: lambda one: one.key})
def _in_format(checkpoint: Checkpoint, dtype: str) -> Checkpoint:
    with checkpoint.lock:
        model = checkpoint.model.for_inference(dtype=dtype)
    key = f"{checkpoint.key}:{dtype}"
    return Checkpoint(model, checkpoint.tokenizer, key, dtype, checkpoint.model, checkpoint.lock)


def find_corpus(path: Path, name: str) -> EraserCorpus:
    """The corpus that the menu calls `name`. Raises DataError, without the server's path."""
    try:
        return _load_corpus(str(path), stamp(path, "*") if path.is_dir() else stamp(path))
    except AdapLeRError as error:
        raise DataError(str(error).replace(str(path), name)) from error


# A resource and not data: a corpus is frozen, and cached data is copied at every rerun of the page.
@st.cache_resource(max_entries=4, show_spinner="Reading the corpus ...")
def _load_corpus(path: str, version: int) -> EraserCorpus:
    return read_corpus(path)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs={EraserCorpus: lambda one: one.checksum})
def documents_of(corpus: EraserCorpus, split: str, title: str) -> tuple[Document, ...]:
    return documents.of_split(corpus, split, title=title)


# ---- What the models say, looked up by its content and computed while the checkpoint's lock is held

BY_KEY: dict[Any, Any] = {Checkpoint: lambda one: one.key}


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=BY_KEY, scope="session")
def load_trace(checkpoint: Checkpoint, document: Document, *, threshold_scale: float) -> tracing.Trace:
    with checkpoint.lock:
        return tracing.trace(
            checkpoint.model,
            checkpoint.tokenizer,
            document.words,
            rationale=document.rationale,
            query=document.query_words,
            threshold_scale=threshold_scale,
        )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=BY_KEY, scope="session")
def load_parts(checkpoint: Checkpoint, document: Document) -> tuple[tuple[int, int], ...]:
    with checkpoint.lock:  # a tokenizer holds how it truncates
        limit = tracing.read_limit(checkpoint.model, checkpoint.tokenizer)
        return documents.parts_of(document, checkpoint.tokenizer, limit=limit)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=BY_KEY, scope="session")
def load_scores(checkpoint: Checkpoint, document: Document, method: str, *, threshold_scale: float) -> methods.Scored:
    with checkpoint.lock:
        return methods.score(
            checkpoint.exact,
            checkpoint.tokenizer,
            document,
            method,
            threshold_scale=threshold_scale,
            dtype=checkpoint.dtype,
        )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=BY_KEY, scope="session")
def load_edited(
    checkpoint: Checkpoint, document: Document, edits: tuple[tuple[int, Edit], ...], *, threshold_scale: float
) -> tuple[tracing.Trace, Edited]:
    """The trace of a document with some of its words edited, and its words; not for a text of which nothing is left."""
    edited = apply(document.words, document.rationale, dict(edits), mask=checkpoint.tokenizer.mask_token)
    with checkpoint.lock:
        trace = tracing.trace(
            checkpoint.model,
            checkpoint.tokenizer,
            edited.words,
            rationale=edited.marked,
            query=document.query_words,
            threshold_scale=threshold_scale,
            fate=edited.fate,
        )
    return trace, edited


def load_sweep(checkpoint: Checkpoint, document: Document) -> pd.DataFrame:
    """A row for each of SCALES: scale, speedup, tokens in the last layer, label, and the probability of the label that
    the model gives without removal."""
    rows = []
    for scale in SCALES:
        one = load_trace(checkpoint, document, threshold_scale=scale)
        without = int(one.full_probabilities.argmax())
        rows.append(
            {
                "scale": scale,
                "speedup": one.speedup,
                "tokens": int(one.lengths[-1]),
                "label": one.label,
                "probability": float(one.probabilities[without]),
            }
        )
    return pd.DataFrame(rows)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_KEY | {EraserCorpus: lambda one: one.checksum})
def find_survey(
    checkpoint: Checkpoint, corpus: EraserCorpus, split: str, title: str, *, threshold_scale: float
) -> survey.Survey:
    """Shared between sessions: whoever asks goes on where the one before has stopped."""
    return survey.Survey(documents_of(corpus, split, title), threshold_scale=threshold_scale)


def usual_precision(name: str, reports: Mapping[str, Path]) -> tuple[dict[str, list[float]], str]:
    """Mean average precision by method and layer over a corpus, out of the layers.csv of a report of a checkpoint of
    this name; and whose mean it is, "" without one."""
    for title, folder in reports.items():
        if name in title:
            table = pd.read_csv(folder / "layers.csv")
            table = table[table["metric"] == "average_precision"].sort_values("layer")
            means = {str(method): rows["mean"].tolist() for method, rows in table.groupby("method")}
            return means, f"{int(table['n'].max())} documents ({title})"
    return {}, ""
