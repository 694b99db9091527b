"""Layer by layer: all layers under each other, one of them large with a slider and a play button, or as numbers."""

from __future__ import annotations

import time

import streamlit as st

from app.markup import cards, export, render
from app.model.tracing import Trace, join_words
from app.server import state

SECONDS_PER_LAYER = 1.1


def show(trace: Trace) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        chosen = st.segmented_control("Show", state.SHOWS, key="show", required=True, label_visibility="collapsed")
    with right:
        joined = st.toggle(
            "Whole words",
            key="joined",
            help="Wordpieces joined: a word has the sum of their scores and is kept while one of them is. "
            "Words are counted then, a special token as one.",
        )
    drawn = join_words(trace) if joined else trace
    if chosen == state.NUMBERS:
        numbers(drawn)
        return
    st.html(render.legend(drawn))
    if chosen == state.ONE_LAYER and trace.layers > 1:
        one_layer(drawn)
    else:
        st.html(render.layer_grid(drawn))


def one_layer(trace: Trace) -> None:
    """One layer at a time; while it plays, a timer runs this fragment again and not the whole page."""
    playing = bool(st.session_state.playing)
    st.fragment(_one_layer, run_every=SECONDS_PER_LAYER if playing else None)(trace, ticking=playing)


def layer_slider(layers: int) -> int:
    """The layer that this view and the comparison look at; numbered from 0, as in the paper."""
    _stay_within(layers - 1)
    return int(st.slider("Layer", 0, layers - 1, key="layer")) if layers > 1 else 0


def _stay_within(last: int) -> None:
    # Assigned only where it must change: an assignment overrules the presses that came while this run was drawn.
    if st.session_state.get("layer", 0) > last:
        st.session_state.layer = last


def numbers(trace: Trace) -> None:
    """The table of the layers, and how many tokens are left, as bars."""
    left, right = st.columns([3, 2])
    with left:
        st.dataframe(
            export.layer_table(trace),
            hide_index=True,
            column_config={
                "present": st.column_config.NumberColumn(help="The n of 1/n: what the layer's predictor reads."),
                "threshold": st.column_config.NumberColumn(
                    format="%.5f",
                    help="A wordpiece with a lower score is dropped, and a word with the last of its wordpieces.",
                ),
                "FLOPs share": st.column_config.NumberColumn(
                    format="percent", help="Of all encoder layers with their predictors."
                ),
                "speedup": st.column_config.NumberColumn(
                    format="%.1fx", help="The same layer on the whole text, divided by this layer and its predictor."
                ),
            },
        )
    with right:
        st.html(cards.length_bars(trace))


def _one_layer(trace: Trace, *, ticking: bool) -> None:
    remembered, last = st.session_state, trace.layers - 1
    _stay_within(last)
    if remembered.playing and time.monotonic() >= remembered.due:
        if remembered.layer < last:
            remembered.layer, remembered.due = remembered.layer + 1, time.monotonic() + 0.9 * SECONDS_PER_LAYER
        else:
            remembered.playing = False
    if remembered.playing != ticking:
        st.rerun()  # the whole page, which starts or stops the timer
    left, right = st.columns([7, 1], vertical_alignment="bottom")
    with left:
        layer = layer_slider(trace.layers)
    right.button("Stop" if ticking else "Play", width="stretch", key="play", on_click=_toggle, args=[last])
    st.html(f'<div class="al-large">{render.layer_row(trace, layer)}</div>')


def _toggle(last: int) -> None:
    """Start or stop playing; from the last layer it starts over."""
    remembered = st.session_state
    remembered.playing, remembered.due = not remembered.playing, time.monotonic() + SECONDS_PER_LAYER
    if remembered.playing and remembered.layer == last:
        remembered.layer = 0
