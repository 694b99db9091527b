"""Trust: accuracy, agreement and speed on a whole split, and which documents it gets wrong or otherwise than without
removal."""

from __future__ import annotations

from functools import partial

import altair as alt
import pandas as pd
import streamlit as st

from adapler.errors import AdapLeRError
from app import context as shared
from app import loading, markup
from app.context import Context
from app.survey import share_interval

COLUMNS = ["begins", "label", "verdict", "probability", "without removal", "probability without", "tokens", "document"]


def render(context: Context) -> None:
    st.html(markup.title("Can it be trusted?", "What removal costs on whole splits, and on which documents."))
    _calibrated(context)
    if not context.split:
        st.info("Choose a corpus under Settings: its split is what is read.")
        return
    checkpoint = context.model
    corpus = loading.find_corpus(context.corpora[context.corpus], context.corpus)
    found = loading.find_survey(checkpoint, corpus, context.split, context.corpus, threshold_scale=context.scale)
    st.header(f"{context.corpus}, {context.split}: document by document")
    bar, place = st.empty(), st.empty()
    try:
        while not found.finished:
            bar.progress(found.done / len(found.documents), f"Read {found.done} of {len(found.documents)} documents")
            with checkpoint.lock:
                found.advance(checkpoint.model, checkpoint.tokenizer)
            if found.readings:
                place.html(_totals(found.table()))
    except AdapLeRError as error:
        shared.problem(error)
    bar.empty()
    table = found.table()
    if found.refused:
        first = next(iter(found.refused.items()))
        said = f"No verdict on {len(found.refused)} documents, the first {found.documents[first[0]].name}: {first[1]}."
        st.warning(markup.literal(said))
    if table.empty:
        return
    place.html(_totals(table))
    table = table.assign(begins=[" ".join(found.documents[number].words[:6]) for number in table.index])
    changed = table[table["changed"]].sort_values("probability without", ascending=False)
    wrong = table[~table["right"].fillna(True)].sort_values("probability", ascending=False)
    _list(f"Removal changes the verdict on {len(changed)} of {len(table)} documents", changed, key="changed")
    _list(f"{len(wrong)} verdicts are wrong; the surest first", wrong, key="wrong")
    st.caption(
        f"checkpoint {context.name}, threshold scale {context.scale:g}, {checkpoint.dtype}. A row's box opens it."
    )


def _calibrated(context: Context) -> None:
    """Show the model's stored calibration, at the slider's scale and as a curve."""
    try:
        measured = context.model.exact.calibration
    except AdapLeRError:
        st.info("Nothing is measured of it yet: `adapler calibrate --model FOLDER --task TASK` does so.")
        return
    rows = [
        {"scale": one.threshold_scale, "score": one.score, "low": one.score_interval[0], "high": one.score_interval[1],
         "speedup": one.speedup}
        for one in measured.points
    ]  # fmt: skip
    if context.scale <= rows[-1]["scale"]:
        at = measured.at(context.scale)
        drop = 100 * at.drop
        low, high = (100 * end for end in at.drop_interval)
        whose = f"on {measured.examples} documents, {measured.split}"
        st.html(
            markup.cards(
                [
                    (measured.metric.capitalize(), f"{100 * at.score:.1f} %", whose),
                    (
                        "Removal costs",
                        f"{drop:.1f} points",
                        f"between {low:.1f} and {high:.1f}, of {100 * measured.none.score:.1f} %",
                    ),
                    ("Compute", f"{at.speedup:.2f}x less", f"at threshold scale {context.scale:g}"),
                ]
            )
        )
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("speedup:Q", title="FLOPs speedup", scale=alt.Scale(zero=False))
    )
    y = {"axis": alt.Axis(format="%"), "title": measured.metric, "scale": alt.Scale(zero=False)}
    band = base.mark_area(opacity=0.15, color="#c96f00").encode(y=alt.Y("low:Q", **y), y2="high:Q")
    line = base.mark_line(color="#c96f00", point={"color": "#c96f00"}).encode(
        y=alt.Y("score:Q", **y), tooltip=["scale", "score", "speedup"]
    )
    rule = alt.Chart(pd.DataFrame([{"score": measured.none.score}])).mark_rule(strokeDash=[4, 3]).encode(y="score:Q")
    st.altair_chart((band + line + rule).properties(height=240))
    st.caption("Score over speedup, the band is a 95 % bootstrap interval; the dashed line is without removal.")


def _totals(table: pd.DataFrame) -> str:
    judged = table["right"].dropna()
    rows = [
        _share("Accuracy", int(judged.sum()), len(judged)) if len(judged) else ("Accuracy", "unknown", "no labels"),
        _share("Same verdict as with all tokens", int((~table["changed"]).sum()), len(table)),
        ("Compute", f"{table['FLOPs speedup'].median():.2f}x less", "the median document"),
    ]
    return markup.cards(rows)


def _share(what: str, hits: int, of: int) -> tuple[str, str, str]:
    low, high = share_interval(hits, of)
    return what, f"{100 * hits / of:.1f} %", f"{hits} of {of}; between {100 * low:.1f} and {100 * high:.1f}"


def _list(said: str, table: pd.DataFrame, *, key: str) -> None:
    """Documents; a row whose box is clicked opens."""
    st.markdown(f"**{said}**")
    if table.empty:
        return
    number = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        table[COLUMNS],
        hide_index=True,
        key=key,
        height=min(360, 38 + 35 * len(table)),
        on_select=partial(_open, key, table["document"].tolist()),
        selection_mode="single-row",
        column_config={"probability": number, "probability without": number},
    )


def _open(key: str, names: list[str]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    if rows and rows[0] < len(names):
        shared.open_document(names[rows[0]])
