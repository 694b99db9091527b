"""Figures of a report, for a paper. Every function takes results and an `ax`, never a model; nothing is recomputed.

report.figure("agreement", panels=("average_precision", "fpr"), style="neurips")
python -m analysis.figures reports/sample-test --style acl
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from adapler.errors import ArgumentError, is_number
from adapler.files import replacing
from analysis.documents.values import listed
from analysis.figures.curves import (
    correlation_figure,
    correlation_layers,
    faithfulness_figure,
    faithfulness_kinds,
    faithfulness_layers,
    plot_correlation,
    plot_faithfulness,
    plot_precision_recall,
    precision_recall_figure,
)
from analysis.figures.document import document_figure, plot_document
from analysis.figures.heatmap import heatmap_figure, plot_heatmap
from analysis.figures.layers import agreement_figure, lengths_figure, plot_lengths, plot_metric
from analysis.figures.style import STYLE, VENUES, select
from analysis.figures.tradeoff import plot_tradeoff, read_tradeoff, tradeoff_figure
from analysis.results.report import ReportData

__all__ = [
    "STYLE",
    "VENUES",
    "draw",
    "kinds",
    "plot_correlation",
    "plot_document",
    "plot_faithfulness",
    "plot_heatmap",
    "plot_lengths",
    "plot_metric",
    "plot_precision_recall",
    "plot_tradeoff",
    "read_tradeoff",
    "remove_others",
    "save_all",
    "save_figure",
    "svg_file",
    "tradeoff_figure",
]

FORMATS: dict[str, dict[str, Any]] = {  # and what is left out of the file, so that the same figure is the same bytes
    ".pdf": {"CreationDate": None},
    ".png": {"Software": None},
    ".svg": {"Date": None},
}
_KINDS: dict[str, Callable[..., Figure]] = {
    "agreement": agreement_figure,
    "lengths": lengths_figure,
    "precision_recall": precision_recall_figure,
    "correlation": correlation_figure,
    "faithfulness": faithfulness_figure,
    "document": document_figure,
    "heatmap": heatmap_figure,
}


def kinds(report: ReportData, methods: Sequence[str] | None = None) -> tuple[str, ...]:
    """The figures that this report has results for; methods: of these, default all of them.

    Raises ArgumentError for a method that the report does not have.
    """
    chosen = select(report, methods)
    curves = [report.curves[method] for method in chosen if method in report.curves]
    has = {
        "agreement": bool(np.isfinite(report.values[[report.methods.index(method) for method in chosen]]).any()),
        "lengths": report.mean_lengths is not None,
        "precision_recall": any(np.isfinite(curve).any() for curve in curves),
        "correlation": bool(correlation_layers(report, methods)),
        "faithfulness": bool(faithfulness_kinds(report) and faithfulness_layers(report, methods)),
        "document": any(example.scores for example in report.examples),
        "heatmap": any(example.scores for example in report.examples),
    }
    return tuple(kind for kind in _KINDS if has[kind])


def draw(report: ReportData, kind: str, **options: Any) -> Figure:
    """The figure of that kind; ArgumentError lists the kinds there are, or the options of this one.

    Every kind takes style="acl" | "neurips"; most take methods=..., and those that show some layers only, layers=...
    """
    if kind not in _KINDS:
        raise ArgumentError(f"figure {kind!r} is not known, there are {', '.join(_KINDS)}")
    known = list(inspect.signature(_KINDS[kind]).parameters)[1:]
    if unknown := [name for name in options if name not in known]:
        raise ArgumentError(f"figure {kind!r} has no option {unknown[0]!r}, but {', '.join(known)}")
    options = {name: _listed(name, value) for name, value in options.items()}
    return _KINDS[kind](report, **options)


def _listed(name: str, value: Any) -> Any:
    """One method or one layer as a list of one; ArgumentError for layers that are no whole numbers."""
    if name == "methods" and value is not None:
        return listed(name, value)
    if name != "layers" or value is None:
        return value
    layers = [value] if is_number(value) or not isinstance(value, Iterable) else list(value)
    if isinstance(value, str) or not all(is_number(layer, whole=True) for layer in layers):
        raise ArgumentError(f"layers: got {value!r}, must be a whole number or a list of them")
    return layers


def save_all(
    report: ReportData,
    folder: str | Path,
    *,
    style: str = "acl",
    methods: Sequence[str] | None = None,
    track: Callable[[list[str]], Iterable[str]] = iter,
) -> list[Path]:
    """Every figure of the report as PDF, PNG and SVG; one of each document kind for every example.

    methods: those to draw where a figure has several; default: all (in the heat map: up to four).
    track: given the figures' names, passes them on one by one; a progress bar.
    """
    drawings = _drawings(report, style=style, methods=methods)
    paths: list[Path] = []
    for name in track(list(drawings)) if drawings else ():  # no bar of nothing
        kind, options = drawings[name]
        paths += save_figure(draw(report, kind, **options), Path(folder) / name)
    return paths


def remove_others(folder: str | Path, drawn: Iterable[Path]) -> None:
    """Remove the figures of a report, by their names, that are in `folder` and not among those drawn now."""
    known, kept = re.compile(rf"({'|'.join(_KINDS)})(-\d+)?"), set(drawn)
    for path in sorted(Path(folder).glob("*")):
        if path.suffix in FORMATS and known.fullmatch(path.stem) and path not in kept:
            path.unlink()


def _drawings(
    report: ReportData, *, style: str, methods: Sequence[str] | None
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Of each file's name: the kind of figure and its options.

    Raises ArgumentError for a method that the report does not have.
    """
    methods = _listed("methods", methods)
    chosen = select(report, methods)
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for kind in kinds(report, methods):
        options: dict[str, Any] = {"style": style}
        if methods is not None and kind not in ("document", "lengths"):
            options["methods"] = methods
        if kind not in ("document", "heatmap"):
            found[kind] = (kind, options)
            continue
        for index, example in enumerate(report.examples):
            # saved scores need not be there for every document
            if example.scores and (kind == "document" or any(method in example.scores for method in chosen)):
                name = kind if index == 0 else f"{kind}-{index + 1}"
                found[name] = (kind, {"example": index, **options})
    return found


def svg_file(figure: Figure) -> str:
    """What `save_figure` writes as `stem`.svg."""
    stream = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata=FORMATS[".svg"])
    return stream.getvalue()


def save_figure(figure: Figure, stem: str | Path) -> list[Path]:
    """Write `stem`.pdf (fonts embedded), `stem`.png (300 dpi) and `stem`.svg; the same figure gives the same bytes.

    Its parts find their places once, when the first of the three is drawn: that takes as long as drawing does.
    """
    paths = {suffix: Path(f"{stem}{suffix}") for suffix in FORMATS}
    layout = figure.get_layout_engine()
    for suffix in sorted(FORMATS, reverse=True):  # SVG first, which a page draws by itself, to the same bytes
        with rc_context(STYLE), replacing(paths[suffix]) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=FORMATS[suffix])
        figure.set_layout_engine("none")
    if layout is not None:
        figure.set_layout_engine(layout)
    return list(paths.values())
