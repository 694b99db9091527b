"""Corpus: a report of a whole split, by layer and by document; a document opens with a click."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from adapler.errors import AdapLeRError
from analysis.output.report import RationaleReport
from app.panels import common
from app.server import state
from app.sources import loading
from app.work import jobs, reports

LIMITS = {"the first 10": 10, "the first 25": 25, "the first 100": 100, "all": None}
SECONDS_PER_LOOK = 1.0


def show(found: dict[str, Path], corpora: Mapping[str, Path]) -> None:
    if (made := st.session_state.pop("report_made", None)) in found:
        st.session_state.report = made
    if found:
        state.fit("report", list(found))
        name = st.selectbox("Report", list(found), key="report")
        try:
            report = reports.find_report(found, name)
        except AdapLeRError as error:
            common.problem(error)
        else:
            _facts(report)
            _figure(report, key=reports.key_of(found[name]))
            _documents(report, corpora)
    else:
        st.info("There is no report in reports/ or results/ yet: make one below.")


def _facts(report: RationaleReport) -> None:
    meta = report.meta
    facts = [
        f"{meta['data']['name']}, {meta['split']}",
        f"{len(report.documents)} documents, {report.n_skipped} of them skipped",
        f"accuracy {report.accuracy:.3f}",
    ]
    if report.adapler_accuracy is not None:
        facts.append(f"with AdapLeR {report.adapler_accuracy:.3f}")
    if report.speedup is not None:
        facts.append(f"{report.speedup:.2f}x fewer FLOPs")
    st.caption(common.literal(" \N{MIDDLE DOT} ".join(facts)))


def _figure(report: RationaleReport, *, key: str) -> None:
    kinds = reports.kinds(report)
    if not kinds:
        return
    state.fit("figure", kinds)
    kind = st.selectbox("Figure", kinds, format_func=reports.FIGURES.__getitem__, key="figure")
    st.html(reports.figure(report, key, kind))


def _documents(report: RationaleReport, corpora: Mapping[str, Path]) -> None:
    st.subheader("Documents")
    metrics = [metric for metric in report.metrics if not metric.startswith(("aopc", "loo"))]
    preferred = sorted(report.methods, key=lambda method: method not in ("cp", "saliency"))
    preferred.sort(key=lambda method: method != "cp")
    for key, options in (("metric", metrics), ("method", preferred), ("other", preferred[1:] + preferred[:1])):
        state.fit(key, options)
    columns = st.columns(4)
    metric = columns[0].selectbox("Metric", metrics, format_func=reports.metric_name, key="metric")
    method = columns[1].selectbox("Method", report.methods, format_func=report.title, key="method")
    other = columns[2].selectbox("Against", report.methods, format_func=report.title, key="other")
    state.fit("at", range(report.n_layers))
    layer = columns[3].selectbox("At layer", range(report.n_layers), key="at")
    order = st.segmented_control("Order", reports.ORDERS, key="order", required=True, default=reports.BEST)
    table = reports.document_table(report, metric=metric, method=method, other=other, layer=layer, order=str(order))
    names = table["document"].tolist()
    corpus = reports.corpus_of(report, corpora)
    # callbacks run before the next run of the page, while the menus can still be set
    target = {"corpus": corpus, "split": str(report.meta["split"]), "layer": layer}
    st.dataframe(
        table,
        hide_index=True,
        height=360,
        key="documents",
        on_select=partial(_picked, names, target) if corpus else "ignore",
        selection_mode="single-row",
        column_config={
            name: st.column_config.NumberColumn(format="%.3f")
            for name in table.columns
            if pd.api.types.is_float_dtype(table[name])
        },
    )
    if corpus is None:
        st.caption("This report's corpus is not in the menu, so its documents cannot be opened.")
    elif names:
        state.fit("open", names)
        left, right = st.columns([4, 1], vertical_alignment="bottom")
        chosen = left.selectbox("Open a document: click its row's box, or choose it here", names, key="open")
        right.button("Open", key="open-document", width="stretch", on_click=_open, args=[chosen, target])
    st.download_button(
        "Report as HTML",
        partial(reports.page, report),
        file_name="report.html",
        mime="text/html",
        key="save-report",
        on_click="ignore",
    )


def _picked(names: list[str], target: Mapping[str, Any]) -> None:
    rows = st.session_state.documents["selection"]["rows"]
    if rows and rows[0] < len(names):
        _open(names[rows[0]], target)


def _open(name: str, target: Mapping[str, Any]) -> None:
    """Show a document of the report's corpus, layer by layer."""
    st.session_state.update(target)
    st.session_state.update(document=name, source=state.REVIEW, view=state.LAYERS, part=0)


def evaluate(*, checkpoint: str, adapler: Path, corpus: str, data: Path, split: str) -> None:
    """Make a report of what the sidebar has chosen; a timer looks after it while it runs."""
    st.subheader("Make a report")
    running = st.session_state.get("job") is not None
    st.fragment(_evaluate, run_every=SECONDS_PER_LOOK if running else None)(
        checkpoint=checkpoint, adapler=adapler, corpus=corpus, data=data, split=split
    )


def _evaluate(*, checkpoint: str, adapler: Path, corpus: str, data: Path, split: str) -> None:
    job: jobs.Job | None = st.session_state.get("job")
    if job is None:
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        limit = left.selectbox(f"Documents of {corpus}, {split}", list(LIMITS), index=1, key="limit")
        if right.button("Evaluate", key="evaluate", width="stretch"):
            name = jobs.report_name(checkpoint, corpus, split)
            job = jobs.evaluate(adapler=adapler, data=data, split=split, limit=LIMITS[limit], name=name)
            if job is None:
                st.info("Another job is running on this server; try again when it is done.")
                return
            st.session_state.job = job
            st.rerun()
        st.caption("The methods of the paper with the checkpoint of the menu; it runs beside the page.")
        return
    code = job.code
    if code is None:
        left, right = st.columns([4, 1], vertical_alignment="bottom")
        left.progress(job.progress, text=f"Evaluating: {job.progress:.0%}" if job.progress else "Starting ...")
        if right.button("Stop", key="stop", width="stretch"):
            job.stop()
            st.session_state.job = None
            st.rerun()
        return
    st.session_state.job = None
    if code == 0:
        st.session_state.report_made = job.name
        st.rerun()
    common.problem(loading.without_path(job.message, adapler, checkpoint))
