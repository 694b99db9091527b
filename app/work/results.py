"""What the models say, kept for the next rerun: texts, sweeps over the threshold scale, timings, scores.

Everything is looked up by its content (the checkpoint, the text, the settings), bounded, and computed while the
checkpoint's lock is held.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pandas as pd
import streamlit as st

from app.html import export
from app.model import comparing, measuring, tracing
from app.sources import documents
from app.sources.documents import Document
from app.sources.loading import HASH_CHECKPOINT, Checkpoint


@st.cache_data(max_entries=64, show_spinner="Running the model ...", hash_funcs=HASH_CHECKPOINT)
def load_trace(checkpoint: Checkpoint, document: Document, *, threshold_scale: float) -> tracing.Trace:
    """`tracing.trace` of a document with some word in it."""
    with checkpoint.lock:
        return tracing.trace(
            checkpoint.model,
            checkpoint.tokenizer,
            document.words,
            rationale=document.rationale,
            threshold_scale=threshold_scale,
        )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=HASH_CHECKPOINT)
def load_parts(checkpoint: Checkpoint, document: Document) -> tuple[tuple[int, int], ...]:
    """`documents.parts_of` for this model's limit."""
    limit = tracing.read_limit(checkpoint.model, checkpoint.tokenizer)
    return documents.parts_of(document, checkpoint.tokenizer, limit=limit)


@st.cache_data(max_entries=64, show_spinner="Scoring ...", hash_funcs=HASH_CHECKPOINT)
def load_comparison(
    checkpoint: Checkpoint, document: Document, method: str, *, threshold_scale: float
) -> comparing.Comparison:
    """`comparing.compare`. Raises ArgumentError for a method that this document or model cannot be scored with."""
    model, guard = checkpoint.model, checkpoint.lock
    if comparing.is_dear(comparing.get_method(method)):  # a copy: nobody else has to wait for hundreds of passes
        with guard:
            model, guard = copy.deepcopy(model), nullcontext()
    with guard:
        return comparing.compare(model, checkpoint.tokenizer, document, method, threshold_scale=threshold_scale)


@st.cache_data(max_entries=32, show_spinner="Trying every budget ...", hash_funcs=HASH_CHECKPOINT)
def load_sweep(checkpoint: Checkpoint, document: Document) -> pd.DataFrame:
    """`measuring.sweep` over the whole range of the slider."""
    with checkpoint.lock:
        return measuring.sweep(checkpoint.model, checkpoint.tokenizer, document.words)


@st.cache_data(max_entries=64, show_spinner="Measuring ...", hash_funcs=HASH_CHECKPOINT)
def load_timing(checkpoint: Checkpoint, document: Document, *, threshold_scale: float) -> measuring.Timing:
    """`measuring.measure`."""
    with checkpoint.lock:
        return measuring.measure(
            checkpoint.model, checkpoint.tokenizer, document.words, threshold_scale=threshold_scale
        )


@st.cache_data(max_entries=16, show_spinner="Drawing ...")
def load_figure(
    _trace: tracing.Trace, document: Document, key: str, *, scale: float, joined: bool, kind: str, lines: int
) -> bytes | str:
    """`export.figure` of a trace, or its preview, known by what it was made from: `key` is the checkpoint's."""
    if kind == "preview":
        return export.preview(_trace, document, lines=lines)
    return export.figure(_trace, document, kind=kind, lines=lines)
