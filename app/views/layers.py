"""Layer by layer: the text as it loses its tokens, layer after layer, all layers at once, or as numbers."""

from __future__ import annotations

import streamlit as st

from app import export, joining, markup, player
from app.context import KEPT, Context
from app.edits import start

SHOWN = ("One layer", "All layers", "Numbers")


def render(context: Context) -> None:
    document, trace = context.read()
    context.head.html(markup.headline(trace, document))
    drawn = context.in_units()
    place = st.container()
    with st.container(horizontal=True, vertical_alignment="center"):
        shown = st.segmented_control(
            "Show",
            SHOWN,
            default=SHOWN[0],
            key="show",
            required=True,
            label_visibility="collapsed",
            **KEPT,
        )
        st.html(markup.legend(drawn))
    st.caption(markup.literal(context.subject()))
    with place:
        if shown == "Numbers":
            _numbers(context)
        else:
            mode = player.ALL if shown == "All layers" else player.ONE
            st.fragment(_text)(context, mode=mode)


def _text(context: Context, *, mode: str) -> None:
    drawn, (document, _) = context.in_units(), context.read()
    token = player.show(player.drawn(drawn, [player.layers_panel(drawn)], mode=mode, plays=True), key="player")
    if token is not None and drawn.words[token] >= 0:
        words = joining.words_of(drawn, token)
        said = "this sentence" if len(words) > 1 else document.words[words[0]]
        label = markup.literal(f"What happens without {said}?")
        if st.button(label, key="without", on_click=start, args=[document, words]):
            st.rerun()


def _numbers(context: Context) -> None:
    st.dataframe(
        export.layer_table(context.in_units()),
        hide_index=True,
        column_config={
            "threshold": st.column_config.NumberColumn(
                format="%.5f", help="A wordpiece with a lower score is dropped."
            ),
            "FLOPs share": st.column_config.NumberColumn(format="percent", help="Of all encoder layers."),
            "speedup": st.column_config.NumberColumn(format="%.1fx", help="Of this layer, against the whole text."),
        },
    )
