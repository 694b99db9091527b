"""Side by side: one text at two scales or in two checkpoints, two texts, or a text and the edited text; one slider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import streamlit as st

from adapler.errors import AdapLeRError
from app.markup import cards, render
from app.markup import player as drawing
from app.model import aligning
from app.model.joining import join_words
from app.model.tracing import Trace
from app.panels import common, notes, player
from app.server import state
from app.sources import loading
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import results

Side = tuple[str, Trace]  # what it is called, and its trace of tokens


def show(
    checkpoint: Checkpoint,
    document: Document,
    trace: Trace,
    *,
    scale: float,
    name: str,
    checkpoints: Mapping[str, Path],
    others: Sequence[Document],
) -> None:
    """name: of the checkpoint in the menu `checkpoints`; others: the texts that may stand beside the document."""
    kind = st.pills(
        "What differs",
        state.DIFFERENCES,
        default=state.BY_SCALE,
        key="differs",
        required=True,
        bind="query-params",
        persist_state="session",
        help="The left side is what the sidebar has chosen. Words are compared; those that differ are dashed.",
    )
    # whatever differs: an address that asks for a difference that there is not may ask for these too
    state.found("checkpoint2", [one for one in checkpoints if one != name])
    state.found("document2", {one.name for one in others if one.name != document.name})
    sides: tuple[Side, Side] | None
    try:
        if kind == state.BY_SCALE:
            sides = _scales(checkpoint, document, trace, scale=scale)
        elif kind == state.BY_CHECKPOINT:
            sides = _checkpoints(checkpoint, document, trace, scale=scale, name=name, checkpoints=checkpoints)
        elif kind == state.BY_TEXT:
            sides = _texts(checkpoint, document, trace, scale=scale, others=others)
        else:
            sides = _edited(checkpoint, document, trace, scale=scale)
    except AdapLeRError as error:  # the text on the right cannot be read
        common.problem(error)
        return
    if sides is not None:
        _draw(*sides)


def _scales(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float) -> tuple[Side, Side]:
    second = float(
        st.slider(
            "Threshold scale on the right",
            0.0,
            state.MAX_SCALE,
            value=0.5,
            step=0.05,
            format=state.SCALE_FORMAT,
            key="scale2",
            bind="query-params",
            persist_state="session",
        )
    )
    other = results.load_trace(checkpoint, document, threshold_scale=second)
    return (f"Scale {scale:g}", trace), (f"Scale {second:g}", other)


def _checkpoints(
    checkpoint: Checkpoint,
    document: Document,
    trace: Trace,
    *,
    scale: float,
    name: str,
    checkpoints: Mapping[str, Path],
) -> tuple[Side, Side] | None:
    names = [one for one in checkpoints if one != name]
    if not names:
        st.info("There is no other checkpoint: name a folder with `streamlit run app/main.py -- --checkpoints DIR`.")
        return None
    second = st.selectbox(
        "Checkpoint on the right", names, key="checkpoint2", bind="query-params", persist_state="session"
    )
    there = loading.find_checkpoint(checkpoints, second, dtype=checkpoint.dtype)
    other = results.load_trace(there, document, threshold_scale=scale)
    if said := notes.cut(other):
        st.caption(f"On the right: {said}")
    return (name, trace), (second, other)


def _texts(
    checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float, others: Sequence[Document]
) -> tuple[Side, Side] | None:
    found = {one.name: one for one in others if one.name != document.name}
    if not found:
        st.info("There is no other text: choose a review at the side.")
        return None
    second = found[
        st.selectbox("Text on the right", list(found), key="document2", bind="query-params", persist_state="session")
    ]
    other = _first_part(checkpoint, second, scale=scale)
    return (document.name, trace), (second.name, other)


def _edited(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float) -> tuple[Side, Side] | None:
    if st.session_state.get("text2_of") != document:
        st.session_state.update(text2_of=document, text2=document.text)
    text = str(
        st.text_area(
            "The edited text",
            key="text2",
            persist_state="session",
            height=160,
            help="Change what you like and leave the box, or press Ctrl and Enter. It has no rationale of its own.",
        )
    )
    edited = common.shortened(replace(document, text=" ".join(text.split()), spans=(), name="edited text"))
    if not edited.words:
        st.info("No word is left.")
        return None
    return ("The text", trace), ("Edited", _first_part(checkpoint, edited, scale=scale))


def _first_part(checkpoint: Checkpoint, document: Document, *, scale: float) -> Trace:
    """The trace of as much as the model reads at once."""
    start, end = results.load_parts(checkpoint, document)[0]
    if end < len(document.words):
        st.caption(common.literal(f"Of {document.name} the first {end} words are shown: the model reads no more."))
    found = results.load_trace(checkpoint, document.part(start, end), threshold_scale=scale)
    if said := notes.cut(found):  # of a single word that is longer than the input
        st.caption(f"On the right: {said}")
    return found


def _draw(left: Side, right: Side) -> None:
    """Both sides under one slider, what differs in numbers, and the words that only one of them reads to the end."""
    (name, trace), (other_name, other) = left, right
    first, second = join_words(trace), join_words(other)
    state.layer_of(max(first.layers, second.layers))
    there, back = aligning.align(first, second)
    left_panel, right_panel = (
        drawing.side_panel(one, title=title, match=match, marks=aligning.differs(one, another, match))
        for one, another, title, match in ((first, second, name, there), (second, first, other_name, back))
    )
    player.show(drawing.beside(left_panel, right_panel, first, second), key="player-sides")
    st.html(render.legend(first, second))
    st.html(cards.before_after(trace, other, names=(name, other_name)))
    for title, one, another, match in ((name, first, second, there), (other_name, second, first, back)):
        words = ", ".join(aligning.read_only_here(one, another, match)) or "no word"
        st.markdown(f"**Read to the end only with {common.literal(title)}:** {common.literal(words)}")
