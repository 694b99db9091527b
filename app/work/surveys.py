"""Whole splits through a checkpoint, kept for all sessions: the documents are the server's, never a user's own."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from adapler.eraser import EraserCorpus
from app.model.survey import Survey
from app.sources import documents
from app.sources.loading import Checkpoint

MOST = 8  # surveys that are kept; one of 2,000 reviews takes some MB

_kept: OrderedDict[tuple[str, str, str, float], Survey] = OrderedDict()
_lock = Lock()


def find(checkpoint: Checkpoint, corpus: EraserCorpus, *, title: str, split: str, scale: float) -> Survey:
    """The survey of a split of a corpus, as far as it has come; `title` is the corpus's in the menu."""
    key = (checkpoint.key, f"{title} {corpus.checksum}", split, scale)
    with _lock:
        if key not in _kept:
            found = documents.of_split(corpus, split, title=title)
            _kept[key] = Survey(found, threshold_scale=scale)
            while len(_kept) > MOST:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]


def advance(checkpoint: Checkpoint, survey: Survey) -> None:
    """One batch, while the checkpoint's lock is held."""
    with checkpoint.lock:
        survey.advance(checkpoint.model, checkpoint.tokenizer)
