"""Compare methods: the same text under several scoring methods, side by side at one layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from adapler.errors import AdapLeRError
from analysis.scores import ScoringMethod, get_method
from app.markup import player as drawing
from app.markup import render_methods
from app.model import comparing
from app.model.comparing import Comparison
from app.model.tracing import ADAPLER, Trace
from app.panels import common, player
from app.server import state
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.views import curves
from app.work import results

MAX_KEPT = 20  # comparisons of dear methods in a session


def show(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float) -> None:
    stop = st.empty()
    if (asked := st.session_state.get("asked_for")) is not None and asked[:2] != (checkpoint.key, hash(document)):
        _ask(None)  # another text or checkpoint has ended it
    if st.session_state.get("asked_for") is not None:
        # Not in the fragment: a click in there waits until the run that it is to end has ended.
        stop.button("Stop the method that runs", key="stop-method", on_click=_ask, args=[None])
    # a fragment: another layer or method leaves the rest of the page alone
    st.fragment(_show)(checkpoint, document, trace, scale=scale)
    stop.empty()


def _show(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            f"Methods (up to {state.MAX_METHODS})",
            comparing.names(),
            default=list(state.DEFAULT_METHODS),
            format_func=comparing.titles().__getitem__,
            key="methods",
            bind="query-params",
            max_selections=state.MAX_METHODS,
            placeholder="Choose a scoring method",
            help="Some take many passes through the model, and run when you ask for it: on a processor, thousands of "
            "passes take minutes.",
        )
        player.choose_units()
    if not chosen:
        st.info("No method is chosen.")
        return
    if trace.policy != ADAPLER:
        st.caption(of_another_policy(checkpoint, chosen, policy=trace.policy))
    if checkpoint.dtype != "float32":
        st.caption(
            "Methods that score the model without removal are in float32; the scores by which tokens are dropped are "
            f"in {checkpoint.dtype}."
        )
    found: dict[str, Comparison] = {}
    for name in comparing.distinct(checkpoint.exact, chosen):
        one = _score(checkpoint, document, trace, get_method(name), scale=scale)
        if one is not None:
            found[name] = one
    if not found:
        return
    drawn = player.in_units(trace)
    token = player.show(
        drawing.drawn(drawn, [render_methods.panel(drawn, one) for one in found.values()]), key="player-compare"
    )
    if token is not None:
        player.token_table(drawn, found, token)
    st.html(render_methods.legend(drawn, signed=any(one.signed for one in found.values())))
    curves.show(trace, found)


def of_another_policy(checkpoint: Checkpoint, chosen: Sequence[str], *, policy: str) -> str:
    """Whose scores stand for AdapLeR's, and of which layer they are."""
    titles, own = comparing.titles(), comparing.stands_for(checkpoint.exact, "cp")
    listed, shown = titles["cp"], titles[own]
    said = (
        f"This checkpoint drops tokens by another policy, `{policy}`: *{listed}* among the methods stands for the "
        f"policy's own scores, called *{shown}*."
    )
    if {"cp", own} <= set(chosen):
        said += " Both are chosen, and are one card."
    if checkpoint.exact.removal_policy.place != "between":
        return said
    return (
        f"{said} It decides after a layer's attention: its scores at layer *l* say which tokens layer *l* + 1 reads, "
        f"and stand at *l* + 1 in *{state.LAYERS}*."
    )


def _score(
    checkpoint: Checkpoint, document: Document, trace: Trace, method: ScoringMethod, *, scale: float
) -> Comparison | None:
    """Scores, or None after saying why there are none. The scale matters to AdapLeR's own scores only."""
    scale = scale if "adapler" in method.needs else 1.0
    try:
        if not comparing.is_dear(method):
            return results.load_comparison(checkpoint, document, method.name, threshold_scale=scale)
        return _dear(checkpoint, document, trace, method)
    except AdapLeRError as error:
        if comparing.is_dear(method):
            _ask(None)  # it has ended
        with st.container(border=True):
            st.markdown(common.literal(method.title))
            st.caption(common.literal(str(error)))
        return None


def _dear(checkpoint: Checkpoint, document: Document, trace: Trace, method: ScoringMethod) -> Comparison | None:
    """A method of many passes runs in this session's own run of the whole page: Stop, another text or checkpoint, or
    closing the page ends it. What it has found stays with this text."""
    mark = (checkpoint.key, hash(document), method.name)
    kept: dict[Any, Comparison] = st.session_state.setdefault("compared", {})
    if mark in kept:
        return kept[mark]
    place = st.empty()
    with place.container(border=True):
        st.markdown(common.literal(method.title))
        left, right = st.columns([3, 1], vertical_alignment="center")
        passes = comparing.passes_of(method, tokens=int((trace.words >= 0).sum()), layers=trace.layers)
        if st.session_state.get("asked_for") != mark:
            left.caption(f"Takes {_cost(trace, method)} of this text through the model; not run yet.")
            label = common.literal(f"Run {method.title}")
            if right.button(label, key=f"run-{method.name}", width="stretch"):
                _ask(mark)
                st.rerun()  # the whole page, which has the button that stops it
            return None
        bar = left.progress(0.0, text="Waiting: a method of many passes runs for somebody else ...")
        kept[mark] = results.score_dearly(checkpoint, document, method.name, tell=_telling(bar, passes))
    place.empty()
    for old in list(kept)[:-MAX_KEPT]:
        del kept[old]
    st.session_state.asked_for = None
    return kept[mark]


def _telling(bar: Any, passes: int) -> Callable[[int], None]:
    """Shows the progress, a few times a second; Streamlit ends the run in here when the whole page is to run again."""
    last = 0.0

    def tell(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > results.SECONDS_PER_LOOK:
            last = time.monotonic()
            bar.progress(min(1.0, done / passes), text=f"{done:,} of about {passes:,} passes")

    return tell


def _ask(mark: tuple[str, int, str] | None) -> None:
    st.session_state.asked_for = mark


def _cost(trace: Trace, method: ScoringMethod) -> str:
    return comparing.cost_of(method, tokens=int((trace.words >= 0).sum()), layers=trace.layers)
