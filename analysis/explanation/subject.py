"""What is explained: a classifier or AdapLeR with its tokenizer, from an object, a folder or a hub name.

The model that was loaded last by its name stays in memory, so that a notebook that explains one sentence after the
other loads it once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging

from adapler import AdapLeRForSequenceClassification
from adapler.backbones.checkpoints import read_config
from adapler.data.encoding import check_splits_words, load_tokenizer
from adapler.errors import ArgumentError
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
        config = self.classifier.config
        return tuple(str(config.id2label[index]) for index in range(config.num_labels))


@contextmanager
def subject_of(model: Any, tokenizer: Any, *, words: bool, device: str) -> Iterator[Subject]:
    """The models, and a tokenizer that splits a string as the model's own pipeline does, or goes word by word.

    Nobody else has the model until the block ends. It is kept for the next call only if it ended without an error and
    left every weight as it was, since a method may be anybody's.

    Raises:
        ArgumentError, CheckpointError: a model that cannot be explained, or has no tokenizer.
    """
    source = loading.default_adapler() if model is None else model
    if tokenizer is not None or not isinstance(source, str | os.PathLike):
        yield _load(source, tokenizer, words=words, device=device)
        return
    origin = os.path.expanduser(os.fspath(source))
    key = (origin, words, device, _files(origin))
    subject = _take(key)
    if subject is None:
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # of loading weights; it would stand above each explanation
        try:
            subject = _load(source, None, words=words, device=device)
        finally:
            if shown:
                logging.enable_progress_bar()
    before = _state(subject)
    yield subject
    if _state(subject) == before:
        _kept[:] = [(key, subject)]


def _load(source: Any, tokenizer: Any, *, words: bool, device: str) -> Subject:
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
    """What lies in a model's folder; of a hub name nothing, whose files do not change in a session."""
    if not os.path.isdir(origin):
        return ()
    found = ((entry.name, entry.stat()) for entry in os.scandir(origin) if entry.is_file())
    where = os.path.realpath(origin)
    return where, *sorted((name, state.st_size, state.st_mtime_ns) for name, state in found)


def _state(subject: Subject) -> Key:
    """What writing into a weight, replacing it, or switching a mode changes."""
    models = [one for one in (subject.classifier, subject.adapler) if one is not None]
    weights = tuple((one.data_ptr(), one._version) for model in models for one in model.parameters())
    modes = tuple(module.training for model in models for module in model.modules())
    hooks = tuple(len(module._forward_hooks) + len(module._forward_pre_hooks) for m in models for module in m.modules())
    return weights, modes, hooks
