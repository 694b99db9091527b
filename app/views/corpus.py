"""Corpus: what a report of `python -m analysis.rationale_eval` says, by method and layer."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from app import markup
from app.context import KEPT, Context

PREFERRED = ("average_precision", "roc_auc", "fpr", "tpr")
METHODS = ("cp", "cp_carried", "saliency", "attention", "rollout", "random", "decompx")


def render(context: Context) -> None:
    st.html(markup.title("On a whole corpus", "How well each method finds what people marked, layer by layer."))
    if not context.reports:
        st.info(
            "There is no report in results/ or reports/ yet: `python -m analysis.rationale_eval --output reports/mine`."
        )
        return
    name = str(st.selectbox("Report", list(context.reports), key="report", **KEPT))
    try:
        table = pd.read_csv(context.reports[name] / "layers.csv")
        metrics = sorted(set(table["metric"]), key=lambda one: (one not in PREFERRED, one))
        shown = [one for one in METHODS if one in set(table["method"])]
    except (OSError, ValueError, KeyError) as error:
        st.error(markup.literal(f"{name}: layers.csv cannot be read ({error})"))
        return
    left, right = st.columns([1, 2])
    metric = left.selectbox("Metric", metrics, key="metric", **KEPT)
    methods = right.multiselect("Methods", sorted(set(table["method"])), default=shown or None, key="judged", **KEPT)
    rows = table[(table["metric"] == metric) & table["method"].isin(methods)]
    if rows.empty:
        st.info("No method is chosen.")
        return
    base = alt.Chart(rows).encode(
        x=alt.X("layer:O", axis=alt.Axis(labelAngle=0)),
        color=alt.Color(
            "method:N", legend=alt.Legend(orient="top", title=None, columns=4), scale=alt.Scale(scheme="tableau10")
        ),
    )
    y = alt.Y("mean:Q", title=str(metric).replace("_", " "), scale=alt.Scale(zero=False))
    bars = base.mark_rule(strokeWidth=1).encode(y="low:Q", y2="high:Q")
    told = ["method", "layer", alt.Tooltip("mean:Q", format=".3f"), alt.Tooltip("low:Q", format=".3f"),
            alt.Tooltip("high:Q", format=".3f"), "n", "skipped"]  # fmt: skip
    points = base.mark_point(filled=True, size=50).encode(y=y, tooltip=told)
    st.altair_chart((base.mark_line().encode(y=y) + bars + points).properties(height=340))
    judged, skipped = int(rows["n"].max()), int(rows["skipped"].max())
    st.caption(f"Means over {judged} documents, {skipped} not judged; bars are 95 % intervals.")
    st.dataframe(
        rows.pivot_table(index="method", columns="layer", values="mean").round(3), column_config={"method": "method"}
    )
