"""Budget: what another threshold scale saves on this text, in tokens, FLOPs and milliseconds, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

from app.html import render
from app.model.tracing import Trace
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import results, tradeoff


def show(
    checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float, name: str, folders: Sequence[Path]
) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Tokens that enter each layer")
        st.html(render.length_bars(trace))
        measured = st.empty()  # filled last: everything else need not wait for it
    with right:
        st.subheader("This text at every scale")
        st.altair_chart(_sweep_chart(results.load_sweep(checkpoint, document), scale, trace.full_label))
    st.subheader("Accuracy against speedup")
    for file, path in tradeoff.find_tables(folders, name).items():
        if (drawn := tradeoff.figure(path, path.stat().st_mtime_ns)) is not None:
            st.html(drawn)
            st.caption(f"Measured over a whole split: {file}".replace("_", r"\_"))
            break
    else:
        st.caption("This checkpoint has no trade-off table or evaluation in results/ or reports/.")
    with measured:
        timing = results.load_timing(checkpoint, document, threshold_scale=scale)
    measured.html(render.timing(timing.removal, timing.plain, repeats=timing.repeats))


def _sweep_chart(table: pd.DataFrame, scale: float, label: str) -> alt.LayerChart:
    """Probability of the label without removal, over the scale; what flips is a cross and not only another colour."""
    kept, flipped = f"verdict {label}", "verdict flips"
    table = table.assign(verdict=[kept if one == label else flipped for one in table["label"]])
    base = alt.Chart(table).encode(
        x=alt.X("scale:Q", title="Threshold scale"),
        y=alt.Y("probability:Q", title=f"Probability of {label}", scale=alt.Scale(domain=[0, 1])),
    )
    look = {"domain": [kept, flipped]}
    points = base.mark_point(size=70, filled=True, opacity=1).encode(
        shape=alt.Shape("verdict:N", title=None, scale=alt.Scale(**look, range=["circle", "cross"])),
        color=alt.Color(
            "verdict:N",
            title=None,
            scale=alt.Scale(**look, range=["#c96f00", "#c2185b"]),
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
    now = alt.Chart(pd.DataFrame({"scale": [scale]})).mark_rule(color="gray", strokeDash=[4, 3]).encode(x="scale:Q")
    return alt.layer(now, base.mark_line(color="#c96f00", opacity=0.5), points).properties(height=300)
