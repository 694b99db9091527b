"""What the page needs, loaded once: arguments, checkpoints, corpora.

Only paths found here, on the server, can be chosen on the page, by the name that a menu gives them; nothing that a
browser sends becomes a path, and no path of the server is sent to a browser.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from threading import RLock
from typing import Any, NoReturn

import streamlit as st

from adapler import AdapLeRForSequenceClassification
from adapler.devices import choose_dtype
from adapler.eraser import ARCHIVE_SUFFIXES, EraserCorpus, holds_corpus, read_corpus
from adapler.errors import AdapLeRError, ArgumentError, CheckpointError, DataError
from adapler.text import cutting, load_tokenizer
from analysis.loading import checksums
from app.sources.menus import Stamp, holding, stamp, told_apart

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = ROOT / "checkpoints"
REPORTS = (ROOT / "reports", ROOT / "results")
TRADEOFF = (ROOT / "results" / "tradeoff",)
CONFIG = "config.json"
TOKENIZER = ("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt")
DEFAULT_CHECKPOINT = "movies-minilm"
CORPORA = {
    "Sample: invented films": ROOT / "data" / "eraser" / "sample",
    "ERASER Movie Reviews": ROOT / "data" / "eraser" / "movies",
}
OPTIONS = {"checkpoints": "DIR", "reports": "DIR", "data": "DIR_OR_TAR", "tradeoff": "DIR"}
NO_MODEL = (
    "named with --checkpoints, holds no AdapLeR model, nor does a folder up to two levels below. A plain classifier, "
    "as --policy distilbert trains one, drops no tokens: there is nothing to show of it."
)
USAGE = " ".join(f"--{name} {value}" for name, value in OPTIONS.items())


@dataclass(frozen=True)
class Arguments:
    """Folders named on the command line; tradeoff: with a curves.csv of `python -m benchmarks.tradeoff`."""

    checkpoints: tuple[Path, ...] = ()
    reports: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    tradeoff: tuple[Path, ...] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentError(f"{message}; allowed after -- are {USAGE}")


def read_arguments(argv: Sequence[str]) -> Arguments:
    """What stands after `--` in `streamlit run app/main.py -- USAGE`.

    Raises:
        ArgumentError: an unknown argument, a path that is not there, or data that are no corpus.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name in OPTIONS:
        parser.add_argument(f"--{name}", type=_named, action="append", default=[])
    found = vars(parser.parse_args(argv))
    for name, paths in found.items():
        for path in paths:
            if not path.exists():
                raise ArgumentError(f"--{name}: {path.name}: no such file or folder")
            if name == "data" and not holds_corpus(path):
                raise ArgumentError(
                    f"--data: {path.name}: not a corpus in ERASER layout: a folder with docs/ or docs.jsonl, or an "
                    f"archive ({', '.join(ARCHIVE_SUFFIXES)}) of one"
                )
    # A job has another working directory, and messages may hold either form of a path.
    return Arguments(**{name: tuple(path.resolve() for path in found[name]) for name in OPTIONS})


def _named(text: str) -> Path:
    if not text:  # of a variable that is not set; as a path it would be the working directory
        raise argparse.ArgumentTypeError("got an empty name")
    return Path(text)


def command(arguments: Arguments) -> str:
    """What starts the page with these arguments, with DIR for a folder that `public_name` does not name."""
    given = [(name, path) for name in OPTIONS for path in getattr(arguments, name)]
    words = [word for name, path in given for word in (f"--{name}", shlex.quote(public_name(path, OPTIONS[name])))]
    return " ".join(["streamlit run app/main.py", *(["--"] if words else []), *words])


def list_checkpoints(folders: Sequence[Path]) -> dict[str, Path]:
    """AdapLeR models in these folders and up to two levels below, by the name the menu shows; the default first.

    A folder whose config.json cannot be read is listed too: choosing it says what is wrong with it.
    """
    named = ((name, path) for name, path in holding(CONFIG, folders) if _may_be_adapler(path / CONFIG))
    found = told_apart(named)
    return {name: found[name] for name in sorted(found, key=lambda name: name != DEFAULT_CHECKPOINT)}


def list_corpora(named: Sequence[Path]) -> dict[str, Path]:
    """Those named on the command line, then the embedded sample, then the movies where they were downloaded."""
    titles = {path.resolve(): title for title, path in CORPORA.items()}
    paths = dict.fromkeys(path.resolve() for path in (*named, *CORPORA.values()) if holds_corpus(path))
    return told_apart((titles.get(path, path.name), path) for path in paths)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model in evaluation mode and its tokenizer, shared between sessions and never changed.

    model: what says a verdict and drops tokens; its layers are in the number format `dtype`.
    key: tells it from all others, from other formats, and from what was in its folder before.
    dtype: "float32" or "bfloat16".
    exact: the same model in float32, which scoring methods read; `model` itself in float32.
    lock: held for every call: scoring methods switch the model's attention for the time of theirs.
    """

    model: Any
    tokenizer: Any
    key: str
    dtype: str = "float32"
    exact: Any = None
    lock: Any = field(default_factory=RLock)

    def __post_init__(self) -> None:
        if self.exact is None:
            object.__setattr__(self, "exact", self.model)

    @cached_property
    def weights(self) -> str:
        """The first 16 digits of the checksum by which a report names the checkpoint, see `adapler_checksum`; the same
        in every number format."""
        return f"sha256:{checksums(None, self.exact)['adapler'][:16]}"


HASH_CHECKPOINT: dict[Any, Any] = {Checkpoint: lambda checkpoint: checkpoint.key}  # for st.cache_data


def find_checkpoint(found: Mapping[str, Path], name: str, *, dtype: str = "float32") -> Checkpoint:
    """The model of a name in the menu, in a number format; "auto" asks the device that it is on.

    Raises:
        CheckpointError: the folder holds no AdapLeR model, or a damaged one.
    """
    folder = found[name]
    try:
        checkpoint = load_checkpoint(folder)
        chosen = choose_dtype(dtype, checkpoint.model.device)
        return checkpoint if chosen == checkpoint.dtype else _in_format(checkpoint, chosen)
    except CheckpointError as error:
        raise CheckpointError(without_path(error, folder, name)) from error


def load_checkpoint(folder: Path) -> Checkpoint:
    """The model in a folder. Raises CheckpointError."""
    return _load_checkpoint(str(folder), hash(_stamped(folder, *TOKENIZER)))  # one written anew is loaded anew


@st.cache_resource(max_entries=3, show_spinner="Loading the model ...")
def _load_checkpoint(folder: str, version: int) -> Checkpoint:
    return read_checkpoint(Path(folder), version=version)


# By the model itself, which the result keeps alive: one that was forgotten and read anew has another.
@st.cache_resource(max_entries=3, show_spinner=False, hash_funcs={Checkpoint: lambda checkpoint: id(checkpoint.model)})
def _in_format(checkpoint: Checkpoint, dtype: str) -> Checkpoint:
    """The same in another format: weights of the layers are copied, all others are shared."""
    with checkpoint.lock:
        model = checkpoint.model.for_inference(dtype=dtype)
    return Checkpoint(
        model, checkpoint.tokenizer, f"{checkpoint.key}:{dtype}", dtype, exact=checkpoint.model, lock=checkpoint.lock
    )


def read_checkpoint(folder: Path, *, version: int = 0) -> Checkpoint:
    """The model in a folder, read anew; `version` becomes part of its key. Raises CheckpointError."""
    try:
        model = AdapLeRForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = cutting(load_tokenizer(folder), "right")
        highest, size = max(tokenizer.get_vocab().values()), model.backbone.get_input_embeddings().num_embeddings
        if highest >= size:  # some text would end in an error, in whatever view it is looked at
            raise CheckpointError(
                f"{folder}: its tokenizer gives ids up to {highest}, but the model has {size} wordpieces: it is "
                "another model's"
            )
        return Checkpoint(model, tokenizer, f"{folder}:{version}")
    except AdapLeRError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # damaged files end in errors of safetensors, json, tokenizers, torch ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{folder}: cannot be loaded ({reason:.160})") from error


def adapler_checksum(folder: Path) -> str | None:
    """The checksum of a checkpoint by which a report of `analysis.rationale_eval` names it in its `checksums`; None of
    a damaged one. It is of the weights as they are loaded: the first time takes as long as to load them."""
    return _adapler_checksum(folder, _stamped(folder, *TOKENIZER))


@lru_cache(maxsize=64)
def _adapler_checksum(folder: Path, _: tuple[Stamp, ...]) -> str | None:
    try:
        return checksums(None, read_checkpoint(folder).model)["adapler"]
    except CheckpointError:
        return None


def weights_checksum(folder: Path) -> str:
    """sha256 of a checkpoint's weights and configuration, its first 16 digits. A damaged folder has one too."""
    return _checksum(_stamped(folder))


def _stamped(folder: Path, *more: str) -> tuple[Stamp, ...]:
    """The stamps of a checkpoint's weights and configuration, and of its files of `more` patterns."""
    files = (path for pattern in ("*.safetensors", CONFIG, *more) for path in sorted(folder.glob(pattern)))
    return tuple(stamp(path) for path in files if path.is_file())


def model_checksum(folder: Path) -> str | None:
    """The checksum of a checkpoint by which `adapler evaluate` names it in what it writes."""
    return _model_checksum(folder, tuple(stamp(path) for path in sorted(folder.glob("*.safetensors"))))


@lru_cache(maxsize=64)
def _model_checksum(folder: Path, _: tuple[Stamp, ...]) -> str | None:
    from adapler.training.records import model_checksum  # a second of imports, for one view only

    return model_checksum(folder)


@lru_cache(maxsize=64)
def _checksum(files: tuple[Stamp, ...]) -> str:
    digest = hashlib.sha256()
    for path, *_ in files:
        with open(path, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def find_corpus(found: Mapping[str, Path], name: str) -> EraserCorpus:
    """The corpus of a name in the menu. Raises DataError for what is not a corpus in ERASER layout."""
    try:
        path = found[name]
        # One written anew is read anew: its splits, and its folders, whose time tells of files that came, went or were
        # replaced. To look at thousands of documents at every rerun would take a quarter of a second.
        parts = [path, *(sorted(path.glob("*")) if path.is_dir() else ())]
        return load_corpus(path, hash(tuple(map(stamp, parts))))
    except OSError as error:  # of a file that went while it was looked at
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error
    except AdapLeRError as error:
        raise DataError(without_path(error, found[name], name)) from error


# A resource and not data: a corpus is frozen, and cached data is copied at every rerun of the page.
@st.cache_resource(max_entries=4, show_spinner="Reading the corpus ...")
def load_corpus(path: Path, version: int) -> EraserCorpus:
    """Raises DataError for what is not a corpus in ERASER layout."""
    return read_corpus(path)


def public_name(path: Path, name: str) -> str:
    """A path inside the repository as it is typed there; any other is called `name`, not by its folders."""
    absolute = path.resolve()
    return absolute.relative_to(ROOT).as_posix() if absolute.is_relative_to(ROOT) else name


def without_path(error: Exception | str, path: Path, name: str) -> str:
    """An error's message for a browser, which has no business to know where on the server things are. A relative path
    says nothing of that, and may be a part of other words."""
    message = str(error).replace(str(path.resolve()), name)
    return message.replace(str(path), name) if path.is_absolute() else message


def _may_be_adapler(config: Path) -> bool:
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(read, dict) and read.get("model_type", "adapler") == "adapler"
