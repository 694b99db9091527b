"""What the models say, kept for the next rerun: texts, sweeps over the threshold scale, scores.

Everything is looked up by its content (the checkpoint, the text, the settings), bounded, computed while the
checkpoint's lock is held (batch by batch where it takes long), and kept for the session only: a text of the user's own
goes when the session ends.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from adapler.errors import AdapLeRError
from analysis.scores import get_method
from app.markup import export
from app.model import comparing, faithful, measuring, tracing, verdicts, watching
from app.model.edits import Edit, Edited, apply
from app.server import locks
from app.sources import documents
from app.sources.documents import Document
from app.sources.loading import HASH_CHECKPOINT, Checkpoint

SECONDS_PER_LOOK = 0.3  # while one waits for a method of many passes


@st.cache_data(max_entries=64, show_spinner="Running the model ...", hash_funcs=HASH_CHECKPOINT, scope="session")
def load_trace(checkpoint: Checkpoint, document: Document, *, threshold_scale: float) -> tracing.Trace:
    """`tracing.trace` of a document with some word in it."""
    with checkpoint.lock:
        return tracing.trace(
            checkpoint.model,
            checkpoint.tokenizer,
            document.words,
            rationale=document.rationale,
            query=document.query_words,
            threshold_scale=threshold_scale,
        )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=HASH_CHECKPOINT, scope="session")
def load_parts(checkpoint: Checkpoint, document: Document) -> tuple[tuple[int, int], ...]:
    """`documents.parts_of` for this model's limit."""
    limit = tracing.read_limit(checkpoint.model, checkpoint.tokenizer)
    with checkpoint.lock:  # a tokenizer holds how it truncates
        return documents.parts_of(document, checkpoint.tokenizer, limit=limit)


@st.cache_data(max_entries=64, show_spinner="Scoring ...", hash_funcs=HASH_CHECKPOINT, scope="session")
def load_comparison(
    checkpoint: Checkpoint, document: Document, method: str, *, threshold_scale: float
) -> comparing.Comparison:
    """`comparing.compare`. Raises ArgumentError for a method that this document or model cannot be scored with."""
    with checkpoint.lock:
        return comparing.compare(
            checkpoint.exact,
            checkpoint.tokenizer,
            document,
            method,
            threshold_scale=threshold_scale,
            dtype=checkpoint.dtype,
        )


def load_comparisons(
    checkpoint: Checkpoint, document: Document, methods: Sequence[str], *, threshold_scale: float
) -> dict[str, comparing.Comparison]:
    """By name, those of the methods that take few passes and can be computed for this document, each once."""
    found = {}
    for name in comparing.distinct(checkpoint.exact, methods):
        method = get_method(name)
        if comparing.is_dear(method):
            continue
        scale = threshold_scale if "adapler" in method.needs else 1.0  # the others score the model without removal
        try:
            found[name] = load_comparison(checkpoint, document, name, threshold_scale=scale)
        except AdapLeRError:
            continue
    return found


def score_dearly(
    checkpoint: Checkpoint, document: Document, method: str, *, tell: Callable[[int], None]
) -> comparing.Comparison:
    """`comparing.compare` for a method of many passes, not cached; `tell` hears how many are done, and ends it by
    raising. On copies of the model and its tokenizer, so that nobody else waits for the passes, and one at a time, so
    that a server holds one copy at most.
    """
    while not locks.DEAR.acquire(timeout=SECONDS_PER_LOOK):
        tell(0)
    try:
        with checkpoint.lock:
            model, tokenizer = copy.deepcopy(checkpoint.exact), copy.deepcopy(checkpoint.tokenizer)
        with watching.counted(model, tell):
            return comparing.compare(model, tokenizer, document, method)
    finally:
        locks.DEAR.release()


@st.cache_data(max_entries=32, show_spinner="Trying every budget ...", hash_funcs=HASH_CHECKPOINT, scope="session")
def load_sweep(checkpoint: Checkpoint, document: Document) -> pd.DataFrame:
    """`measuring.sweep` over the whole range of the slider."""
    with checkpoint.lock:
        return measuring.sweep(checkpoint.model, checkpoint.tokenizer, document.words, query=document.query_words)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=HASH_CHECKPOINT, scope="session")
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


@st.cache_data(max_entries=8, show_spinner="Taking tokens away ...", hash_funcs=HASH_CHECKPOINT, scope="session")
def load_faithfulness(
    checkpoint: Checkpoint, document: Document, methods: tuple[str, ...], *, threshold_scale: float
) -> tuple[pd.DataFrame, float, str]:
    """`faithful.table` of the methods that take few passes."""
    trace = load_trace(checkpoint, document, threshold_scale=threshold_scale)
    found = load_comparisons(checkpoint, document, methods, threshold_scale=threshold_scale)
    with checkpoint.lock:
        return faithful.table(checkpoint.model, checkpoint.tokenizer, document, trace, found)


@st.cache_data(max_entries=8, show_spinner="Classifying every line ...", hash_funcs=HASH_CHECKPOINT, scope="session")
def load_verdicts(checkpoint: Checkpoint, found: tuple[Document, ...], *, threshold_scale: float) -> pd.DataFrame:
    """`verdicts.table` of the lines of a file; whoever else waits for the model waits for one batch."""
    return verdicts.table(
        checkpoint.model, checkpoint.tokenizer, found, threshold_scale=threshold_scale, lock=checkpoint.lock
    )


def measure(checkpoint: Checkpoint, document: Document, *, threshold_scale: float) -> measuring.Timing:
    """`measuring.measure`, anew each time: a measurement depends on what else the machine does."""
    with checkpoint.lock:
        return measuring.measure(
            checkpoint.model,
            checkpoint.tokenizer,
            document.words,
            query=document.query_words,
            threshold_scale=threshold_scale,
        )


@st.cache_data(max_entries=16, show_spinner="Drawing ...", scope="session")
def load_preview(
    _trace: tracing.Trace,
    document: Document,
    key: str,
    *,
    scale: float,
    unit: str,
    layout: export.Layout,
) -> str:
    """`export.preview` of a trace, known by what it was made from: `key` is the checkpoint's."""
    return export.preview(_trace, document, layout=layout)
