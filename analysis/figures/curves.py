"""Precision-recall curves, faithfulness curves, and the rank correlation of the methods.

M methods, L layers
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullLocator

from adapler.errors import ArgumentError
from analysis.figures.layers import CHANCE, EDGE, plot_intervals, shared_legend
from analysis.figures.style import (
    PaperFigure,
    fitted,
    label,
    looks,
    require_layer,
    select,
    short_numbers,
    some_layers,
    styled,
    text_width,
    venue,
)
from analysis.metrics.plausibility import RECALL_GRID
from analysis.results.report import ReportData
from analysis.results.wording import number

FAITHFULNESS = {"comprehensiveness": "Comprehensiveness ↑", "sufficiency": "Sufficiency ↓"}
NORMAL_95 = 1.96  # standard errors on either side of a mean
DIVERGING = "RdBu"  # white at 0
CELL = 0.21  # inches; in smaller cells a correlation is not also printed as a number
NAMED_CELL = 0.135  # inches; the names under smaller cells, at 45 degrees, would overlap
LEAST_SIDE = 0.85  # inches of a panel that stands beside another
NAME_SIZE = 7  # points of the methods' names beside a correlation
LONGEST_NAME = 30  # letters of a middle width


def plot_precision_recall(report: ReportData, layer: int, ax: Axes, *, methods: Sequence[str] | None = None) -> None:
    """Interpolated precision at each recall, mean over documents, one line a method, with its 95 % band (1.96 standard
    errors at each recall) where the report has them; chance is the curve of `random`, where the report has it."""
    require_layer(layer, report.n_layers)
    for method, look in looks(select(report, methods)).items():
        curve = report.curves.get(method)
        if curve is None or method == "random":
            continue
        row = curve[layer if report.is_layerwise(method) else 0]
        if not np.isnan(row).all():
            # a marker every .2, each method's at recalls of its own, so that they do not hide each other
            offset = 3 * (list(report.methods).index(method) % 6)
            style = {**EDGE, "zorder": 3, **look}
            ax.plot(RECALL_GRID, row, markevery=(offset, 20), label=label(report, method), **style)
            if (errors := report.curve_errors.get(method)) is not None:
                half = NORMAL_95 * errors[layer if report.is_layerwise(method) else 0]
                band = {"color": look["color"], "alpha": 0.1, "linewidth": 0, "zorder": 1}
                ax.fill_between(RECALL_GRID, row - half, row + half, **band)
    # random's own curve: interpolated precision is the best at any higher recall, so chance is above the density
    if "random" in report.curves:
        ax.plot(RECALL_GRID, report.curves["random"][layer], **CHANCE, label="Chance")
    ax.set(xlim=(0, 1), ylim=(0, None), xlabel="Recall", ylabel="Precision")
    ax.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    ax.set_title(f"Layer {layer}", loc="left")
    short_numbers(ax)


@styled
def precision_recall_figure(
    report: ReportData,
    *,
    layers: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    style: str = "acl",
) -> Figure:
    """Precision-recall curves at the first, the middle and the last layer, or at `layers`."""
    if not report.curves:
        raise ArgumentError("figure 'precision_recall': the report has no precision-recall curves")
    layers = some_layers(report.n_layers, 3) if layers is None else layers
    width = venue(style).text if len(layers) > 1 else venue(style).column
    figure, axes = _panels(len(layers), size=(width, 2.25), columns=len(layers))
    for ax, layer in zip(axes, layers, strict=True):
        plot_precision_recall(report, layer, ax, methods=methods)
        if ax is not axes[0]:
            ax.set_ylabel("")
    top = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(0, min(top, 1.02))
    shared_legend(figure, axes)
    return figure


def faithfulness_bins(report: ReportData, kind: str = "comprehensiveness") -> tuple[int, ...]:
    """Shares of the tokens, in percent, for which the report has that metric."""
    shares = (metric.removeprefix(f"{kind}_") for metric in report.metrics if metric.startswith(f"{kind}_"))
    return tuple(sorted(int(share) for share in shares if share.isdigit()))


def plot_faithfulness(
    report: ReportData, kind: str, layer: int, ax: Axes, *, methods: Sequence[str] | None = None
) -> None:
    """Comprehensiveness or sufficiency against the share of tokens that make up the rationale, with its 95 % band."""
    if kind not in FAITHFULNESS:
        raise ArgumentError(f"kind: got {kind!r}, allowed are {', '.join(FAITHFULNESS)}")
    bins = faithfulness_bins(report, kind)
    if not bins:
        raise ArgumentError(f"figure 'faithfulness': the report has no metric {kind}_1, {kind}_5, ...")
    require_layer(layer, report.n_layers)
    summary = report.summary().set_index(["method", "layer", "metric"])
    for method, look in looks(select(report, methods)).items():
        at = layer if report.is_layerwise(method) else 0
        rows = summary.loc[[(method, at, f"{kind}_{share}") for share in bins]]
        line = {**EDGE, "zorder": 3, **look, "label": label(report, method), "clip_on": False}
        ax.plot(bins, rows["mean"].to_numpy(), **line)
        plot_intervals(ax, bins, rows, color=look["color"], alpha=0.1)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(bins, [str(share) for share in bins])
    ax.set_xlabel("Tokens, %")
    short_numbers(ax)


@styled
def faithfulness_figure(
    report: ReportData,
    *,
    layers: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    style: str = "acl",
) -> Figure:
    """Comprehensiveness and sufficiency by share of tokens, a row of panels for each layer of `layers` (default: the
    first and the last layer that the report has them for)."""
    kinds, known = faithfulness_kinds(report), faithfulness_layers(report, methods)
    if not kinds or not known:
        raise ArgumentError("figure 'faithfulness': the report has no comprehensiveness_1, sufficiency_1, ...")
    layers = [known[i] for i in some_layers(len(known), 2)] if layers is None else layers
    if not layers:
        raise ArgumentError("layers: got none, at least one is needed")
    side_by_side = len(kinds) * len(layers) <= 4 and venue(style).text > 6
    n_rows = 1 if side_by_side else len(layers)
    n_columns = len(kinds) * len(layers) // n_rows
    figure = PaperFigure(figsize=(venue(style).text, 1.95 * n_rows + 0.35), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel().tolist()
    for ax, (layer, kind) in zip(grid, [(layer, kind) for layer in layers for kind in kinds], strict=True):
        plot_faithfulness(report, kind, layer, ax, methods=methods)
        ax.set_title(f"{FAITHFULNESS[kind]}\nlayer {layer}", loc="left")
    for first in range(len(kinds)):  # one scale a metric
        same = grid[first :: len(kinds)]
        low, high = min(ax.get_ylim()[0] for ax in same), max(ax.get_ylim()[1] for ax in same)
        for ax in same:
            ax.set_ylim(low, high)
    shared_legend(figure, grid)
    return figure


def faithfulness_kinds(report: ReportData) -> tuple[str, ...]:
    """Which of comprehensiveness and sufficiency the report has by share of tokens; their mean (AOPC) is no curve."""
    return tuple(kind for kind in FAITHFULNESS if faithfulness_bins(report, kind))


def faithfulness_layers(report: ReportData, methods: Sequence[str] | None = None) -> tuple[int, ...]:
    """The layers for which faithfulness of the methods was computed; of those with a meaning at the input alone, 0."""
    metrics = [m for m, name in enumerate(report.metrics) if name.partition("_")[0] in FAITHFULNESS]
    chosen = select(report, methods)
    values = report.values[[report.methods.index(method) for method in chosen]][..., metrics]
    defined = ~np.isnan(values).all(axis=(2, 3))  # (M, L)
    layered = np.logical_and(defined, [[report.is_layerwise(method)] for method in chosen])
    return tuple(np.flatnonzero((layered if layered.any() else defined).any(axis=0)).tolist())


def plot_correlation(report: ReportData, layer: int, ax: Axes, *, methods: Sequence[str] | None = None) -> AxesImage:
    """Spearman's rank correlation of two methods' scores, mean over documents, at one layer.

    Each pair stands once, below the diagonal; white is no correlation, blue a positive one, red a negative one. Methods
    without any defined correlation at the layer are left out.

    Raises ArgumentError where fewer than two methods are left.
    """
    matrix, names = _correlations(report, layer, methods)
    if not names:
        raise ArgumentError(f"figure 'correlation': no two of the methods have a correlation at layer {layer}")
    shown = np.where(np.tri(len(names), k=-1, dtype=bool), matrix, np.nan)  # each pair once, no method with itself
    image = ax.imshow(shown, cmap=DIVERGING, vmin=-1, vmax=1)
    titles = _axis_names(report, names)
    ax.set_xticks(range(len(names)), titles, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), titles)
    ax.tick_params(length=0, labelsize=NAME_SIZE)
    ax.grid(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    if min(ax.get_window_extent().width, ax.get_window_extent().height) / ax.figure.dpi >= CELL * len(names):
        for (row, column), rho in np.ndenumerate(shown):
            if row <= column:
                continue
            dark = abs(rho) > 0.65
            text = number(float(rho), 2).replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", fontsize=6, color="white" if dark else "black")
    ax.set_title(f"Layer {layer}", loc="left")
    return image


def _axis_names(report: ReportData, methods: Sequence[str]) -> list[str]:
    """Names as they stand on both axes: whole ones can be wider than the figure."""
    widest = LONGEST_NAME * text_width("n", NAME_SIZE)
    return [fitted(label(report, method), widest, NAME_SIZE) for method in methods]


def _correlations(report: ReportData, layer: int, methods: Sequence[str] | None) -> tuple[Any, list[str]]:
    if report.correlations is None:
        raise ArgumentError("figure 'correlation': the report has no correlations")
    chosen = [report.methods.index(method) for method in select(report, methods)]
    matrix = report.correlations[require_layer(layer, report.n_layers)][np.ix_(chosen, chosen)]
    others = np.where(np.eye(len(chosen), dtype=bool), np.nan, matrix)
    keep = np.flatnonzero(~np.isnan(others).all(axis=1))
    return matrix[np.ix_(keep, keep)], [report.methods[chosen[m]] for m in keep.tolist()]


def correlation_layers(report: ReportData, methods: Sequence[str] | None = None) -> tuple[int, ...]:
    """The layers at which at least two of the methods have a correlation."""
    if report.correlations is None:
        return ()
    return tuple(layer for layer in range(report.n_layers) if _correlations(report, layer, methods)[1])


@styled
def correlation_figure(
    report: ReportData,
    *,
    layers: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    style: str = "acl",
) -> Figure:
    """Which methods rank the tokens alike, at `layers`, or at the first and the last one with two methods or more.

    The layers stand side by side, or below each other where the methods' names would overlap or leave too little room.
    """
    if layers is None:
        known = correlation_layers(report, methods)
        if not known:
            raise ArgumentError("figure 'correlation': the report has no correlations of two of the methods")
        layers = [known[i] for i in some_layers(len(known), 2)]
    width = venue(style).text
    titles = _axis_names(report, select(report, methods))
    names = max(text_width(title, NAME_SIZE) for title in titles) / 72  # inches
    count = len(titles)

    def side_of(panels: int) -> float:
        """Inches of a panel where so many stand side by side."""
        return min(0.4 * count, max(1.2, (width - 0.75 - panels * (names + 0.15)) / panels))

    panels = max(1, len(layers))
    side = side_of(panels)
    # the names stand left of the first panel only; those under the others, at 45 degrees, reach to the left
    room = (width - 0.75 - names - 0.15 - (panels - 1) * (0.72 * names + 0.15)) / panels
    if panels > 1 and (side < NAMED_CELL * count or room < LEAST_SIDE):
        panels, side = 1, min(max(1.2, NAMED_CELL * count), side_of(1))  # below each other
    height = side + 0.72 * names + 0.45  # the names under the panels are at 45 degrees
    size = (width if panels > 1 else min(width, side + names + 0.95), height)
    figure, axes = _panels(len(layers), size=size, columns=panels)
    figure.set_layout_engine("compressed")
    for ax, layer in zip(axes, layers, strict=True):
        image = plot_correlation(report, layer, ax, methods=methods)
        if panels > 1 and ax is not axes[0] and _names(ax) == _names(axes[0]):
            ax.set_yticklabels([])
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=25)
    bar.outline.set_visible(False)
    bar.set_label("Spearman's ρ")
    bar.ax.tick_params(length=0)
    short_numbers(bar.ax)
    return figure


def _names(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_xticklabels()]


def _panels(n_panels: int, *, size: tuple[float, float], columns: int) -> tuple[Figure, list[Axes]]:
    """size: of one row, in inches."""
    if n_panels == 0:
        raise ArgumentError("layers: got none, at least one is needed")
    n_rows = n_panels // columns
    figure = PaperFigure(figsize=(size[0], size[1] * n_rows), layout="constrained")
    return figure, figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
