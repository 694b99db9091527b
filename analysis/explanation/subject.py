"""What is explained: a classifier or AdapLeR with its tokenizer, from an object, a folder or a hub name.

The model that was loaded last by its name stays in memory, so that a notebook that explains one sentence after the
other with methods of the registry loads it once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapler import AdapLeRForSequenceClassification
from adapler.backbones import label_names
from adapler.backbones.loading import read_config
from adapler.errors import ArgumentError
from adapler.text import check_splits_words, load_tokenizer
from analysis import loading
from analysis.explanation.arguments import check_classifier

Key = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """classifier: the plain one, None when no model is needed; labels: its C classes' names."""

    classifier: Any
    adapler: Any
    tokenizer: Any
    name: str

    @property
    def labels(self) -> tuple[str, ...]:
        if self.classifier is None:
            return ()
        return tuple(label_names(self.classifier.config))


@contextmanager
def subject_of(model: Any, tokenizer: Any, *, words: bool, device: str, keep: bool) -> Iterator[Subject]:
    """The models, and a tokenizer that splits a string as the model's own pipeline does, or goes word by word.

    Args:
        model, tokenizer, device: as of `explain`.
        words: whether the text is a list of words.
        keep: whether what runs in the block leaves a model as it was. Then one that was loaded by its name is kept for
            the next call, unless the block ends in an error. Nobody else has it before that.

    Raises:
        ArgumentError, CheckpointError: a model that cannot be explained, whose labels have no names of their own, or
            that has no tokenizer; no such device.
    """
    source = loading.default_adapler() if model is None else model
    if tokenizer is not None or not isinstance(source, str | os.PathLike):
        yield _load(source, tokenizer, words=words, device=device)
        return
    origin = os.path.expanduser(os.fspath(source))
    key = (words, str(loading.choose_device(device)), *_files(origin))
    subject = _take(key) or _load(source, None, words=words, device=device)
    yield subject
    if keep:
        _kept[:] = [(key, subject)]


def _load(source: Any, tokenizer: Any, *, words: bool, device: str) -> Subject:
    source = loading.uncompiled(source)
    if isinstance(source, str | os.PathLike):
        origin = os.path.expanduser(os.fspath(source))
        is_adapler = read_config(origin).model_type == "adapler"
    else:
        is_adapler = isinstance(source, AdapLeRForSequenceClassification)
        if not is_adapler:
            check_classifier(source)
        origin = str(getattr(source, "name_or_path", "") or "")
    if tokenizer is None:
        if not origin:
            raise ArgumentError("tokenizer: the model does not say where it came from; pass tokenizer=")
        tokenizer = load_tokenizer(origin, words=words)
    elif words:
        check_splits_words(tokenizer)
    classifier, adapler, tokenizer = loading.load_models(
        None if is_adapler else source, source if is_adapler else None, tokenizer, device=device
    )
    label_names(classifier.config)  # of two classes of one name the answer would have the wrong probability
    return Subject(classifier, adapler, tokenizer, _public_name(origin) if origin else type(source).__name__)


def _public_name(origin: str) -> str:
    """A model's name as a file may show it to others: a hub name, or a folder without what lies above it."""
    return Path(origin).absolute().name if Path(origin).is_dir() else origin


_kept: list[tuple[Key, Subject]] = []  # one at most, and none while it is in use


def _take(key: Key) -> Subject | None:
    """The subject that was kept, if it is that one; another one is let go before its successor is loaded."""
    try:
        kept, subject = _kept.pop()
    except IndexError:
        return None
    return subject if kept == key else None


def _files(origin: str) -> Key:
    """A model's folder and what lies in it; a hub name, whose files do not change in a session."""
    if not os.path.isdir(origin):
        return (origin,)
    found = ((entry.name, entry.stat()) for entry in os.scandir(origin) if entry.is_file())
    where = os.path.realpath(origin)
    return where, *sorted((name, state.st_size, state.st_mtime_ns) for name, state in found)
