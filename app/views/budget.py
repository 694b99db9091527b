"""Budget: what another threshold scale saves on this text, in tokens, FLOPs and milliseconds, and what it costs; and
what the checkpoint and other systems give on whole splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app.markup import cards
from app.model.measuring import Timing
from app.model.tracing import Trace
from app.panels import beside
from app.server import state
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import results

LOOKS = (("circle", "#c96f00"), ("cross", "#c2185b"))  # of a verdict that stays, and of one that flips


def show(
    checkpoint: Checkpoint,
    document: Document,
    trace: Trace,
    *,
    scale: float,
    name: str,
    checkpoints: Mapping[str, Path],
    tradeoffs: Sequence[Path],
) -> None:
    """name, checkpoints, tradeoffs: as `beside.show` takes them."""
    left, right = st.columns(2, gap="large")
    with left:
        st.header("Tokens that enter each layer")
        st.html(cards.length_bars(trace))
        _timing(checkpoint, document, scale=scale)
    with right:
        st.header("This text at every scale")
        sweep = results.load_sweep(checkpoint, document)
        st.altair_chart(_sweep_chart(sweep, scale, trace.full_label))
        st.altair_chart(_speed_chart(sweep, scale))
    beside.show(checkpoint, name=name, scale=scale, checkpoints=checkpoints, tradeoffs=tradeoffs)
    st.caption(f"What a scale costs over many texts, with intervals: *{state.TRUST}*.")


def _timing(checkpoint: Checkpoint, document: Document, *, scale: float) -> None:
    """Milliseconds when somebody asks for them, and again as often: nothing else changes so much by itself."""
    key = (checkpoint.key, document, scale)
    remembered = st.session_state
    measured: Timing | None = remembered.timing[1] if remembered.get("timing", (None,))[0] == key else None
    place = st.empty()
    place.html(cards.timing(measured))
    if st.button("Measure the milliseconds" if measured is None else "Measure again", key="measure"):
        with place, st.spinner("Measuring ..."):
            measured = results.measure(checkpoint, document, threshold_scale=scale)
        remembered.timing = (key, measured)
        st.rerun()


def _marker(scale: float) -> Any:
    """A line at the slider."""
    at = alt.Chart(pd.DataFrame({"scale": [scale]}))
    return at.mark_rule(color="gray", strokeDash=[4, 3], aria=False).encode(x="scale:Q")


def _speed_chart(table: pd.DataFrame, scale: float) -> Any:
    """What each scale saves on this text."""
    ends = [float(table["speedup"].min()) / 1.05, float(table["speedup"].max()) * 1.05]
    base = alt.Chart(table).encode(
        x=alt.X("scale:Q", title="Threshold scale", axis=alt.Axis(values=[0, 0.5, 1, 1.5, 2])),
        y=alt.Y(
            "speedup:Q",
            title="FLOPs speedup",
            scale=alt.Scale(type="log", domain=ends, nice=False),
            axis=alt.Axis(values=[1, 2, 5, 10, 20, 50, 100]),
        ),
        tooltip=[alt.Tooltip("scale:Q"), alt.Tooltip("speedup:Q", format=".2f"), alt.Tooltip("tokens:Q")],
    )
    points = base.mark_point(size=45, filled=True, opacity=1, color=LOOKS[0][1])
    return alt.layer(_marker(scale), base.mark_line(color=LOOKS[0][1]), points).properties(
        height=170, description="Line: FLOPs speedup of this text over the threshold scale"
    )


def _sweep_chart(table: pd.DataFrame, scale: float, label: str) -> Any:
    """Probability of the label without removal, over the scale; what flips is a cross and not only another colour."""
    kept, flipped = f"verdict {label}", "verdict flips"
    table = table.assign(verdict=[kept if one == label else flipped for one in table["label"]])
    base = alt.Chart(table).encode(
        x=alt.X("scale:Q", title="Threshold scale", axis=alt.Axis(values=[0, 0.5, 1, 1.5, 2])),
        y=alt.Y("probability:Q", title=f"Probability of {label}", scale=alt.Scale(domain=[0, 1.05], nice=False)),
    )
    shown = [name for name in (kept, flipped) if name in set(table["verdict"])]
    look: dict[str, Any] = {"domain": shown}
    looks = [LOOKS[name != kept] for name in shown]
    points = base.mark_point(size=70, filled=True, opacity=1).encode(
        shape=alt.Shape(
            "verdict:N", title=None, scale=alt.Scale(**look, range=[LOOKS[name != kept][0] for name in shown])
        ),
        color=alt.Color(
            "verdict:N",
            title=None,
            scale=alt.Scale(**look, range=[one[1] for one in looks]),
            legend=alt.Legend(orient="bottom"),
        ),
        tooltip=[
            alt.Tooltip("scale:Q"),
            alt.Tooltip("speedup:Q", format=".2f", title="FLOPs speedup"),
            alt.Tooltip("tokens:Q", title="tokens in the last layer"),
            alt.Tooltip("probability:Q", format=".3f"),
            alt.Tooltip("label:N", title="verdict"),
        ],
    )
    return alt.layer(_marker(scale), base.mark_line(color="#c96f00"), points).properties(
        height=300,
        padding={"top": 12},
        description=f"Line: probability of {label} for this text over the threshold scale",
    )
