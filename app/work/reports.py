"""Report folders that the page may open, and what its Corpus view shows of a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from adapler.errors import ArgumentError, DataError
from analysis.metrics.registry import get_metric
from analysis.output.report import RationaleReport
from analysis.results.report_json import SCHEMA_VERSION
from analysis.results.wording import higher_is_better
from app.html import pictures
from app.server import locks
from app.sources.loading import find_corpus, told_apart, without_path

NAME = "report.json"
ORDERS = BEST, WORST, DISAGREEMENT = ("Best first", "Worst first", "Largest disagreement")
FIGURES = {
    "agreement": "Agreement by layer",
    "lengths": "Tokens left by layer",
    "precision_recall": "Precision and recall",
    "correlation": "Correlation of the methods",
    "faithfulness": "Faithfulness",
}


def list_reports(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders with a report.json, these or one below; those that this version reads come first."""
    paths = [path.parent for folder in folders for depth in ("", "*/") for path in sorted(folder.glob(depth + NAME))]
    paths.sort(key=lambda path: not _is_current(path / NAME))
    return told_apart((path.name, path) for path in paths)


def _is_current(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as stream:
            return re.search(rf'"schema_version": {SCHEMA_VERSION}\b', stream.read(200)) is not None
    except (OSError, UnicodeDecodeError):
        return False


def key_of(path: Path) -> str:
    """What tells a report from all others, and from what was in its folder before."""
    return f"{path}:{(path / NAME).stat().st_mtime_ns}"


def find_report(found: Mapping[str, Path], name: str) -> RationaleReport:
    """The report of a name in the menu. Raises DataError for one that is damaged or of another version."""
    path = found[name] / NAME
    try:
        return _load(str(path), path.stat().st_mtime_ns)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error
    except DataError as error:
        raise DataError(without_path(error, path, name)) from error


# A resource: a report is frozen, and a large one is not copied at every rerun.
@st.cache_resource(max_entries=3, show_spinner="Reading the report ...")
def _load(path: str, stamp: int) -> RationaleReport:
    return RationaleReport.from_json(Path(path))


def kinds(report: RationaleReport) -> tuple[str, ...]:
    """The figures there are, without those of single documents."""
    from analysis import figures

    return tuple(kind for kind in figures.kinds(report) if kind in FIGURES)


@st.cache_data(max_entries=16, show_spinner="Drawing ...")
def figure(_report: RationaleReport, key: str, kind: str) -> str:
    """A figure of the report, which is known by `key`, as HTML."""
    return pictures.picture(lambda: _report.figure(kind), FIGURES[kind])


def document_table(
    report: RationaleReport, *, metric: str, method: str, other: str, layer: int, order: str
) -> pd.DataFrame:
    """A row a scored document: its labels, size, the metric of two methods at a layer, and their difference."""
    values = report.values[..., report.metrics.index(metric)]  # (M, L, D)
    columns = {}
    for name in (method, other):
        row = values[report.methods.index(name)]
        columns[name] = row[layer if report.is_layerwise(name) else 0]
    first, second = report.title(method), report.title(other)
    if first == second:
        second = f"{second} "
    gap = columns[method] - columns[other]
    table = pd.DataFrame(
        {
            "document": [document.id for document in report.documents],
            "gold": [document.label for document in report.documents],
            "predicted": [document.adapler_prediction or document.prediction for document in report.documents],
            first: columns[method],
            second: columns[other],
            "difference": gap,
            "tokens": [document.tokens for document in report.documents],
            "rationale": [document.rationale_tokens for document in report.documents],
        }
    )
    key = {DISAGREEMENT: np.abs(gap)}.get(order, columns[method])
    table = table[~np.isnan(columns[method])]
    falling = order == DISAGREEMENT or (order == BEST) == higher_is_better(metric)
    places = np.argsort(-key[table.index] if falling else key[table.index], kind="stable")
    return table.iloc[places].reset_index(drop=True)


def corpus_of(report: RationaleReport, corpora: Mapping[str, Path]) -> str | None:
    """The name of the corpus that the report was made on, among those of the menu."""
    wanted = report.meta.get("data", {}).get("checksum")
    for name in corpora:
        try:
            if find_corpus(corpora, name).checksum == wanted:
                return name
        except DataError:
            continue
    return None


def metric_name(name: str) -> str:
    """A metric's name for a menu; a report may have metrics that this version does not know."""
    try:
        return get_metric(name).title
    except ArgumentError:
        return name


def page(report: RationaleReport) -> bytes:
    """The report as one HTML page."""
    with locks.drawing():
        return report.to_html().encode()
