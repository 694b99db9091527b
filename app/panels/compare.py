"""Compare methods: the same text under several scoring methods, side by side at one layer."""

from __future__ import annotations

from functools import partial

import streamlit as st

from adapler.errors import AdapLeRError
from analysis.scores import ScoringMethod, get_method
from app.markup import render_methods
from app.model import comparing
from app.model.comparing import Comparison
from app.model.tracing import Trace
from app.panels.layers import layer_slider
from app.server import state
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import results


def show(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float) -> None:
    # a fragment: another layer or method leaves the rest of the page alone
    st.fragment(_show)(checkpoint, document, trace, scale=scale)


def _show(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float) -> None:
    chosen = st.multiselect(
        f"Methods (up to {state.MAX_METHODS})",
        comparing.names(),
        format_func=partial(_title, trace),
        key="methods",
        max_selections=state.MAX_METHODS,
        placeholder="Choose a scoring method",
        help="Those with a number of passes run when you ask for it: on a processor, thousands of passes take minutes.",
    )
    layer = layer_slider(trace.layers)
    if not chosen:
        st.info("No method is chosen.")
        return
    found: dict[str, Comparison | str] = {}
    for name in chosen:
        method = get_method(name)
        if comparing.is_dear(method) and not _asked_for(checkpoint, document, trace, method):
            found[method.title] = f"Takes {_cost(trace, method)} of this text through the model; not run yet."
            continue
        found[method.title] = _score(checkpoint, document, method, scale=scale)
    signed = any(isinstance(one, Comparison) and one.signed for one in found.values())
    st.html(render_methods.legend(trace, signed=signed))
    st.html(render_methods.cards(trace, found, layer=layer))


def _score(checkpoint: Checkpoint, document: Document, method: ScoringMethod, *, scale: float) -> Comparison | str:
    """Scores, or why there are none. The scale matters to AdapLeR's own scores only."""
    scale = scale if "adapler" in method.needs else 1.0
    try:
        return results.load_comparison(checkpoint, document, method.name, threshold_scale=scale)
    except AdapLeRError as error:
        return str(error)


def _asked_for(checkpoint: Checkpoint, document: Document, trace: Trace, method: ScoringMethod) -> bool:
    """A button for a dear method; once pressed, its scores stay with this text."""
    mark = (checkpoint.key, hash(document), method.name)
    if mark in st.session_state.get("asked", ()):
        return True
    st.button(f"Run {method.title} ({_cost(trace, method)})", key=f"run-{method.name}", on_click=_ask, args=[mark])
    return False


def _ask(mark: tuple[str, int, str]) -> None:
    st.session_state.asked = [*st.session_state.get("asked", ()), mark][-20:]


def _cost(trace: Trace, method: ScoringMethod) -> str:
    return comparing.cost_of(method, tokens=int((trace.words >= 0).sum()), layers=trace.layers)


def _title(trace: Trace, name: str) -> str:
    method = get_method(name)
    return f"{method.title} \N{MIDDLE DOT} {_cost(trace, method)}" if comparing.is_dear(method) else method.title
