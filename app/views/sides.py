"""Side by side: the same text at two threshold scales or in two models, or two texts, under one slider."""

from __future__ import annotations

import streamlit as st

from adapler.errors import AdapLeRError
from app import aligning, loading, markup, player
from app import context as shared
from app.context import KEPT, MAX_SCALE, OWN, Context
from app.documents import Document
from app.joining import join_words
from app.tracing import Trace

KINDS = ("Threshold scale", "Checkpoint", "Text")


def render(context: Context) -> None:
    context.head.html(markup.title("Side by side", "Words that only one side still reads have a dashed frame."))
    document, trace = context.read()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control("What differs", KINDS, default=KINDS[0], key="differs", required=True, **KEPT)
        try:
            other = _other(context, document, str(kind))
        except AdapLeRError as error:  # the text on the right cannot be read
            shared.problem(error)
            return
    if other is None:
        return
    left_name = {KINDS[0]: f"scale {context.scale:g}", KINDS[1]: context.name, KINDS[2]: document.name}[str(kind)]
    right_name, right = other
    _draw((left_name, trace), (right_name, right))
    st.caption(markup.literal(f"Left: {context.subject()}"))


def _other(context: Context, document: Document, kind: str) -> tuple[str, Trace] | None:
    checkpoint = context.model
    if kind == KINDS[0]:
        scale = float(st.slider("On the right", 0.0, MAX_SCALE, value=0.5, step=0.05, key="scale2", **KEPT))
        return f"scale {scale:g}", loading.load_trace(checkpoint, document, threshold_scale=scale)
    if kind == KINDS[1]:
        names = [name for name in context.checkpoints if name != context.name]
        if not names:
            st.info("There is no other checkpoint: `streamlit run app/main.py -- --checkpoints DIR` names more.")
            return None
        name = str(st.selectbox("On the right", names, key="checkpoint2", **KEPT))
        there = loading.find_checkpoint(context.checkpoints[name], name, dtype=checkpoint.dtype)
        return name, loading.load_trace(there, document, threshold_scale=context.scale)
    texts = {name: one for name, one in (context.texts or {}).items() if name not in (OWN, st.session_state.document)}
    if not texts:
        st.info("There is no other text: choose a corpus under Settings.")
        return None
    second = texts[str(st.selectbox("On the right", list(texts), key="document2", **KEPT))]
    start, end = loading.load_parts(checkpoint, second)[0]
    return second.name, loading.load_trace(checkpoint, second.between(start, end), threshold_scale=context.scale)


def _draw(left: tuple[str, Trace], right: tuple[str, Trace]) -> None:
    """Both sides under one slider, what differs in numbers, and the words that only one of them reads to the end."""
    (name, trace), (other_name, other) = left, right
    first, second = join_words(trace), join_words(other)
    there, back = aligning.align(first, second)
    panels = [
        player.side_panel(one, title=title, match=match, marks=aligning.differs(one, another, match))
        for one, another, title, match in ((first, second, name, there), (second, first, other_name, back))
    ]
    player.show(player.beside(panels[0], panels[1], first, second), key="player-sides")
    st.html(markup.before_after(trace, other, names=(name, other_name)))
    for title, one, another, match in ((name, first, second, there), (other_name, second, first, back)):
        words = ", ".join(aligning.read_only_here(one, another, match)) or "no word"
        st.markdown(f"**Read to the end only with {markup.literal(title)}:** {markup.literal(words)}")
