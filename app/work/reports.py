"""Report folders that the page may open, and what its Corpus view shows of a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from adapler.errors import ArgumentError, DataError
from analysis.metrics.registry import get_metric
from analysis.report import SCHEMA, RationaleReport
from analysis.wording import higher_is_better
from app.markup import pictures
from app.server import locks
from app.server.state import BEST, DISAGREEMENT
from app.sources.loading import ROOT, adapler_checksum, find_corpus, weights_checksum, without_path
from app.sources.menus import Stamp, holding, stamp, told_apart

NAME = "report.json"
NO_REPORT = (
    f"named with --reports, holds no {NAME}, nor does a folder up to two levels below: nothing of it is in the menu. "
    "`python -m analysis.rationale_eval --output DIR` writes one."
)
FIGURES = {
    "agreement": "Agreement by layer",
    "lengths": "Tokens left by layer",
    "precision_recall": "Precision and recall",
    "correlation": "Correlation of the methods",
    "faithfulness": "Faithfulness",
}


def list_reports(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders with a report.json, these or up to two below; those that this version reads come first.

    One two levels below is called by both of its folders.
    """
    return told_apart(sorted(holding(NAME, folders), key=lambda one: not _is_current(one[1] / NAME)))


def _is_current(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as stream:
            return re.search(rf'"schema_version": {SCHEMA["schema_version"]}\b', stream.read(200)) is not None
    except (OSError, UnicodeDecodeError):
        return False


def key_of(path: Path) -> str:
    """What tells a report from all others, and from what was in its folder before."""
    return ":".join(map(str, stamp(path / NAME)))


def find_report(found: Mapping[str, Path], name: str) -> RationaleReport:
    """The report of a name in the menu. Raises DataError for one that is damaged or of another version."""
    path = found[name] / NAME
    try:
        return _load(str(path), stamp(path))
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error
    except DataError as error:
        raise DataError(without_path(error, path, name)) from error


def read(path: Path) -> RationaleReport:
    """The report in a folder, read anew. Raises DataError."""
    return RationaleReport.load(path)


# A resource: a report is frozen, and a large one is not copied at every rerun.
@st.cache_resource(max_entries=3, show_spinner="Reading the report ...")
def _load(path: str, version: Stamp) -> RationaleReport:
    return RationaleReport.load(Path(path))


ORIGIN = (
    "adapler",
    "model",
    "checksums",
    "weights",
    "data",
    "split",
    "truncation",
    "threshold_scale",
    "queries",
    "dtype",
)


@dataclass(frozen=True)
class Origin:
    """Whose numbers a report holds, in the words of the menus.

    checkpoint  its name in the menu; None where the menu does not have it, or has other weights under its name
    called      what the report itself calls the model, without a path
    split, policy, scale, queries: what was evaluated, and how; dtype: in which number format
    has_model  False of scores out of a file, which no model has made here; removes: whether an AdapLeR model took part
    """

    checkpoint: str | None
    called: str
    data: str
    split: str
    policy: str
    scale: float
    queries: bool
    dtype: str
    has_model: bool = True
    removes: bool = True


def origin_of(meta: Mapping[str, Any], checkpoints: Mapping[str, Path]) -> Origin:
    """Whose numbers a report holds, out of its `meta` (of which ORIGIN is read); `checkpoints` is the menu."""
    adapler = meta.get("adapler")
    return Origin(
        checkpoint=_checkpoint_of(meta, checkpoints),
        called=Path(str(adapler)).name if adapler else f"{Path(str(meta.get('model'))).name}, without AdapLeR",
        data=str(meta["data"]["name"]),
        split=str(meta["split"]),
        policy=str(meta.get("truncation") or "unknown"),
        scale=float(meta.get("threshold_scale", 1.0)),
        queries=bool(meta.get("queries")),
        dtype=str(meta.get("dtype") or "float32"),  # older reports do not say it, and are in float32
        has_model=bool(adapler or meta.get("model")),
        removes=bool(adapler),
    )


def _checkpoint_of(meta: Mapping[str, Any], checkpoints: Mapping[str, Path]) -> str | None:
    """By the weights' checksum where the report has one, else by the folder that was named.

    It is in `checksums`; of earlier reports that this page has made, one of the files is in `weights`.
    """
    named = meta.get("adapler")
    if named is None:
        return None
    path = (ROOT / str(named)).resolve()
    by_folder = [name for name, folder in checkpoints.items() if folder.resolve() == path]
    checksums = meta.get("checksums")
    checksum, wanted = adapler_checksum, checksums.get("adapler") if isinstance(checksums, dict) else None
    if wanted is None:
        checksum, wanted = weights_checksum, meta.get("weights")
    if wanted is None:
        return by_folder[0] if by_folder else None
    order = dict.fromkeys((*by_folder, *(name for name in checkpoints if name == named), *checkpoints))
    return next((name for name in order if checksum(checkpoints[name]) == wanted), None)


def kinds(report: RationaleReport) -> tuple[str, ...]:
    """The figures there are, without those of single documents."""
    from analysis import figures

    return tuple(kind for kind in figures.kinds(report) if kind in FIGURES)


@st.cache_data(max_entries=16, show_spinner="Drawing ...")
def figure(_report: RationaleReport, key: str, kind: str) -> str:
    """A figure of the report, which is known by `key`, as HTML."""
    return pictures.picture(lambda: _report.figure(kind), FIGURES[kind])


@dataclass(frozen=True)
class Filter:
    """Which documents of a report are listed.

    label    gold; None: any
    changed  only those whose verdict removal changes
    wrong    only those whose verdict, with removal where there is some, is not the gold label
    tokens   fewest and most; None: any number
    """

    label: str | None = None
    changed: bool = False
    wrong: bool = False
    tokens: tuple[int, int] | None = None

    def takes(self, document: Any) -> bool:
        verdict = document.adapler_prediction or document.prediction
        return (
            (self.label is None or document.label == self.label)
            and not (self.changed and document.adapler_prediction in (None, document.prediction))
            and not (self.wrong and verdict in (None, document.label))
            and (self.tokens is None or self.tokens[0] <= document.tokens <= self.tokens[1])
        )


def document_table(
    report: RationaleReport, *, metric: str, method: str, other: str, layer: int, order: str, only: Filter | None = None
) -> pd.DataFrame:
    """A row a scored document that `only` takes: its labels, size, the metric of two methods at a layer, and their
    difference."""
    values, documents = report.values[..., report.metrics.index(metric)], report.documents  # (M, L, D)
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
            "document": documents["id"],
            "gold": documents["label"],
            "predicted": documents["adapler_prediction"].fillna(documents["prediction"]),
            "without removal": documents["prediction"],
            first: columns[method],
            second: columns[other],
            "difference": gap,
            "tokens": documents["tokens"],
            "rationale": documents["rationale_tokens"],
        }
    )
    key = {DISAGREEMENT: np.abs(gap)}.get(order, columns[method])
    taken = np.array([only is None or only.takes(document) for document in documents.itertuples()], dtype=np.bool_)
    table = table[~np.isnan(columns[method]) & taken]
    falling = order == DISAGREEMENT or (order == BEST) == higher_is_better(metric)
    places = np.argsort(-key[table.index] if falling else key[table.index], kind="stable")
    ordered: pd.DataFrame = table.iloc[places].reset_index(drop=True)
    return ordered


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
    with locks.DRAWING:
        return report.to_html().encode()
