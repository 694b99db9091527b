"""A tour of four steps, in a strip above the view: each does what it says."""

from __future__ import annotations

import streamlit as st

STEPS = (
    (
        "layers",
        "Press **Play**: before each layer the tokens that the model does without fade. Click a word for its score.",
    ),
    ("what_if", "Click a word and press **Apply**: the text is read again without it, and what changes stands on top."),
    (
        "story",
        "The blue line is what people marked, the rows are what methods score. Move the layer: the order changes.",
    ),
    (
        "trust",
        "One text proves nothing: here is a whole split, with the documents on which removal changes the verdict.",
    ),
)


def show() -> None:
    step = st.session_state.get("step")
    if step is None:
        return
    name, said = STEPS[step]
    with st.container(horizontal=True, border=True, vertical_alignment="center", key="tour-strip"):
        st.markdown(f"{step + 1} of {len(STEPS)}. {said}")
        last = step + 1 == len(STEPS)
        st.button("Done" if last else "Next", key="tour-next", on_click=_go, args=[None if last else step + 1])
        if not last:
            st.button("Close", key="tour-close", on_click=_go, args=[None])


def _go(step: int | None) -> None:
    st.session_state.step = step
    if step is not None:
        st.session_state.go = STEPS[step][0]
