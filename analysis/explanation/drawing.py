"""An explanation as a figure for a paper: every layer as a heat map, or one layer token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adapler.errors import ArgumentError, is_number
from analysis.explanation.data import ExplanationData, MethodScores
from analysis.figures.document import document_height, plot_document
from analysis.figures.heatmap import heatmap_figure, token_names
from analysis.figures.style import STYLE, PaperFigure, fitted, literal, short_numbers, styled, text_width, venue
from analysis.results.report import ReportData

AS_BARS = 48  # tokens; of a longer text an excerpt is drawn, shaded
LINES = 3  # of that excerpt
FOR, AGAINST = "#D55E00", "#0072B2"
TURN = 60  # degrees by which the tokens below bars are turned

# inches
BESIDE = 0.45  # what a panel of bars has beside its title: the numbers at its left
BELOW = 0.6  # of the tokens' names that the height of bars has room for
TITLE_LINE = 0.13


def draw(
    data: ExplanationData,
    *,
    layer: int | None = None,
    methods: Sequence[str] | str | None = None,
    style: str = "acl",
) -> Figure:
    """Every layer as a heat map, a panel a method; at one `layer` bars, or for a long text the shaded text.

    A method with a meaning at the input only is drawn at whatever layer is asked for.
    Raises ArgumentError for a method or a layer that is not there, and when there is no method at all.
    """
    chosen = data.chosen(methods)
    if not chosen:
        raise ArgumentError("plot: this explanation has no methods")
    if layer is None:
        return heatmap_figure(_report(data, chosen), methods=[method.name for method in chosen], style=style)
    if not is_number(layer, whole=True):
        raise ArgumentError(f"layer: got {layer!r}, must be a whole number")
    for method in chosen:
        if method.layerwise and not 0 <= layer < len(method.scores):
            raise ArgumentError(f"layer: got {layer}, {method.name!r} has 0 to {len(method.scores) - 1}")
    if data.n <= AS_BARS:
        return _bars(data, chosen, layer, style=style)
    return _texts(data, chosen, layer, style=style)


def _report(data: ExplanationData, chosen: Sequence[MethodScores]) -> ReportData:
    """The text as the only example of a report without documents, which is what the figures of examples take."""
    return ReportData(
        methods=tuple(method.name for method in chosen),
        metrics=(),
        documents=(),
        values=np.zeros((len(chosen), max(1, data.n_layers), 0, 0)),
        meta={
            "titles": {method.name: method.title for method in chosen},
            "layerwise": {method.name: method.layerwise for method in chosen},
        },
        examples=(data.document(),),
    )


@styled
def _bars(data: ExplanationData, chosen: Sequence[MethodScores], layer: int, *, style: str) -> Figure:
    size = float(STYLE["axes.titlesize"])
    titles = [_title(method, layer, 72 * (venue(style).text - BESIDE)) for method in chosen]
    longest = max(text_width(line, size) for title in titles for line in title.split("\n")) / 72
    width = venue(style).text if data.n > 16 else max(venue(style).column, 0.24 * data.n + 0.7)
    width = max(width, min(venue(style).text, longest + BESIDE))
    size = float(STYLE["xtick.labelsize"])
    names = token_names(data.document(), size)
    deep = math.sin(math.radians(TURN)) * max(text_width(name, size) for name in names) / 72
    lines = sum(title.count("\n") for title in titles)
    height = 1.0 * len(chosen) + 0.65 + max(0.0, deep - BELOW) + TITLE_LINE * lines
    figure = PaperFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0].tolist()
    for ax, method, title in zip(axes, chosen, titles, strict=True):
        plot_bars(data, method, layer, ax)
        ax.set_title(title, loc="left")
    written = [literal(name) for name in names]
    axes[-1].set_xticks(np.arange(data.n), written, rotation=TURN, ha="right", rotation_mode="anchor")
    for label, marked in zip(axes[-1].get_xticklabels(), data.document().rationale, strict=True):
        label.set_fontweight("bold" if marked else "normal")
    return figure


def _title(method: MethodScores, layer: int, width: float) -> str:
    """The panel's title; one of more than `width` points has its target on a line of its own."""
    size = float(STYLE["axes.titlesize"])
    where = f", layer {layer}" if method.layerwise else ", input"
    target = f", target {method.target}" if method.target else ""
    if text_width(literal(f"{method.title}{where}{target}"), size) <= width:
        return literal(f"{method.title}{where}{target}")
    name = fitted(method.title, width - text_width(where, size), size)
    return "\n".join(map(literal, (f"{name}{where}", *([fitted(target[2:], width, size)] if target else ()))))


def plot_bars(data: ExplanationData, method: MethodScores, layer: int, ax: Axes) -> None:
    """One bar a token: its score at a layer. Hollow: the model drops it there; a cross: it was dropped before.

    Lines: 1/n (dashed), n being the tokens among which the scores are shared out, at the layer those that are left,
    and AdapLeR's threshold.
    """
    row = method.row(layer)
    scores, position = method.scores[row], np.arange(data.n)
    kept = np.ones(data.n, dtype=np.bool_)
    delta = float(data.thresholds[row]) if method.of_removal and data.thresholds is not None else None
    uniform = None if method.signed else 1 / int(method.n_present[row])
    if uniform is not None:
        _level(
            ax, uniform, f"1/n, n = {int(method.n_present[row])}", above=delta is None or uniform >= delta, dashed=True
        )
    if delta is not None:
        _level(ax, delta, "threshold", above=uniform is not None and delta > uniform)
    if data.kept is not None and method.present is not None and method.of_removal:
        kept = data.kept[row]
        gone = np.flatnonzero(~method.present[row])
        if len(gone):  # an empty line that is not clipped has no extent, and the layout fails
            ax.plot(gone, np.zeros(len(gone)), "x", color="0.5", markersize=3, markeredgewidth=0.7, clip_on=False)
    colors = np.where(scores < 0, AGAINST, FOR)
    ax.bar(position, scores, width=0.75, color=np.where(kept, colors, "none"), edgecolor=colors, linewidth=0.6)
    if method.signed:
        ax.axhline(0, color="0.3", linewidth=0.6)
    ax.set_xlim(-0.6, data.n - 0.4)
    ax.grid(False, axis="x")
    ax.tick_params(axis="x", length=0)
    short_numbers(ax)


def _level(ax: Axes, value: float, name: str, *, above: bool, dashed: bool = False) -> None:
    """A line across, with its name right of the axes, above or below the line's end."""
    ax.axhline(value, color="0.35", linewidth=0.7, linestyle=(0, (4, 2)) if dashed else "-")
    ax.annotate(
        name,
        (1, value),
        xycoords=ax.get_yaxis_transform(),
        xytext=(2, 0),
        textcoords="offset points",
        va="bottom" if above else "top",
        size=6.5,
        color="0.35",
        annotation_clip=False,
    )


@styled
def _texts(data: ExplanationData, chosen: Sequence[MethodScores], layer: int, *, style: str) -> Figure:
    width, gap = venue(style).text, 0.22  # inches; the gap holds a method's title
    height = document_height(1, LINES)
    figure = PaperFigure(figsize=(width, len(chosen) * (height + gap)))
    total = len(chosen) * (height + gap)
    for index, method in enumerate(chosen):
        bottom = total - (index + 1) * (height + gap)
        ax = figure.add_axes((0, bottom / total, 1, height / total))
        options: dict[str, Any] = {"layers": [method.row(layer)], "n_lines": LINES, "layerwise": method.layerwise}
        plot_document(data.document(), ax, method=method.name, **options)
        ax.set_title(literal(method.title), loc="left")
    return figure
