"""Figures by layer: agreement with the rationales, and how many tokens are left.

L layers, D documents
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.documents.values import listed
from analysis.figures.style import (
    LOOKS,
    STYLE,
    PaperFigure,
    fitted,
    input_positions,
    label,
    layer_axis,
    looks,
    select,
    short_numbers,
    styled,
    text_width,
    venue,
)
from analysis.results.report import ReportData
from analysis.results.wording import higher_is_better, metric_title

# FPR at both levels: whether CP's is higher or lower than others' hangs on what n is
PANELS = ("average_precision", "fpr", "fpr_present", "j")
RATES = {"fpr": "FPR at 1/$n$", "tpr": "TPR at 1/$n$", "j": "J = TPR − FPR"}
N_OF_LEVEL = {"": "input", "present": "present", "content": "content"}  # the tokens that n counts
EDGE: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4}
LEGEND = {"handlelength": 3.0, "columnspacing": 1.2, "handletextpad": 0.5, "labelspacing": 0.5}  # in font sizes
LEGEND_ROWS = 4  # that a figure's height has room for
MOST_IN_A_COLUMN = 8  # methods of one panel that is a column wide
MANY_BANDS = 8  # more of them on top of each other have to be paler
NUMBER_SIZE = 7  # points of the numbers beside the lengths
INTERVAL = 0.9  # points, the width of an interval's line
CHANCE: dict[str, Any] = {"color": "0.25", "linewidth": 0.8, "linestyle": (0, (6, 2)), "zorder": 2}


def plot_metric(
    report: ReportData,
    metric: str,
    ax: Axes,
    *,
    methods: Sequence[str] | None = None,
    bands: bool = True,
    chance: bool = True,
) -> None:
    """One line a method: the metric's mean by layer with its 95 % band, and chance: the expected AP, 0 for J, and for
    other metrics the row of `random`, where the report has it.

    A method with a meaning at the input only, a human among them, is a marker left of the first layer, with its
    interval, and a thin line across, to compare the layers with.
    """
    if metric not in report.metrics:
        raise ArgumentError(f"panel {metric!r} is not in the report, which has {', '.join(report.metrics)}")
    summary = report.summary()
    summary = summary[summary["metric"] == metric]
    level = _chance(report, metric) if chance else None
    chosen = select(report, methods)
    at_input = [method for method in chosen if not report.is_layerwise(method)]
    positions = dict(zip(at_input, input_positions(report.n_layers, len(at_input)), strict=True))
    for method, look in looks(chosen).items():
        if level is not None and method == "random":
            continue  # the chance line is its expectation, without the noise
        rows = summary[summary["method"] == method].sort_values("layer")
        style: dict[str, Any] = {"zorder": 3, **EDGE, **look, "label": label(report, method)}
        if method in at_input:
            _plot_input(ax, rows, style, positions[method], bands=bands)
            continue
        layers = rows["layer"].to_numpy()
        if method == "random":  # no constant is chance at a selection at 1/n: its own row is
            style |= {**CHANCE, "marker": "" if len(layers) > 1 else "_", "label": "Chance"}
            style |= {"markersize": 12, "markeredgecolor": CHANCE["color"], "markeredgewidth": CHANCE["linewidth"]}
        ax.plot(layers, rows["mean"].to_numpy(), clip_on=False, **style)
        if bands:
            plot_intervals(ax, layers, rows, color=look["color"], alpha=0.2 if len(chosen) <= MANY_BANDS else 0.08)
    if level is not None:
        ax.axhline(level, **CHANCE, label="Chance")
    ax.set_title(_axis_title(metric), loc="left")
    layer_axis(ax, report.n_layers, at_input=list(positions.values()))
    if metric.startswith(("fpr", "tpr")):
        ax.set_ylim(0, None)
    short_numbers(ax)


def plot_intervals(
    ax: Axes, x: Sequence[float] | NDArray[np.int64], rows: pd.DataFrame, *, color: str, alpha: float
) -> None:
    """The band from `low` to `high`; at a point whose neighbours are not defined, where it has no width, a line."""
    low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
    ax.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0, zorder=1)
    known = np.pad(np.isfinite(low), 1)
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    if alone.any():
        ax.vlines(np.asarray(x)[alone], low[alone], high[alone], color=color, linewidth=INTERVAL, zorder=2)


def _plot_input(ax: Axes, rows: pd.DataFrame, style: dict[str, Any], x: float, *, bands: bool) -> None:
    mean, low, high = (float(rows[name].iloc[0]) for name in ("mean", "low", "high"))
    line = {"linewidth": 0.8, "linestyle": style["linestyle"], "color": style["color"], "alpha": 0.75, "zorder": 2}
    ax.axhline(mean, **line)
    if bands:
        ax.plot(
            [x, x], [low, high], color=style["color"], linewidth=INTERVAL, solid_capstyle="butt", zorder=style["zorder"]
        )
    ax.plot([x], [mean], clip_on=False, **{**style, "markeredgewidth": 0})


def _chance(report: ReportData, metric: str) -> float | None:
    if metric == "average_precision":
        level = report.meta.get("chance_average_precision")
        return None if level is None else float(level)
    return 0.0 if metric.partition("_")[0] == "j" else None  # a selection that ignores the rationale


def _axis_title(metric: str) -> str:
    base, _, variant = metric.partition("_")
    arrow = "↑" if higher_is_better(metric) else "↓"
    if base in RATES and variant in N_OF_LEVEL:
        return f"{RATES[base]}, {N_OF_LEVEL[variant]} {arrow}"
    return f"{metric_title(metric)} {arrow}"


@styled
def agreement_figure(
    report: ReportData,
    *,
    panels: Sequence[str] | str | None = None,
    methods: Sequence[str] | None = None,
    style: str = "acl",
) -> Figure:
    """Agreement with the human rationales by layer: the paper's figure (AP and FPR), with J = TPR - FPR beside
    them, since selecting nothing has a perfect FPR.

    panels: metrics of the report; default: AP, FPR where 1/n is of the tokens of the input and (if any method drops
    tokens) of those present at the layer, and J; the first four metrics of a report with one of these at most. One
    panel of few methods is drawn a column wide.
    """
    if panels is not None:
        panels = listed("panels", panels)
    else:
        panels = [metric for metric in PANELS if metric in report.metrics and not report.is_repeated(metric)]
        if len(panels) < 2:  # agreement was not what the report is about
            panels = [*panels, *(metric for metric in report.metrics if metric not in panels)][: len(PANELS)]
    if not panels:
        raise ArgumentError("panels: got none, at least one metric is needed")
    many = len(select(report, methods)) > MOST_IN_A_COLUMN
    width = venue(style).text if len(panels) > 1 or many else venue(style).column
    roomy = width > 6 and report.n_layers <= 12 and len(select(report, methods)) <= 10
    columns = min(len(panels), 4 if roomy else 2)
    n_rows = -(-len(panels) // columns)
    figure = PaperFigure(figsize=(width, 1.95 * n_rows + 0.35), layout="constrained")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, metric in zip(axes, panels, strict=False):
        plot_metric(report, metric, ax, methods=methods)
    rates = [ax for ax, metric in zip(axes, panels, strict=False) if metric.startswith(("fpr", "tpr"))]
    for ax in rates:  # one scale, so that the two can be compared by eye
        ax.set_ylim(0, max(other.get_ylim()[1] for other in rates))
    shared_legend(figure, axes[: len(panels)])
    return figure


def shared_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend under all panels, each name once, chance last, as many columns as fit.

    What is not defined anywhere has no line, and then no name; where nothing is, there is no legend.
    """
    labelled = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    drawn = {name: handle for handle, name in reversed(labelled) if np.isfinite(handle.get_ydata()).any()}
    named = {name: drawn[name] for _, name in labelled if name in drawn}
    if not named:
        return
    if "Chance" in named:
        named["Chance"] = named.pop("Chance")
    names, n_columns = room_for_legend(figure, list(named))
    figure.legend(
        list(named.values()),
        names,
        loc="outside lower center",
        ncols=n_columns,
        frameon=False,
        borderaxespad=0.2,
        **LEGEND,
    )


def room_for_legend(figure: Figure, names: Sequence[str], *, most_columns: int | None = None) -> tuple[list[str], int]:
    """The names, cut to the figure's width, and how many columns of a legend they take; the figure grows by the rows
    that its height has no room for."""
    size = float(STYLE["legend.fontsize"])
    width = figure.get_figwidth()
    names = [fitted(name, 72 * width - size - _sample_width(size), size) for name in names]
    n_columns = min(most_columns or len(names), legend_columns(names, width))
    more = max(0, -(-len(names) // n_columns) - LEGEND_ROWS)
    line = size * (1 + LEGEND["labelspacing"]) / 72  # inches
    figure.set_size_inches(width, figure.get_figheight() + more * line)
    return names, n_columns


def _sample_width(size: float) -> float:
    """Points of a legend's item without its name."""
    return size * float(LEGEND["handlelength"] + LEGEND["handletextpad"])


def legend_columns(names: Sequence[str], width: float) -> int:
    """How many columns of a legend fit into `width` inches, without leaving columns half empty."""
    size = float(STYLE["legend.fontsize"])
    items = [_sample_width(size) + text_width(name, size) for name in names]
    for n_rows in range(1, len(items) + 1):
        n_columns = -(-len(items) // n_rows)
        columns = np.array_split(items, n_columns)  # as matplotlib fills them
        total = sum(map(max, columns)) + size * LEGEND["columnspacing"] * (n_columns - 1)
        if total + size <= 72 * width:
            return n_columns
    return 1


def plot_lengths(report: ReportData, ax: Axes) -> None:
    """Tokens that enter each layer of the AdapLeR model, mean and the middle half of the documents."""
    lengths = np.array([d.lengths for d in report.documents if d.lengths is not None], dtype=float)  # (D, L)
    if not len(lengths):
        raise ArgumentError("figure 'lengths': the report has no AdapLeR model")
    full = float(np.mean([d.tokens for d in report.documents]))
    layers = np.arange(lengths.shape[1])
    low, high = np.quantile(lengths, [0.25, 0.75], axis=0)
    look = LOOKS["cp"]
    ax.axhline(full, color="0.25", linewidth=0.8, linestyle=(0, (6, 2)))
    ax.annotate(
        f"input: {full:.0f}", (layers[-1], full), xytext=(0, 2), textcoords="offset points", ha="right", va="bottom"
    )
    ax.fill_between(layers, low, high, color=look["color"], alpha=0.15, linewidth=0)
    ax.plot(layers, lengths.mean(0), color=look["color"], marker="o", clip_on=False, zorder=3, **EDGE)
    for layer in layers[:: 1 if len(layers) <= 12 else 2]:
        value = float(lengths[:, layer].mean())
        above = value < 0.88 * full  # else under its marker, out of the way of the input's line
        ax.annotate(
            f"{value:.0f}",
            (layer, value),
            xytext=(0, 4 if above else -4),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=NUMBER_SIZE,
        )
    ax.set_ylim(0, full * 1.12)
    ax.set_ylabel("Tokens that enter the layer")
    layer_axis(ax, report.n_layers)
    half = text_width(f"{lengths[:, 0].mean():.0f}", NUMBER_SIZE) / 2  # points of the first number left of its layer
    left, right = ax.get_xlim()
    spacing = ax.get_window_extent().width * 72 / ax.figure.dpi / (right - left)  # points from layer to layer
    if half > -left * spacing:  # it would cross the axis
        ax.set_xlim(left=-(half + 1) / spacing)


@styled
def lengths_figure(report: ReportData, *, style: str = "acl") -> Figure:
    """Lengths by layer, for one column."""
    figure = PaperFigure(figsize=(venue(style).column, 2.0), layout="constrained")
    plot_lengths(report, figure.subplots())
    return figure
