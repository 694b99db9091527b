"""Figures of a report, for a paper. Every function takes results and an `ax`, never a model; nothing is recomputed.

report.figure("agreement", panels=("average_precision", "fpr"), style="neurips")
python -m analysis.figures reports/sample-test --style acl
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from adapler.errors import ArgumentError
from adapler.system import replacing
from analysis.figures import curves
from analysis.figures.paper import select
from analysis.figures.tokens import document_figure, heatmap_figure

if TYPE_CHECKING:
    from analysis.report import RationaleReport

FORMATS: dict[str, dict[str, Any]] = {  # and what is left out of the file: drawn again, it is the same
    ".pdf": {"CreationDate": None},
    ".png": {"Software": None},
    ".svg": {"Date": None},
}
_KINDS: dict[str, Callable[..., Figure]] = {
    "agreement": curves.agreement_figure,
    "lengths": curves.lengths_figure,
    "precision_recall": curves.precision_recall_figure,
    "correlation": curves.correlation_figure,
    "faithfulness": curves.faithfulness_figure,
    "document": document_figure,
    "heatmap": heatmap_figure,
}


def kinds(report: RationaleReport, methods: Sequence[str] | str | None = None) -> tuple[str, ...]:
    """The figures that this report has results for; methods: of these, default all of them."""
    chosen = select(report, methods)
    documents = report.documents
    has = {
        "agreement": bool(report.frame["method"].isin(chosen).any()),
        "lengths": len(documents) > 0 and bool(documents["lengths"].notna().any()),
        "precision_recall": any(np.isfinite(report.curves[name]).any() for name in chosen if name in report.curves),
        "correlation": bool(curves.correlation_layers(report, methods)),
        "faithfulness": bool(curves.faithfulness_layers(report, methods)),
        "document": any(example.scores for example in report.examples),
        "heatmap": any(example.scores for example in report.examples),
    }
    return tuple(kind for kind in _KINDS if has[kind])


def draw(report: RationaleReport, kind: str, **options: Any) -> Figure:
    """The figure of that kind. Every kind takes style="acl" | "neurips"; most take methods=..., and those that show
    some layers only, layers=..."""
    if kind not in _KINDS:
        raise ArgumentError(f"figure {kind!r} is not known, there are {', '.join(_KINDS)}")
    if kind not in kinds(report, options.get("methods")):
        raise ArgumentError(f"figure {kind!r}: the report has no results for it")
    return _KINDS[kind](report, **options)


def save_all(
    report: RationaleReport,
    folder: str | Path,
    *,
    style: str = "acl",
    methods: Sequence[str] | None = None,
    track: Callable[[list[str]], Iterable[str]] = iter,
) -> list[Path]:
    """Every figure of the report as PDF, PNG and SVG; one of each document kind for every example. Figures of another
    report that these do not replace are removed from the folder.

    methods: those to draw where a figure has several; default: all (in the heat map: up to four). track: passes the
    figures' names on one by one, as a progress bar does.
    """
    chosen = select(report, methods)
    drawings: dict[str, tuple[str, dict[str, Any]]] = {}  # file name -> kind, options
    for kind in kinds(report, methods):
        options: dict[str, Any] = {"style": style}
        if methods and kind not in ("document", "lengths"):
            options["methods"] = methods
        if kind not in ("document", "heatmap"):
            drawings[kind] = (kind, options)
            continue
        for index, example in enumerate(report.examples):  # saved scores need not be there for every document
            if example.scores.keys() & (chosen if kind == "heatmap" else example.scores):
                drawings[f"{kind}-{index + 1}" if index else kind] = (kind, {"example": index, **options})
    paths: list[Path] = []
    for name in track(list(drawings)):
        kind, options = drawings[name]
        paths += save_figure(draw(report, kind, **options), Path(folder) / name)
    ours = re.compile(rf"({'|'.join(_KINDS)})(-\d+)?")
    for path in Path(folder).glob("*"):
        if path.suffix in FORMATS and ours.fullmatch(path.stem) and path not in paths:
            path.unlink()
    return paths


def save_figure(figure: Figure, stem: str | Path) -> list[Path]:
    """Write `stem`.pdf (fonts embedded), `stem`.png (300 dpi) and `stem`.svg."""
    paths = [Path(f"{stem}{suffix}") for suffix in FORMATS]
    for path in paths:
        write_figure(figure, path)
        figure.set_layout_engine("none")  # its parts have found their places
    return paths


def write_figure(figure: Figure, path: Path) -> None:
    """Write one file, whole or not at all; its ending says the format."""
    suffix = path.suffix.lower()
    with replacing(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], metadata=FORMATS[suffix])


def svg_file(figure: Figure) -> str:
    """The figure as the text of an SVG file."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=FORMATS[".svg"])
    return stream.getvalue()
