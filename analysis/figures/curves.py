"""Precision-recall curves, faithfulness curves, and the rank correlation of the methods.

M methods, L layers
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullLocator

from adapler.errors import ArgumentError
from analysis.figures.layers import CHANCE, plot_intervals
from analysis.figures.style import (
    EDGE,
    PaperFigure,
    chosen_layers,
    fitted,
    label,
    looks,
    number,
    select,
    shared_legend,
    short_numbers,
    some_layers,
    styled,
    text_width,
    venue,
)
from analysis.metrics.plausibility import RECALL_GRID

if TYPE_CHECKING:
    from analysis.report import RationaleReport

Names = Sequence[str] | str | None
FAITHFULNESS = {"comprehensiveness": "Comprehensiveness ↑", "sufficiency": "Sufficiency ↓"}
NORMAL_95 = 1.96  # standard errors on either side of a mean
CELL = 0.21  # inches; in smaller cells a correlation is not also printed as a number
NAMED_CELL = 0.135  # inches; the names under smaller cells, at 45 degrees, would overlap
NAME_SIZE = 7  # points of the methods' names next to a correlation
LONGEST_NAME = 30  # letters of a middle width


def plot_precision_recall(report: RationaleReport, layer: int, ax: Axes, *, methods: Names = None) -> None:
    """Interpolated precision at each recall, mean over documents, one line a method, with its 95 % band (1.96 standard
    errors at each recall); chance is the curve of `random`: interpolated precision is the best at any higher recall, so
    chance is above the density."""
    for method, look in looks(select(report, methods)).items():
        row_of = layer if report.is_layerwise(method) else 0
        row = report.curves.get(method, np.full((report.n_layers, 1), np.nan))[row_of]
        if method == "random" or np.isnan(row).all():
            continue
        # a marker every .2, each method's at recalls of its own, so that they do not hide each other
        offset = 3 * (report.methods.index(method) % 6)
        style = {**EDGE, "zorder": 3, **look, "label": label(report, method)}
        ax.plot(RECALL_GRID, row, markevery=(offset, 20), **style)
        if (errors := report.curve_errors.get(method)) is not None:
            half = NORMAL_95 * errors[row_of]
            ax.fill_between(RECALL_GRID, row - half, row + half, color=look["color"], alpha=0.1, linewidth=0, zorder=1)
    if "random" in report.curves:
        ax.plot(RECALL_GRID, report.curves["random"][layer], **CHANCE, label="Chance")
    ax.set(xlim=(0, 1), ylim=(0, None), xlabel="Recall")
    ax.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    ax.set_title(f"Layer {layer}", loc="left")
    short_numbers(ax)


@styled
def precision_recall_figure(
    report: RationaleReport, *, layers: Sequence[int] | int | None = None, methods: Names = None, style: str = "acl"
) -> Figure:
    """Precision-recall curves at the first, the middle and the last layer, or at `layers`."""
    if not report.curves:
        raise ArgumentError("figure 'precision_recall': the report has no precision-recall curves")
    layers = chosen_layers(layers, some_layers(report.n_layers, 3), report.n_layers)
    width = venue(style).text if len(layers) > 1 else venue(style).column
    figure = PaperFigure(figsize=(width, 2.25), layout="constrained")
    axes = figure.subplots(1, len(layers), squeeze=False)[0].tolist()
    for ax, layer in zip(axes, layers, strict=True):
        plot_precision_recall(report, layer, ax, methods=methods)
    top = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set(ylim=(0, min(top, 1.02)), ylabel="Precision" if ax is axes[0] else "")
    shared_legend(figure, axes)
    return figure


def plot_faithfulness(report: RationaleReport, kind: str, layer: int, ax: Axes, *, methods: Names = None) -> None:
    """Comprehensiveness or sufficiency by share of tokens, with its 95 % band."""
    bins = faithfulness_bins(report, kind)
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


def faithfulness_bins(report: RationaleReport, kind: str) -> tuple[int, ...]:
    """Shares of the tokens, in percent, for which the report has that metric; their mean (AOPC) is no curve."""
    shares = (metric.removeprefix(f"{kind}_") for metric in report.metrics if metric.startswith(f"{kind}_"))
    return tuple(sorted(int(share) for share in shares if share.isdigit()))


def faithfulness_layers(report: RationaleReport, methods: Names = None) -> tuple[int, ...]:
    """The layers that have a faithfulness curve; of methods with a meaning at the input alone, 0."""
    metrics = [f"{kind}_{share}" for kind in FAITHFULNESS for share in faithfulness_bins(report, kind)]
    frame = report.frame[report.frame["metric"].isin(metrics) & report.frame["method"].isin(select(report, methods))]
    layered = frame[frame["method"].map(report.is_layerwise).astype(bool)]
    return tuple(sorted(map(int, (layered if len(layered) else frame)["layer"].unique())))


@styled
def faithfulness_figure(
    report: RationaleReport, *, layers: Sequence[int] | int | None = None, methods: Names = None, style: str = "acl"
) -> Figure:
    """Comprehensiveness and sufficiency by share of tokens, at `layers`, or at the first and the last layer that the
    report has them for."""
    kinds = [kind for kind in FAITHFULNESS if faithfulness_bins(report, kind)]
    known = faithfulness_layers(report, methods)
    if not known:
        raise ArgumentError("figure 'faithfulness': the report has no comprehensiveness_1, sufficiency_1, ...")
    layers = chosen_layers(layers, [known[i] for i in some_layers(len(known), 2)], report.n_layers)
    n_rows = 1 if len(kinds) * len(layers) <= 4 and venue(style).text > 6 else len(layers)
    figure = PaperFigure(figsize=(venue(style).text, 1.95 * n_rows + 0.35), layout="constrained")
    grid = figure.subplots(n_rows, len(kinds) * len(layers) // n_rows, squeeze=False).ravel().tolist()
    for ax, (layer, kind) in zip(grid, [(layer, kind) for layer in layers for kind in kinds], strict=True):
        plot_faithfulness(report, kind, layer, ax, methods=methods)
        ax.set_title(f"{FAITHFULNESS[kind]}\nlayer {layer}", loc="left")
    for first in range(len(kinds)):  # one scale a metric
        same = grid[first :: len(kinds)]
        limits = [ax.get_ylim() for ax in same]
        for ax in same:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    shared_legend(figure, grid)
    return figure


def plot_correlation(report: RationaleReport, layer: int, ax: Axes, *, methods: Names = None) -> AxesImage:
    """Spearman's rank correlation of two methods' scores, mean over documents, at one layer.

    Each pair stands once, below the diagonal; white is no correlation, blue a positive one, red a negative one. Methods
    without any defined correlation at the layer are left out.
    """
    matrix, names = _correlations(report, layer, methods)
    shown = np.where(np.tri(len(names), k=-1, dtype=bool), matrix, np.nan)  # each pair once, no method with itself
    image = ax.imshow(shown, cmap="RdBu", vmin=-1, vmax=1)
    titles = _axis_names(report, names)
    ax.set_xticks(range(len(names)), titles, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), titles)
    ax.tick_params(length=0, labelsize=NAME_SIZE)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    extent = ax.get_window_extent()
    if min(extent.width, extent.height) / ax.figure.dpi >= CELL * len(names):
        for row, column in np.argwhere(~np.isnan(shown)).tolist():
            rho = float(shown[row, column])
            color = "white" if abs(rho) > 0.65 else "black"
            text = number(rho, 2).replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
    ax.set_title(f"Layer {layer}", loc="left")
    return image


def _axis_names(report: RationaleReport, methods: Sequence[str]) -> list[str]:
    """Names as they stand on both axes: whole ones can be wider than the figure."""
    widest = LONGEST_NAME * text_width("n", NAME_SIZE)
    return [fitted(label(report, method), widest, NAME_SIZE) for method in methods]


def _correlations(report: RationaleReport, layer: int, methods: Names) -> tuple[Any, list[str]]:
    if report.correlations is None:
        return None, []
    chosen = [report.methods.index(method) for method in select(report, methods)]
    matrix = report.correlations[layer][np.ix_(chosen, chosen)]
    others = np.where(np.eye(len(chosen), dtype=bool), np.nan, matrix)
    keep = np.flatnonzero(~np.isnan(others).all(axis=1))
    return matrix[np.ix_(keep, keep)], [report.methods[chosen[m]] for m in keep.tolist()]


def correlation_layers(report: RationaleReport, methods: Names = None) -> tuple[int, ...]:
    """The layers at which at least two of the methods have a correlation."""
    return tuple(layer for layer in range(report.n_layers) if _correlations(report, layer, methods)[1])


@styled
def correlation_figure(
    report: RationaleReport, *, layers: Sequence[int] | int | None = None, methods: Names = None, style: str = "acl"
) -> Figure:
    """Which methods rank the tokens alike, at `layers`, or at the first and the last one with two methods or more.

    The layers stand side by side where the cells leave room for the methods' names, else below each other.
    """
    known = correlation_layers(report, methods)
    if not known:
        raise ArgumentError("figure 'correlation': the report has no correlations of two of the methods")
    layers = chosen_layers(layers, [known[i] for i in some_layers(len(known), 2)], report.n_layers)
    if missing := set(layers) - set(known):
        raise ArgumentError(f"figure 'correlation': no two of the methods have a correlation at layer {min(missing)}")
    titles = _axis_names(report, select(report, methods))
    names, count = max(text_width(title, NAME_SIZE) for title in titles) / 72, len(titles)  # names: inches
    width = venue(style).text
    columns = len(layers)
    side = (width - 0.75 - columns * (names + 0.15)) / columns  # inches of a panel
    if columns > 1 and side < max(0.85, NAMED_CELL * count):
        columns, side = 1, width - 0.9 - names
    side = min(side, 0.4 * count)
    if columns == 1:
        width = min(width, side + names + 0.95)
    n_rows = len(layers) // columns
    size = (width, n_rows * (side + 0.72 * names + 0.45))  # the names under the panels are at 45 degrees
    figure = PaperFigure(figsize=size, layout="compressed")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    for ax, layer in zip(axes, layers, strict=True):
        image = plot_correlation(report, layer, ax, methods=methods)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=25)
    bar.outline.set_visible(False)
    bar.set_label("Spearman's ρ")
    bar.ax.tick_params(length=0)
    short_numbers(bar.ax)
    return figure
