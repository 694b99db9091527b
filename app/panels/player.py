"""The player: the text at its layers, drawn in the browser; and the address of the page, which the browser keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from app import markup
from app.markup import render
from app.model import comparing, joining
from app.model.comparing import Comparison
from app.model.tracing import TOKENS, Trace
from app.panels import common
from app.server import state

NAME = "adapler_player"
FOLDER = Path(markup.__file__).parent / "static"


@cache
def _source(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def address() -> None:
    """The script that gives each view and text an entry in the browser's history, see address.js."""
    with st.container(key="address"):  # which style.css takes out of the page's flow
        st.html(f"<script>{_source('address.js')}</script>", unsafe_allow_javascript=True)


def show(data: dict[str, Any], *, key: str, leave: Callable[[], None] | None = None) -> int | None:
    """Draw what `app.markup.player.drawn` made; the token that is picked, None for none.

    leave: called when somebody leaves the talk mode with Escape.
    """
    component = st.components.v2.component(NAME, js=_source("player.js"), isolate_styles=False)
    result = component(key=key, data=data, on_picked_change=_nothing, on_leave_change=leave or _nothing)
    return picked(result, data)


def picked(result: Mapping[str, Any], data: Mapping[str, Any]) -> int | None:
    """The token; what comes from a browser may be another text's, or nothing at all."""
    told = result.get("picked")
    if not isinstance(told, dict) or told.get("text") != data["text"]:
        return None
    token = told.get("token")
    return token if isinstance(token, int) and 0 <= token < len(data["tokens"]) else None


UNITS = dict(zip(state.UNITS, (TOKENS, joining.WORDS, joining.SENTENCES), strict=True))


def choose_units() -> None:
    """What the text is shown in; `in_units` goes by it, in every view."""
    st.segmented_control(
        "Shown in",
        state.UNITS,
        default=state.WORDPIECES,
        key="units",
        required=True,
        label_visibility="collapsed",
        bind="query-params",
    )


def in_units(trace: Trace, *, most: str = joining.SENTENCES) -> Trace:
    """The trace of tokens in the chosen unit. most: joining.WORDS where sentences cannot be shown: words then."""
    unit = UNITS[st.session_state.get("units", state.WORDPIECES)]
    return joining.join(trace, most if unit == joining.SENTENCES else unit)


def token_table(drawn: Trace, found: Mapping[str, Comparison], token: int) -> None:
    """The rank of a token (or word) at every layer under every method."""
    group = drawn.groups[token] if drawn.groups else (token,)
    st.markdown(f"**{common.literal(render.seen(drawn.surfaces[token] or drawn.pieces[token]))}** under every method")
    st.dataframe(comparing.rank_table(found, group, layers=drawn.layers), hide_index=True)
    st.caption(
        "Its rank among the tokens that share out a layer's scores, 1 for the highest score; of a word, its best "
        "wordpiece's. Empty: it had been dropped before, or the layer decides nothing."
    )


def _nothing() -> None:
    """What the browser has said is read from the result."""
