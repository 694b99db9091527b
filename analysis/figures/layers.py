"""Figures by layer: agreement with the rationales, and how many tokens are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.figures.style import (
    EDGE,
    LOOKS,
    PaperFigure,
    higher_is_better,
    label,
    layer_axis,
    looks,
    metric_title,
    select,
    shared_legend,
    short_numbers,
    styled,
    text_width,
    venue,
)

if TYPE_CHECKING:
    from analysis.report import RationaleReport

# FPR at both levels: whether CP's is higher or lower than others' hangs on what n is
PANELS = ("average_precision", "fpr", "fpr_present", "j")
RATES = {"fpr": "FPR at 1/$n$", "tpr": "TPR at 1/$n$", "j": "J = TPR − FPR"}
N_OF_LEVEL = {"": "input", "present": "present", "content": "content"}  # the tokens that n counts
MANY = 8  # methods: more in one panel need the text's width and paler bands
NUMBER_SIZE = 7  # points of the numbers next to the lengths
INTERVAL = 0.9  # points, the width of an interval's line
CHANCE: dict[str, Any] = {"color": "0.25", "linewidth": 0.8, "linestyle": (0, (6, 2)), "zorder": 2}


def plot_metric(report: RationaleReport, metric: str, ax: Axes, *, methods: Sequence[str] | str | None = None) -> None:
    """One line a method: the metric's mean by layer with its 95 % band, and chance: the expected AP, 0 for J, and for
    other metrics the row of `random`.

    A method with a meaning at the input only, as a human, is a marker left of the first layer, with its interval, and
    a thin line across.
    """
    if metric not in report.metrics:
        raise ArgumentError(f"panel {metric!r} is not in the report, which has {', '.join(report.metrics)}")
    summary = report.summary()
    summary = summary[summary["metric"] == metric]
    level = _chance(report, metric)
    chosen = select(report, methods)
    at_input = [method for method in chosen if not report.is_layerwise(method)]
    positions = dict(zip(at_input, _input_positions(report.n_layers, len(at_input)), strict=True))
    for method, look in looks(chosen).items():
        if level is not None and method == "random":
            continue  # the chance line is its expectation, without the noise
        rows = summary[summary["method"] == method].sort_values("layer")
        style: dict[str, Any] = {"zorder": 3, **EDGE, **look, "label": label(report, method)}
        if method in at_input:
            _plot_input(ax, rows, style, positions[method])
            continue
        layers = rows["layer"].to_numpy()
        if method == "random":  # no constant is chance at a selection at 1/n: its own row is
            style |= {**CHANCE, "marker": "" if len(layers) > 1 else "_", "label": "Chance"}
        ax.plot(layers, rows["mean"].to_numpy(), clip_on=False, **style)
        plot_intervals(ax, layers, rows, color=look["color"], alpha=0.2 if len(chosen) <= MANY else 0.08)
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


def _plot_input(ax: Axes, rows: pd.DataFrame, style: dict[str, Any], x: float) -> None:
    mean, low, high = rows[["mean", "low", "high"]].iloc[0].tolist()
    ax.axhline(mean, color=style["color"], linestyle=style["linestyle"], linewidth=0.8, alpha=0.75, zorder=2)
    ax.plot([x, x], [low, high], color=style["color"], linewidth=INTERVAL, solid_capstyle="butt", zorder=3)
    ax.plot([x], [mean], clip_on=False, **{**style, "markeredgewidth": 0})


def _input_positions(n_layers: int, n_methods: int) -> list[float]:
    """Where the markers of methods with a meaning at the input only stand: side by side, left of layer 0."""
    gap = max(0.8, 0.09 * n_layers)
    step = min(0.035 * (n_layers + 1), 0.35 * n_layers / max(1, n_methods))
    return [-gap - step * (n_methods - 1 - i) for i in range(n_methods)]


def _chance(report: RationaleReport, metric: str) -> float | None:
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
    report: RationaleReport,
    *,
    panels: Sequence[str] | str | None = None,
    methods: Sequence[str] | str | None = None,
    style: str = "acl",
) -> Figure:
    """Agreement with the human rationales by layer: the paper's figure (AP and FPR), with J = TPR - FPR next to
    them, since selecting nothing has a perfect FPR.

    panels: metrics of the report; default: AP, FPR at both n (if any method drops tokens), and J; the first four
    metrics of a report with one of these at most. One panel of few methods is drawn a column wide.
    """
    if panels is None:
        panels = [metric for metric in PANELS if metric in report.metrics and not report.is_repeated(metric)]
        if len(panels) < 2:  # agreement was not what the report is about
            panels = [*panels, *(metric for metric in report.metrics if metric not in panels)][: len(PANELS)]
    panels = [panels] if isinstance(panels, str) else list(panels)
    if not panels:
        raise ArgumentError("panels: got none, at least one metric is needed")
    n_methods = len(select(report, methods))
    width = venue(style).text if len(panels) > 1 or n_methods > MANY else venue(style).column
    roomy = width > 6 and report.n_layers <= 12 and n_methods <= 10
    columns = min(len(panels), 4 if roomy else 2)
    n_rows = -(-len(panels) // columns)
    figure = PaperFigure(figsize=(width, 1.95 * n_rows + 0.35), layout="constrained")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    while len(axes) > len(panels):
        axes.pop().remove()
    for ax, metric in zip(axes, panels, strict=True):
        plot_metric(report, metric, ax, methods=methods)
    rates = [ax for ax, metric in zip(axes, panels, strict=True) if metric.startswith(("fpr", "tpr"))]
    for ax in rates:  # one scale, so that the two can be compared by eye
        ax.set_ylim(0, max(other.get_ylim()[1] for other in rates))
    shared_legend(figure, axes)
    return figure


def plot_lengths(report: RationaleReport, ax: Axes) -> None:
    """Tokens that enter each layer of the AdapLeR model, mean and the middle half of the documents."""
    documents = report.documents
    rows = [row for row in documents["lengths"] if row is not None] if len(documents) else []
    if not rows:
        raise ArgumentError("figure 'lengths': the report has no AdapLeR model")
    lengths = np.array(rows, dtype=float)  # (D, L)
    full, mean = float(documents["tokens"].mean()), lengths.mean(0)
    layers = np.arange(lengths.shape[1])
    low, high = np.quantile(lengths, [0.25, 0.75], axis=0)
    color = LOOKS["cp"]["color"]
    points: Any = {"textcoords": "offset points"}
    ax.axhline(full, color="0.25", linewidth=0.8, linestyle=(0, (6, 2)))
    ax.annotate(f"input: {full:.0f}", (layers[-1], full), xytext=(0, 2), ha="right", va="bottom", **points)
    ax.fill_between(layers, low, high, color=color, alpha=0.15, linewidth=0)
    ax.plot(layers, mean, color=color, marker="o", clip_on=False, zorder=3, **EDGE)
    for layer in layers[:: 1 if len(layers) <= 12 else 2]:
        above = mean[layer] < 0.88 * full  # else under its marker, out of the way of the input's line
        look: Any = {"xytext": (0, 4 if above else -4), "va": "bottom" if above else "top", "fontsize": NUMBER_SIZE}
        ax.annotate(f"{mean[layer]:.0f}", (layer, mean[layer]), ha="center", **points, **look)
    ax.set_ylim(0, full * 1.12)
    ax.set_ylabel("Tokens that enter the layer")
    layer_axis(ax, report.n_layers)
    half = text_width(f"{mean[0]:.0f}", NUMBER_SIZE) / 2 + 1  # points of the first number left of its layer
    left, right = ax.get_xlim()
    spacing = ax.get_window_extent().width * 72 / ax.figure.dpi / (right - left)  # points from layer to layer
    ax.set_xlim(left=min(left, -half / spacing))  # else the number would cross the axis


@styled
def lengths_figure(report: RationaleReport, *, style: str = "acl") -> Figure:
    """Lengths by layer, for one column."""
    figure = PaperFigure(figsize=(venue(style).column, 2.0), layout="constrained")
    plot_lengths(report, figure.subplots())
    return figure
