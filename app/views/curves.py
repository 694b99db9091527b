"""Curves by layer of this text, below the comparison of methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import streamlit as st

from app.markup import colors
from app.model import curves
from app.model.comparing import Comparison
from app.model.tracing import Trace

HEIGHT = 340  # with the legend: a lower plot cuts the titles of its axis


def show(trace: Trace, found: Mapping[str, Comparison]) -> None:
    """trace: of tokens."""
    st.header("By layer")
    table = curves.agreement(found, layers=trace.layers).dropna()
    names = sorted(set(table["method"]))
    kinds = (("AP", "average precision"), ("FPR", "FPR at 1/n"), ("TPR", "TPR at 1/n"))
    charts = [
        _agreement(part, title, names=names)
        for metric, title in kinds
        if not (part := table[table["metric"] == metric]).empty  # signed scores alone have the first only
    ]
    charts.insert(min(2, len(charts)), _alive(trace))
    for start in range(0, len(charts), 2):
        for place, chart in zip(st.columns(2), charts[start : start + 2], strict=False):
            place.altair_chart(chart)
    if not table.empty:
        st.caption(
            "n of FPR and TPR: the tokens present at the layer for the scores by which tokens are dropped, all tokens "
            "of the input for the other methods. Signed scores have neither."
        )


def _agreement(table: Any, title: str, *, names: list[str]) -> Any:
    """names: of the methods of all charts: one has the same colour and shape in each, whichever of them it has."""
    shown = [name for name in names if name in set(table["method"])]
    scale = alt.Scale(domain=names, range=list(colors.LINES[: len(names)]))
    legend = alt.Legend(orient="bottom", columns=2, values=shown)
    base = alt.Chart(table).encode(
        x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("method:N", title=None, scale=scale, legend=legend),
        shape=alt.Shape("method:N", title=None, scale=alt.Scale(domain=names), legend=legend),
        tooltip=["method:N", "layer:O", alt.Tooltip("value:Q", format=".3f", title=title), "n:Q"],
    )
    return _drawn(base, said=f"Lines: {title} at each layer, of {', '.join(shown)}")


def _drawn(base: Any, *, said: str) -> Any:
    """said: what a screen reader calls the chart."""
    points = base.mark_point(filled=True, size=50, opacity=1)
    return alt.layer(base.mark_line(), points).properties(height=HEIGHT, description=said)


def _alive(trace: Trace) -> Any:
    table = curves.alive(trace)
    colours = {curves.EVIDENCE: colors.GOLD, curves.OTHERS: colors.LINES[0], curves.TEXT: colors.LINES[0]}
    shown = [name for name in colours if name in set(table["tokens"])]
    base = alt.Chart(table).encode(
        x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0)),
        y=alt.Y(
            "share:Q", title="share of tokens that enter", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")
        ),
        color=alt.Color(
            "tokens:N",
            title=None,
            scale=alt.Scale(domain=shown, range=[colours[name] for name in shown]),
            legend=alt.Legend(orient="bottom"),
        ),
        tooltip=["tokens:N", "layer:O", alt.Tooltip("share:Q", format=".0%"), "count:Q"],
    )
    return _drawn(base, said=f"Lines: share of tokens that enter each layer, of {' and '.join(shown)}")
