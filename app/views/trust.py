"""Trust: what this checkpoint's accuracy, agreement and speed are over the threshold scale, on whole splits, and which
documents of a split it gets wrong, or otherwise than without removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from adapler.eraser import EraserCorpus
from app.markup import cards
from app.markup.terms import term
from app.model.survey import Survey, share_interval
from app.panels import choosing, common, surveying
from app.sources import loading
from app.sources.loading import Checkpoint
from app.views import trust_charts
from app.work import calibrated, surveys, tradeoff

COLUMNS = ("document", "label", "verdict", "probability", "without removal", "probability without", "tokens")


def show(
    checkpoint: Checkpoint,
    *,
    name: str,
    scale: float,
    checkpoints: Mapping[str, Path],
    folders: Sequence[Path],
    found: Mapping[str, Path],
    corpus: EraserCorpus | None,
    title: str,
) -> None:
    """name: of the checkpoint in the menu `checkpoints`; folders, found: as `tradeoff.curve` takes them; corpus: that
    of the sidebar, called `title`, None while a text of one's own is looked at."""
    whose = (f"checkpoint {name}", f"threshold scale {scale:g}", checkpoint.dtype)
    st.caption(common.literal(" \N{MIDDLE DOT} ".join(whose)))
    _whole_splits(checkpoint, name=name, scale=scale, checkpoints=checkpoints, folders=folders, found=found)
    st.header("Document by document")
    if corpus is None:
        st.info("Choose *A review* at the side: its corpus and split are what is read.")
        return
    _documents(checkpoint, corpus, name=name, title=title, scale=scale)


def _whole_splits(
    checkpoint: Checkpoint,
    *,
    name: str,
    scale: float,
    checkpoints: Mapping[str, Path],
    folders: Sequence[Path],
    found: Mapping[str, Path],
) -> None:
    curve = calibrated.curve(checkpoint)
    if said := _expected(curve, scale, page_dtype=checkpoint.dtype):
        st.html(said)
    elif curve.calibration is not None:
        st.caption(f"The calibration that is stored with this model ends at scale {curve.last:g}.")
    if curve.calibration is None:
        why = loading.without_path(curve.why, checkpoints[name], name)
        why = why.partition("; `adapler calibrate")[0]  # its command has a menu's name now, which is no folder
        st.info(
            common.literal(f"{why[:1].upper()}{why[1:]}.")
            + " `adapler calibrate --model FOLDER --task TASK` measures accuracy, speed and their intervals over the "
            "scale, on validation."
        )
    table, unread = tradeoff.curve(name, checkpoints=checkpoints, results=folders, found=found)
    if table.empty and curve.calibration is None:
        st.caption(
            "Nothing else is measured of it yet: its folder has no evaluation\\*.json (`python -m adapler evaluate`), "
            "and no report is of it (view Corpus)."
        )
    else:
        _charts(table, curve, scale, name=name)
    if unread:
        st.caption(common.literal(f"Not read, as they are damaged or of another version: {', '.join(unread)}."))


def _expected(curve: calibrated.Curve, scale: float, *, page_dtype: str) -> str:
    """Cards of what the calibration says for the slider's scale; "" where it says nothing."""
    point, measured = curve.at(scale), curve.calibration
    if point is None or measured is None:
        return ""
    dtype = curve.dtype() or (", float32" if page_dtype != "float32" else "")
    whose = f"on {measured.examples} documents, {measured.split}{dtype}"
    ends = curve.between(scale)
    how = "" if ends is None else f"; between scales {ends[0]:g} and {ends[1]:g}, interpolated"
    sign, below = (100, "below") if point.drop >= 0 else (-100, "above")
    low, high = sorted(sign * end for end in point.drop_interval)  # in points, as the drop itself
    rows = (
        (measured.metric.capitalize(), f"{point.score:.3f}", f"{_between(point.score_interval, 3)} {whose}"),
        (
            term("removal", "Removal costs"),
            f"{sign * point.drop:.1f} points {below}",
            f"{measured.none.score:.3f} without it; {_between((low, high), 1)} points {below}",
        ),
        (term("FLOPs", "Speedup"), f"{point.speedup:.2f}x", f"of FLOPs, {_between(point.speedup_interval, 2)}"),
        (
            "Time of a text",
            f"{cards.short(point.milliseconds)} ms",
            f"in batches, {cards.short(measured.none.milliseconds)} ms without removal, on the machine that measured "
            "it",
        ),
    )
    return cards.facts([(what, value, note + how) for what, value, note in rows])


def _between(interval: tuple[float, float], digits: int) -> str:
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _charts(table: pd.DataFrame, curve: calibrated.Curve, scale: float, *, name: str) -> None:
    metrics = {*table["metric"], *([] if curve.calibration is None else [curve.calibration.metric])}
    metric = metrics.pop() if len(metrics) == 1 else "score"
    st.html(trust_charts.key(table, curve.frame()))
    left, right = st.columns(2)
    with left:
        st.altair_chart(trust_charts.score(table, curve.frame(), scale, metric=metric))
        st.altair_chart(trust_charts.speed(table, curve.frame(), scale))
    with right:
        if table["agreement"].notna().any():
            st.altair_chart(trust_charts.agreement(table, curve.frame(), scale))
        else:
            st.caption("No agreement with the classifier is measured: `python -m adapler evaluate` does so.")
        st.altair_chart(trust_charts.against_speedup(table, curve.frame(), scale, metric=metric))
    said = "Bars are Wilson's 95 % intervals."
    if curve.calibration is not None:
        said = f"{said} The band is the calibration's, of {100 * curve.calibration.level:g} % by bootstrap."
    measured = (*table["scale"], *curve.frame()["scale"])
    ring = "a ring is that scale, and " if any(abs(one - scale) < calibrated.SAME for one in measured) else ""
    st.caption(
        common.literal(
            f"Checkpoint {name}. {said} The dashed line is the slider's scale. In the last chart {ring}dotted lines "
            f"are the {metric} without removal. A split of 200 documents leaves several points open."
        )
    )
    with st.expander("The numbers", key="measured"):
        number = st.column_config.NumberColumn
        columns = {
            "score": number("with removal", format="%.3f"),
            "reference": number("without", format="%.3f"),
            "speedup": number(format="%.2fx"),
        }
        columns |= {one: number(format="%.3f") for one in map(str, table) if one.endswith(("low", "high", "agreement"))}
        st.dataframe(_numbers(table, curve), hide_index=True, column_config=columns)


def _numbers(table: pd.DataFrame, curve: calibrated.Curve) -> pd.DataFrame:
    """All that the charts show, the calibration first."""
    parts = [table] if curve.calibration is None else [curve.table(), table]
    return pd.concat([part.reindex(columns=list(tradeoff.SHOWN)).dropna(axis="columns", how="all") for part in parts])


def _documents(checkpoint: Checkpoint, corpus: EraserCorpus, *, name: str, title: str, scale: float) -> None:
    """Every document of the split with this model at this scale."""
    split = st.session_state.split
    survey = surveys.find(checkpoint, corpus, title=title, split=split, scale=scale)
    if not surveying.finished(checkpoint, survey, what=f"{title}, {split}"):
        return
    table = survey.table()
    common.refused(
        ((survey.documents[number].name, why) for number, why in sorted(survey.refused.items())),
        of=len(survey.documents),
    )
    if table.empty:
        return
    st.html(_totals(survey, table))
    common.cut_of(checkpoint, int(table["cut"].sum()), of=len(table), what="documents")
    common.read_otherwise(checkpoint, tokens=int(table["tokens"].max()))
    target = {"corpus": title, "split": split, "checkpoint": name, "scale": scale}
    changed = table[table["changed"]].sort_values("probability without", ascending=False)
    st.markdown(f"**Removal changes the verdict on {len(changed)} of {len(table)} documents**")
    if not changed.empty:
        _list(changed, target, key="changed")
    wrong = table[~table["right"].fillna(True)]
    sure = st.slider(
        "Wrong and sure: a probability of at least", 0.0, 1.0, value=0.9, step=0.01, key="sure", persist_state="session"
    )
    shown = wrong[wrong["probability"] >= sure].sort_values("probability", ascending=False)
    st.markdown(f"**{len(shown)} of the {len(wrong)} wrong verdicts have a probability of at least {sure:.2f}**")
    if not shown.empty:
        _list(shown, target, key="wrong")


def _totals(survey: Survey, table: pd.DataFrame) -> str:
    judged = table["right"].dropna()
    same = int((~table["changed"]).sum())
    speed = float((table["FLOPs speedup"]).median())
    rows = [
        _share("Accuracy", int(judged.sum()), len(judged)) if len(judged) else ("Accuracy", "unknown", "no labels"),
        _share("Same verdict without removal", same, len(table)),
        (term("FLOPs", "Speedup"), f"{speed:.2f}x", f"of FLOPs, median; threshold scale {survey.threshold_scale:g}"),
    ]
    return cards.facts(rows)


def _share(what: str, hits: int, of: int) -> tuple[str, str, str]:
    return what, f"{hits / of:.3f}", f"{hits} of {of}; {_between(share_interval(hits, of), 3)}"


def _list(table: pd.DataFrame, target: Mapping[str, Any], *, key: str) -> None:
    """Documents; a row whose box is clicked opens."""
    names = table["document"].tolist()
    number = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        table[list(COLUMNS)],
        hide_index=True,
        key=key,
        height=min(360, 38 + 35 * len(table)),
        on_select=partial(choosing.open_picked, key, names, target),
        selection_mode="single-row",
        column_config={"probability": number, "probability without": number},
    )
