"""Budget: what another threshold scale saves on this text, in tokens, FLOPs and milliseconds, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app.markup import cards, colors
from app.model.measuring import Timing
from app.model.tracing import Trace
from app.panels import common
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import results, tradeoff

LOOKS = (("circle", "#c96f00"), ("cross", "#c2185b"))  # of a verdict that stays, and of one that flips


def show(
    checkpoint: Checkpoint,
    document: Document,
    trace: Trace,
    *,
    scale: float,
    name: str,
    checkpoints: Mapping[str, Path],
    folders: Sequence[Path],
    found: Mapping[str, Path],
) -> None:
    """name: of the checkpoint in the menu `checkpoints`; folders, found: as `tradeoff.curve` takes them."""
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Tokens that enter each layer")
        st.html(cards.length_bars(trace))
        _timing(checkpoint, document, scale=scale)
    with right:
        st.subheader("This text at every scale")
        st.altair_chart(_sweep_chart(results.load_sweep(checkpoint, document), scale, trace.full_label))
    _tradeoff(name, scale=scale, checkpoints=checkpoints, folders=folders, found=found)


def _timing(checkpoint: Checkpoint, document: Document, *, scale: float) -> None:
    """Milliseconds when somebody asks for them, and again as often: nothing else changes so much by itself."""
    key = (checkpoint.key, document, scale)
    state = st.session_state
    measured: Timing | None = state.timing[1] if state.get("timing", (None,))[0] == key else None
    place = st.empty()
    place.html(cards.timing(measured))
    if st.button("Measure the milliseconds" if measured is None else "Measure again", key="measure"):
        with place, st.spinner("Measuring ..."):
            measured = results.measure(checkpoint, document, threshold_scale=scale)
        state.timing = (key, measured)
        st.rerun()


def _tradeoff(
    name: str, *, scale: float, checkpoints: Mapping[str, Path], folders: Sequence[Path], found: Mapping[str, Path]
) -> None:
    """What was measured of this checkpoint on whole splits, and nothing of other runs."""
    st.subheader("Accuracy against speedup of this checkpoint")
    table, unread = tradeoff.curve(name, checkpoints=checkpoints, results=folders, found=found)
    if table.empty:
        st.caption(
            "Nothing is measured of it yet: its folder has no evaluation\\*.json (`python -m adapler evaluate`), and "
            "no report is of it (view Corpus)."
        )
    else:
        st.altair_chart(_tradeoff_chart(table, scale))
        st.caption(
            common.literal(
                f"Checkpoint {name}; each point is a threshold scale, written beside it, hollow where it "
                "is the slider's; dashed: without removal. FLOPs speedup over the split."
            )
        )
        st.dataframe(
            table,
            hide_index=True,
            column_config={
                "score": st.column_config.NumberColumn("with removal", format="%.3f"),
                "reference": st.column_config.NumberColumn("without", format="%.3f"),
                "speedup": st.column_config.NumberColumn(format="%.2fx"),
            },
        )
    if unread:
        st.caption(common.literal(f"Not read, as they are damaged or of another version: {', '.join(unread)}."))


def _tradeoff_chart(table: pd.DataFrame, scale: float) -> Any:
    """Score over speedup, a line for each split."""
    table = table.assign(
        shown=[f"scale {value:g}" for value in table["scale"]],
        now=[abs(value - scale) < 1e-6 for value in table["scale"]],
    )
    color = alt.Color(
        "measured:N", title=None, scale=alt.Scale(range=list(colors.LINES)), legend=alt.Legend(orient="bottom")
    )
    low = max(0.0, float(min(table["score"].min(), table["reference"].min())) - 0.03)
    high = min(1.0, float(max(table["score"].max(), table["reference"].max())) + 0.03)
    metric = "accuracy" if set(table["metric"]) == {"accuracy"} else "score"
    base = alt.Chart(table).encode(
        x=alt.X("speedup:Q", title="FLOPs speedup", scale=alt.Scale(zero=False, padding=25)),
        y=alt.Y("score:Q", title=f"{metric}, with removal", scale=alt.Scale(domain=[low, high])),
        color=color,
    )
    points = base.mark_point(size=70, opacity=1, strokeWidth=2).encode(
        shape=alt.Shape("measured:N", title=None, legend=alt.Legend(orient="bottom")),
        fill=alt.condition("datum.now", alt.value("transparent"), color),
        tooltip=[
            alt.Tooltip("measured:N"),
            alt.Tooltip("scale:Q"),
            alt.Tooltip("score:Q", format=".3f", title=metric),
            alt.Tooltip("reference:Q", format=".3f", title="without removal"),
            alt.Tooltip("speedup:Q", format=".2f"),
            alt.Tooltip("documents:Q"),
            alt.Tooltip("file:N"),
        ],
    )
    names = base.mark_text(align="left", dx=7, dy=-7, fontSize=11).encode(text="shown:N")
    plain = alt.Chart(table.drop_duplicates(["measured", "reference"]))
    rules = plain.mark_rule(strokeDash=[4, 3], opacity=0.7).encode(
        y=alt.Y("reference:Q", scale=alt.Scale(domain=[low, high])), color=color
    )
    lines = base.mark_line(opacity=0.5).encode(order="scale:Q", detail="file:N")
    return alt.layer(rules, lines, points, names).properties(height=320)


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
    now = alt.Chart(pd.DataFrame({"scale": [scale]})).mark_rule(color="gray", strokeDash=[4, 3]).encode(x="scale:Q")
    return alt.layer(now, base.mark_line(color="#c96f00", opacity=0.5), points).properties(
        height=300, padding={"top": 12}
    )
