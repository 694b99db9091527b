"""Corpus: a report of a whole split, by layer and by document; a document opens with a click."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from adapler.errors import AdapLeRError
from analysis.report import RationaleReport
from analysis.wording import OF_REMOVAL
from app.panels import choosing, common
from app.server import state
from app.work import reports

ANY, CHANGED, WRONG = "any", "verdict changed by removal", "wrong"
KEPT: dict[str, Any] = {"persist_state": "session"}  # menus outlive a look at another view


def show(
    found: Mapping[str, Path],
    corpora: Mapping[str, Path],
    checkpoints: Mapping[str, Path],
    *,
    chosen: str | None,
    makes: bool,
) -> None:
    """found: the menu of reports; chosen: the checkpoint of the sidebar, by its name in `checkpoints`; makes: whether
    a report can be made below."""
    if (made := st.session_state.pop("report_made", None)) in found:
        st.session_state.report = made
    if found:
        state.fit("report", list(found))
        name = st.selectbox("Report", list(found), key="report", **KEPT)
        try:
            report = reports.find_report(found, name)
        except AdapLeRError as error:
            common.problem(error)
        else:
            origin = reports.origin_of(report.meta, checkpoints)
            _facts(report, origin)
            _compare_checkpoints(origin, chosen)
            _figure(report, key=reports.key_of(found[name]))
            _documents(report, corpora, origin)
    else:
        how = "make one below" if makes else "to make one, choose a checkpoint and *A review* at the side"
        st.info(f"There is no report in reports/ or results/ yet: {how}.")


def _facts(report: RationaleReport, origin: reports.Origin) -> None:
    """Whose numbers these are, and the ones of all its documents."""
    whose = [
        f"checkpoint {origin.checkpoint or origin.called}" if origin.has_model else "no model: saved scores",
        *([f"threshold scale {origin.scale:g}"] if origin.removes else []),
        *([origin.dtype] if origin.has_model else []),
        f"{origin.data}, {origin.split}",
        f"long texts: {origin.policy}{', with queries' if origin.queries else ''}",
    ]
    facts = [
        f"{len(report.documents)} documents, {report.n_skipped} of them not judged (no rationale, or no other token, "
        "in view)",
        *([str(report.meta["sample"])] if report.meta.get("sample") else []),
    ]
    for name, said in (
        ("accuracy", "accuracy {:.3f}"),
        ("adapler_accuracy", "with removal {:.3f}"),
        ("speedup", "FLOPs speedup {:.2f}x"),
    ):
        if report.meta.get(name) is not None:
            facts.append(said.format(report.meta[name]))
    for parts in (whose, facts):
        st.caption(common.literal(" \N{MIDDLE DOT} ".join(parts)))


def _compare_checkpoints(origin: reports.Origin, chosen: str | None) -> None:
    """A warning where the sidebar shows another checkpoint than the report's."""
    if chosen is None or origin.checkpoint == chosen or not origin.has_model:
        return
    if origin.checkpoint is None:
        missing = "which is not in the menu, or was trained anew since"
        st.warning(common.literal(f"This report is of {origin.called}, {missing}. The sidebar's is {chosen}."))
        return
    st.warning(common.literal(f"This report is of {origin.checkpoint}, not of {chosen}, which the sidebar shows."))
    label = common.literal(f"Choose {origin.checkpoint}")
    st.button(label, key="use-checkpoint", on_click=_use, args=[origin.checkpoint])


def _use(checkpoint: str) -> None:
    st.session_state.checkpoint = checkpoint


def _figure(report: RationaleReport, *, key: str) -> None:
    kinds = reports.kinds(report)
    if not kinds:
        return
    state.fit("figure", kinds)
    kind = st.selectbox("Figure", kinds, format_func=reports.FIGURES.__getitem__, key="figure", **KEPT)
    st.html(reports.figure(report, key, kind))


def _documents(report: RationaleReport, corpora: Mapping[str, Path], origin: reports.Origin) -> None:
    st.header("Documents")
    telling = [metric for metric in report.metrics if not metric.startswith(("aopc", "loo"))]
    metrics = telling or list(report.metrics)
    preferred = sorted(report.methods, key=lambda method: method not in (*OF_REMOVAL, "saliency"))
    preferred.sort(key=lambda method: method not in OF_REMOVAL)
    for key, options in (("metric", metrics), ("method", preferred), ("other", preferred[1:] + preferred[:1])):
        state.fit(key, options)
    columns = st.columns(4)
    metric = columns[0].selectbox("Metric", metrics, format_func=reports.metric_name, key="metric", **KEPT)
    method = columns[1].selectbox("Method", report.methods, format_func=report.title, key="method", **KEPT)
    other = columns[2].selectbox("Against", report.methods, format_func=report.title, key="other", **KEPT)
    state.fit("at", range(report.n_layers))
    layer = columns[3].selectbox("At layer", range(report.n_layers), key="at", **KEPT)
    order = st.segmented_control("Order", state.ORDERS, default=state.BEST, key="order", required=True, **KEPT)
    only = _filter(report)
    table = reports.document_table(
        report, metric=metric, method=method, other=other, layer=layer, order=str(order), only=only
    )
    if only != reports.Filter():
        st.caption(f"{len(table)} of {report.n_scored} documents")
    names = table["document"].tolist()
    corpus = reports.corpus_of(report, corpora)
    opens = corpus is not None and origin.checkpoint is not None and origin.scale <= state.MAX_SCALE
    # callbacks run before the next run of the page, while the menus can still be set; the document is shown with the
    # model and the scale that the table is of
    target = {
        "corpus": corpus,
        "split": origin.split,
        "checkpoint": origin.checkpoint,
        "scale": origin.scale,
        "dtype": origin.dtype,
    }
    st.dataframe(
        table,
        hide_index=True,
        height=360,
        key="documents",
        on_select=partial(choosing.open_picked, "documents", names, target, layer=layer) if opens else "ignore",
        selection_mode="single-row",
        column_config={
            name: st.column_config.NumberColumn(format="%.3f")
            for name in table.columns
            if pd.api.types.is_float_dtype(table[name])
        },
    )
    if corpus is None:
        st.caption("This report's corpus is not in the menu, so its documents cannot be opened.")
    elif not origin.has_model:
        st.caption("This report is of saved scores, without a model to open its documents with.")
    elif origin.checkpoint is None:
        st.caption("This report's checkpoint is not in the menu, so its documents cannot be opened.")
    elif not opens:
        st.caption(
            f"This report's threshold scale, {origin.scale:g}, is above the page's {state.MAX_SCALE:g}, so its "
            "documents cannot be opened."
        )
    elif names:
        state.fit("open", names)
        left, right = st.columns([4, 1], vertical_alignment="bottom")
        chosen = left.selectbox("Open a document: click its row's box, or choose it here", names, key="open")
        right.button(
            "Open",
            key="open-document",
            width="stretch",
            on_click=choosing.open_document,
            args=[chosen, target],
            kwargs={"layer": layer},
        )
    st.download_button(
        "Report as HTML",
        partial(reports.page, report),
        file_name="report.html",
        mime="text/html",
        key="save-report",
        on_click="ignore",
    )


def _filter(report: RationaleReport) -> reports.Filter:
    """Which documents are listed: label, removal changes the verdict, wrong, length."""
    labels = [ANY, *sorted(set(report.documents["label"]))]
    sizes = report.documents["tokens"].tolist()
    least, most = min(sizes, default=0), max(sizes, default=0)
    state.fit("label", labels)
    if st.session_state.get("length_of", (least, most)) != (least, most):  # of another report
        st.session_state.pop("length", None)
    st.session_state.length_of = (least, most)
    columns = st.columns([1, 2, 2])
    label = columns[0].selectbox("Label", labels, key="label", **KEPT)
    kinds = columns[1].pills("Only", (CHANGED, WRONG), selection_mode="multi", key="only", **KEPT)
    tokens = None
    if least < most:
        bounds = columns[2].slider("Tokens", least, most, value=(least, most), key="length", **KEPT)
        tokens = None if bounds == (least, most) else bounds
    return reports.Filter(None if label == ANY else label, CHANGED in kinds, WRONG in kinds, tokens)
