"""What the models say, kept for the next rerun: texts, sweeps over the threshold scale, scores.

Everything is looked up by its content (the checkpoint, the text, the settings), bounded, computed while the
checkpoint's lock is held, and kept for the session only: a text of the user's own goes when the session ends.
"""

from __future__ import annotations

import copy

import pandas as pd
import streamlit as st

from analysis.scores import get_method
from app.markup import export
from app.model import comparing, measuring, tracing
from app.server import locks
from app.sources import documents
from app.sources.documents import Document
from app.sources.loading import HASH_CHECKPOINT, Checkpoint


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
    return documents.parts_of(document, checkpoint.tokenizer, limit=limit)


@st.cache_data(max_entries=64, show_spinner="Scoring ...", hash_funcs=HASH_CHECKPOINT, scope="session")
def load_comparison(
    checkpoint: Checkpoint, document: Document, method: str, *, threshold_scale: float
) -> comparing.Comparison:
    """`comparing.compare`. Raises ArgumentError for a method that this document or model cannot be scored with."""
    if not comparing.is_dear(get_method(method)):
        with checkpoint.lock:
            return comparing.compare(
                checkpoint.model, checkpoint.tokenizer, document, method, threshold_scale=threshold_scale
            )
    # Hundreds of passes: on a copy, so that nobody else waits for them, and one at a time, so that a server holds
    # one copy at most.
    with locks.DEAR:
        with checkpoint.lock:
            model = copy.deepcopy(checkpoint.model)
        return comparing.compare(model, checkpoint.tokenizer, document, method, threshold_scale=threshold_scale)


@st.cache_data(max_entries=32, show_spinner="Trying every budget ...", hash_funcs=HASH_CHECKPOINT, scope="session")
def load_sweep(checkpoint: Checkpoint, document: Document) -> pd.DataFrame:
    """`measuring.sweep` over the whole range of the slider."""
    with checkpoint.lock:
        return measuring.sweep(checkpoint.model, checkpoint.tokenizer, document.words, query=document.query_words)


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
def load_preview(_trace: tracing.Trace, document: Document, key: str, *, scale: float, joined: bool, lines: int) -> str:
    """`export.preview` of a trace, known by what it was made from: `key` is the checkpoint's."""
    return export.preview(_trace, document, lines=lines)
