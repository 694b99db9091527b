"""Layer by layer: one layer large, with a play button, or all of them under each other, or as numbers."""

from __future__ import annotations

import streamlit as st

from app.markup import cards, export, render, strip
from app.markup import player as drawing
from app.model import joining
from app.model.tracing import ADAPLER, Trace
from app.panels import choosing, common, elsewhere, player, surveying
from app.server import state
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.views import compare, what_if
from app.work import results


def show(
    checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float, place: elsewhere.Place | None
) -> None:
    """place: where other uses of a word are looked for; None where there is no corpus."""
    if told := strip.strip(trace):
        st.html(told)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        chosen = st.segmented_control(
            "Show",
            state.SHOWS,
            default=state.ONE_LAYER,
            key="show",
            required=True,
            label_visibility="collapsed",
            bind="query-params",
        )
        player.choose_units()
    drawn = player.in_units(trace)
    if chosen == state.NUMBERS:
        numbers(drawn)
        return
    # a fragment: a token that is picked leaves the rest of the page alone
    mode = drawing.ALL if chosen == state.ALL_LAYERS else drawing.ONE
    stop = st.empty()
    with stop:
        surveying.stop()
    st.fragment(_text)(checkpoint, document, drawn, mode=mode, scale=scale, place=place)
    stop.empty()
    st.html(render.legend(drawn))


def talk(trace: Trace) -> None:
    """The player alone."""
    drawn = player.in_units(trace)
    data = drawing.drawn(drawn, [drawing.layers_panel(drawn)], talk=True)
    player.show(data, key="player-talk", leave=choosing.leave_talk)


def _text(
    checkpoint: Checkpoint,
    document: Document,
    drawn: Trace,
    *,
    mode: str,
    scale: float,
    place: elsewhere.Place | None,
) -> None:
    choosing.leave_fragment()
    token = player.show(drawing.drawn(drawn, [drawing.layers_panel(drawn)], mode=mode), key="player")
    if token is not None:
        word, sentence = int(drawn.words[token]), drawn.unit == joining.SENTENCES
        if word >= 0:  # above the table, which takes time and would push it away under the mouse
            said = "this sentence" if sentence else document.words[word]
            label = common.literal(f"What happens without {said}?")
            st.button(label, key="without", on_click=what_if.start, args=[document, joining.words_of(drawn, token)])
        found = results.load_comparisons(checkpoint, document, state.chosen_methods(), threshold_scale=scale)
        if found:
            player.token_table(drawn, found, token)
        if "cp" in found and drawn.policy != ADAPLER:
            st.caption(compare.of_another_policy(checkpoint, list(found), policy=drawn.policy))
        if word >= 0 and place is not None and not sentence:
            elsewhere.show(checkpoint, document.words[word], place, shown=document, layers=drawn.layers)


def numbers(trace: Trace) -> None:
    """The table of the layers, and how many tokens are left, as bars."""
    own = trace.policy == ADAPLER
    what = "its predictor" if own else "what decides in it"
    left, right = st.columns([3, 2])
    with left:
        st.dataframe(
            export.layer_table(trace),
            hide_index=True,
            column_config={
                "present": st.column_config.NumberColumn(
                    help=f"Those {trace.unit} that are left when it is decided which of them enter the layer."
                ),
                "threshold": st.column_config.NumberColumn(
                    "threshold" if own else "bar",
                    format="%.5f",
                    help="A wordpiece with a lower score is dropped, and a word with the last of its wordpieces.",
                ),
                "FLOPs share": st.column_config.NumberColumn(
                    format="percent", help=f"Of all encoder layers with {what}."
                ),
                "speedup": st.column_config.NumberColumn(
                    format="%.1fx", help=f"The same layer on the whole text, divided by this layer with {what}."
                ),
            },
        )
    with right:
        st.html(cards.length_bars(trace))
