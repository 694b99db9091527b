"""Figures of means over documents: by layer, by recall, by share of tokens; the methods' rank correlation; and
accuracy against speedup, from a CSV of models.

M methods, L layers
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from adapler.errors import ArgumentError, DataError
from analysis.figures import paper
from analysis.metrics.plausibility import RECALL_GRID

if TYPE_CHECKING:
    from analysis.report import RationaleReport

Names = Sequence[str] | str | None
# FPR at both levels: whether CP's is higher or lower than others' hangs on what n is
PANELS = ("average_precision", "fpr", "fpr_present", "j")
RATES = {"fpr": "FPR at 1/$n$", "tpr": "TPR at 1/$n$", "j": "J = TPR − FPR"}
N_OF_LEVEL = {"": "input", "present": "present", "content": "content"}  # the tokens that n counts
MANY = 8  # methods: more in one panel need the text's width and paler bands
NUMBER_SIZE = 7  # points of the numbers next to the lengths
INTERVAL = 0.9  # points, the width of an interval's line
CHANCE: dict[str, Any] = {"color": "0.25", "linewidth": 0.8, "linestyle": (0, (6, 2)), "zorder": 2}
FAITHFULNESS = {"comprehensiveness": "Comprehensiveness ↑", "sufficiency": "Sufficiency ↓"}
NORMAL_95 = 1.96  # standard errors on either side of a mean
CELL = 0.21  # inches; in smaller cells a correlation is not also printed as a number
NAMED_CELL = 0.135  # inches; the names under smaller cells, at 45 degrees, would overlap
NAME_SIZE = 7  # points of the methods' names next to a correlation
LONGEST_NAME = 30  # letters


def _lines(report: RationaleReport, methods: Names) -> Iterator[tuple[str, dict[str, Any]]]:
    """The methods to draw, each with the look of its line."""
    for method, look in paper.looks(paper.select(report, methods)).items():
        yield method, {**paper.EDGE, "zorder": 3, **look, "label": paper.label(report, method)}


# By layer


def plot_metric(report: RationaleReport, metric: str, ax: Axes, *, methods: Names = None) -> None:
    """One line a method: the metric's mean by layer with its 95 % band, and chance: the expected AP, 0 for J, and for
    other metrics the row of `random`. A method with a meaning at the input only, as a human, is a marker left of the
    first layer, with its interval, and a thin line across."""
    if metric not in report.metrics:
        raise ArgumentError(f"panel {metric!r} is not in the report, which has {', '.join(report.metrics)}")
    summary = report.summary()
    summary = summary[summary["metric"] == metric]
    level = _chance(report, metric)
    chosen = paper.select(report, methods)
    at_input = [method for method in chosen if not report.is_layerwise(method)]
    positions = dict(zip(at_input, _input_positions(report.n_layers, len(at_input)), strict=True))
    for method, style in _lines(report, methods):
        if level is not None and method == "random":
            continue  # the chance line is its expectation, without the noise
        rows = summary[summary["method"] == method].sort_values("layer")
        if method in at_input:
            _plot_input(ax, rows, style, positions[method])
            continue
        layers, color = rows["layer"].to_numpy(), style["color"]
        if method == "random":  # no constant is chance at a selection at 1/n: its own row is
            style |= {**CHANCE, "marker": "" if len(layers) > 1 else "_", "label": "Chance"}
        ax.plot(layers, rows["mean"].to_numpy(), clip_on=False, **style)
        plot_intervals(ax, layers, rows, color=color, alpha=0.2 if len(chosen) <= MANY else 0.08)
    if level is not None:
        ax.axhline(level, **CHANCE, label="Chance")
    ax.set_title(_axis_title(metric), loc="left")
    paper.layer_axis(ax, report.n_layers, at_input=list(positions.values()))
    if metric.startswith(("fpr", "tpr")):
        ax.set_ylim(0, None)
    paper.short_numbers(ax)


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
    arrow = "↑" if paper.higher_is_better(metric) else "↓"
    if base in RATES and variant in N_OF_LEVEL:
        return f"{RATES[base]}, {N_OF_LEVEL[variant]} {arrow}"
    return f"{paper.metric_title(metric)} {arrow}"


@paper.styled
def agreement_figure(
    report: RationaleReport,
    *,
    panels: Sequence[str] | str | None = None,
    methods: Names = None,
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
    n_methods = len(paper.select(report, methods))
    width = paper.venue(style).text if len(panels) > 1 or n_methods > MANY else paper.venue(style).column
    roomy = width > 6 and report.n_layers <= 12 and n_methods <= 10
    columns = min(len(panels), 4 if roomy else 2)
    n_rows = -(-len(panels) // columns)
    figure = paper.PaperFigure(figsize=(width, 1.95 * n_rows + 0.35), layout="constrained")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    while len(axes) > len(panels):
        axes.pop().remove()
    for ax, metric in zip(axes, panels, strict=True):
        plot_metric(report, metric, ax, methods=methods)
    rates = [ax for ax, metric in zip(axes, panels, strict=True) if metric.startswith(("fpr", "tpr"))]
    for ax in rates:  # one scale, so that the two can be compared by eye
        ax.set_ylim(0, max(other.get_ylim()[1] for other in rates))
    paper.shared_legend(figure, axes)
    return figure


def plot_lengths(report: RationaleReport, ax: Axes) -> None:
    """Tokens that enter each layer of the AdapLeR model, mean and the middle half of the documents."""
    lengths = np.array(report.documents["lengths"].dropna().tolist(), dtype=float)  # (D, L)
    full, mean = float(report.documents["tokens"].mean()), lengths.mean(0)
    layers = np.arange(lengths.shape[1])
    low, high = np.quantile(lengths, [0.25, 0.75], axis=0)
    color, points = paper.LOOKS["cp"]["color"], {"textcoords": "offset points"}  # type: Any, Any
    ax.axhline(full, **CHANCE)
    ax.annotate(f"input: {full:.0f}", (layers[-1], full), xytext=(0, 2), ha="right", va="bottom", **points)
    ax.fill_between(layers, low, high, color=color, alpha=0.15, linewidth=0)
    ax.plot(layers, mean, color=color, marker="o", clip_on=False, zorder=3, **paper.EDGE)
    for layer in layers[:: 1 if len(layers) <= 12 else 2]:
        above = mean[layer] < 0.88 * full  # else under its marker, out of the way of the input's line
        look: Any = {"xytext": (0, 4 if above else -4), "va": "bottom" if above else "top", "fontsize": NUMBER_SIZE}
        ax.annotate(f"{mean[layer]:.0f}", (layer, mean[layer]), ha="center", **points, **look)
    ax.set_ylim(0, full * 1.12)
    ax.set_ylabel("Tokens that enter the layer")
    paper.layer_axis(ax, report.n_layers)
    ax.set_xlim(left=min(-0.3, -0.045 * len(layers)))  # else the first number would cross the axis


@paper.styled
def lengths_figure(report: RationaleReport, *, style: str = "acl") -> Figure:
    """Lengths by layer, for one column."""
    figure = paper.PaperFigure(figsize=(paper.venue(style).column, 2.0), layout="constrained")
    plot_lengths(report, figure.subplots())
    return figure


# By recall and by share of tokens


def plot_precision_recall(report: RationaleReport, layer: int, ax: Axes, *, methods: Names = None) -> None:
    """Interpolated precision at each recall, mean over documents, one line a method, with its 95 % band (1.96 standard
    errors at each recall); chance is the curve of `random`: interpolated precision is the best at any higher recall, so
    chance is above the density."""
    for method, look in _lines(report, methods):
        row_of = layer if report.is_layerwise(method) else 0
        row = report.curves.get(method, np.full((report.n_layers, 1), np.nan))[row_of]
        if method == "random" or np.isnan(row).all():
            continue
        # a marker every .2, each method's at recalls of its own, so that they do not hide each other
        offset = 3 * (report.methods.index(method) % 6)
        ax.plot(RECALL_GRID, row, markevery=(offset, 20), **look)
        if (errors := report.curve_errors.get(method)) is not None:
            half = NORMAL_95 * errors[row_of]
            ax.fill_between(RECALL_GRID, row - half, row + half, color=look["color"], alpha=0.1, linewidth=0, zorder=1)
    if "random" in report.curves:
        ax.plot(RECALL_GRID, report.curves["random"][layer], **CHANCE, label="Chance")
    ax.set(xlim=(0, 1), ylim=(0, None), xlabel="Recall")
    ax.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    ax.set_title(f"Layer {layer}", loc="left")
    paper.short_numbers(ax)


@paper.styled
def precision_recall_figure(
    report: RationaleReport, *, layers: Sequence[int] | int | None = None, methods: Names = None, style: str = "acl"
) -> Figure:
    """Precision-recall curves at the first, the middle and the last layer, or at `layers`."""
    layers = paper.chosen_layers(layers, paper.some_layers(report.n_layers, 3), report.n_layers)
    width = paper.venue(style).text if len(layers) > 1 else paper.venue(style).column
    figure = paper.PaperFigure(figsize=(width, 2.25), layout="constrained")
    axes = figure.subplots(1, len(layers), squeeze=False)[0].tolist()
    for ax, layer in zip(axes, layers, strict=True):
        plot_precision_recall(report, layer, ax, methods=methods)
    top = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set(ylim=(0, min(top, 1.02)), ylabel="Precision" if ax is axes[0] else "")
    paper.shared_legend(figure, axes)
    return figure


def plot_faithfulness(report: RationaleReport, kind: str, layer: int, ax: Axes, *, methods: Names = None) -> None:
    """Comprehensiveness or sufficiency by share of tokens, with its 95 % band."""
    bins = faithfulness_bins(report, kind)
    summary = report.summary().set_index(["method", "layer", "metric"])
    for method, look in _lines(report, methods):
        at = layer if report.is_layerwise(method) else 0
        rows = summary.loc[[(method, at, f"{kind}_{share}") for share in bins]]
        ax.plot(bins, rows["mean"].to_numpy(), clip_on=False, **look)
        plot_intervals(ax, bins, rows, color=look["color"], alpha=0.1)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(bins, [str(share) for share in bins])
    ax.set_xlabel("Tokens, %")
    paper.short_numbers(ax)


def faithfulness_bins(report: RationaleReport, kind: str) -> tuple[int, ...]:
    """Shares of the tokens, in percent, for which the report has that metric; their mean (AOPC) is no curve."""
    shares = (metric.removeprefix(f"{kind}_") for metric in report.metrics if metric.startswith(f"{kind}_"))
    return tuple(sorted(int(share) for share in shares if share.isdigit()))


def faithfulness_layers(report: RationaleReport, methods: Names = None) -> tuple[int, ...]:
    """The layers that have a faithfulness curve; of methods with a meaning at the input alone, 0."""
    metrics = [f"{kind}_{share}" for kind in FAITHFULNESS for share in faithfulness_bins(report, kind)]
    frame = report.frame[report.frame["metric"].isin(metrics)]
    frame = frame[frame["method"].isin(paper.select(report, methods))]
    layered = frame[frame["method"].map(report.is_layerwise).astype(bool)]
    return tuple(sorted(map(int, (layered if len(layered) else frame)["layer"].unique())))


@paper.styled
def faithfulness_figure(
    report: RationaleReport, *, layers: Sequence[int] | int | None = None, methods: Names = None, style: str = "acl"
) -> Figure:
    """Comprehensiveness and sufficiency by share of tokens, at `layers`, or at the first and the last layer that the
    report has them for."""
    kinds = [kind for kind in FAITHFULNESS if faithfulness_bins(report, kind)]
    known = faithfulness_layers(report, methods)
    layers = paper.chosen_layers(layers, [known[i] for i in paper.some_layers(len(known), 2)], report.n_layers)
    n_rows = 1 if len(kinds) * len(layers) <= 4 and paper.venue(style).text > 6 else len(layers)
    figure = paper.PaperFigure(figsize=(paper.venue(style).text, 1.95 * n_rows + 0.35), layout="constrained")
    grid = figure.subplots(n_rows, len(kinds) * len(layers) // n_rows, squeeze=False).ravel().tolist()
    for ax, (layer, kind) in zip(grid, [(layer, kind) for layer in layers for kind in kinds], strict=True):
        plot_faithfulness(report, kind, layer, ax, methods=methods)
        ax.set_title(f"{FAITHFULNESS[kind]}\nlayer {layer}", loc="left")
    for first in range(len(kinds)):  # one scale a metric
        same = grid[first :: len(kinds)]
        limits = [ax.get_ylim() for ax in same]
        for ax in same:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    paper.shared_legend(figure, grid)
    return figure


# Rank correlation


def plot_correlation(report: RationaleReport, layer: int, ax: Axes, *, methods: Names = None) -> AxesImage:
    """Spearman's rank correlation of two methods' scores, mean over documents, at one layer: blue is positive, red
    negative. Methods without any defined correlation at the layer are left out."""
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
            text = paper.number(rho, 2).replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
    ax.set_title(f"Layer {layer}", loc="left")
    return image


def _axis_names(report: RationaleReport, methods: Sequence[str]) -> list[str]:
    return paper.shortened([paper.label(report, method) for method in methods], LONGEST_NAME, NAME_SIZE)


def _correlations(report: RationaleReport, layer: int, methods: Names) -> tuple[Any, list[str]]:
    if report.correlations is None:
        return None, []
    chosen = [report.methods.index(method) for method in paper.select(report, methods)]
    matrix = report.correlations[layer][np.ix_(chosen, chosen)]
    others = np.where(np.eye(len(chosen), dtype=bool), np.nan, matrix)
    keep = np.flatnonzero(~np.isnan(others).all(axis=1))
    return matrix[np.ix_(keep, keep)], [report.methods[chosen[m]] for m in keep.tolist()]


def correlation_layers(report: RationaleReport, methods: Names = None) -> tuple[int, ...]:
    """The layers at which at least two of the methods have a correlation."""
    return tuple(layer for layer in range(report.n_layers) if _correlations(report, layer, methods)[1])


@paper.styled
def correlation_figure(
    report: RationaleReport, *, layers: Sequence[int] | int | None = None, methods: Names = None, style: str = "acl"
) -> Figure:
    """Which methods rank the tokens alike, at `layers`, or at the first and the last one with two methods or more: side
    by side where the cells leave room for the methods' names, else below each other."""
    known = correlation_layers(report, methods)
    layers = paper.chosen_layers(layers, [known[i] for i in paper.some_layers(len(known), 2)], report.n_layers)
    if missing := set(layers) - set(known):
        raise ArgumentError(f"figure 'correlation': no two of the methods have a correlation at layer {min(missing)}")
    titles = _axis_names(report, paper.select(report, methods))
    names, count = max(paper.text_width(title, NAME_SIZE) for title in titles) / 72, len(titles)  # names: inches
    width = paper.venue(style).text
    columns = len(layers)
    side = (width - 0.75 - columns * (names + 0.15)) / columns  # inches of a panel
    if columns > 1 and side < max(0.85, NAMED_CELL * count):
        columns, side = 1, width - 0.9 - names
    side = min(side, 0.4 * count)
    if columns == 1:
        width = min(width, side + names + 0.95)
    n_rows = len(layers) // columns
    size = (width, n_rows * (side + 0.72 * names + 0.45))  # the names under the panels are at 45 degrees
    figure = paper.PaperFigure(figsize=size, layout="compressed")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    for ax, layer in zip(axes, layers, strict=True):
        image = plot_correlation(report, layer, ax, methods=methods)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=25)
    bar.outline.set_visible(False)
    bar.set_label("Spearman's ρ")
    bar.ax.tick_params(length=0)
    paper.short_numbers(bar.ax)
    return figure


# Accuracy against speedup

COLUMNS = ["mode", "split", "metric", "accuracy", "speedup", "reference"]
SCORES = {"accuracy": "Accuracy", "f1": "F1"}
_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#7A5C00", "#882255", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_GREYS = ("0.25", "0.6", "0.8")  # of a plain classifier's scores on several splits
POINT: dict[str, Any] = {"linestyle": "none", "markersize": 3.2, "alpha": 0.75, "markeredgewidth": 0, "zorder": 3}
# the best score at a speedup of at least x is that of the next point to the right
STEPS: dict[str, Any] = {"drawstyle": "steps-pre", "linewidth": 0.7, "marker": "", "zorder": 2}


def read_tradeoff(path: str | Path) -> pd.DataFrame:
    """COLUMNS of every model: how it was trained, the split that it was measured on, its accuracy (or another metric, a
    share from 0 to 1), its speedup (FLOPs of the plain classifier / its FLOPs) and, where it is known, the plain
    classifier's accuracy on the same rows.

    The file has these columns (split, metric and reference may be missing), or is the `tradeoff.csv` of `adapler run`.
    """
    try:
        table = pd.read_csv(path)
        for split in ("validation", "test"):  # of `adapler run`: policy, validation_METRIC, validation_speedup, ...
            if (speedup := f"{split}_speedup") in table:
                score = next(name for name in map(str, table) if name.startswith(f"{split}_") and name != speedup)
                row = {"mode": table["policy"], "split": split, "metric": score.removeprefix(f"{split}_")}
                row |= {"accuracy": table[score], "speedup": table[speedup]}
                table = pd.concat([table, pd.DataFrame(row)])
        if missing := [name for name in ("mode", "accuracy", "speedup") if name not in table]:
            raise ValueError(f"no column {', '.join(missing)}; found {', '.join(table.columns)}")
        table = table.reindex(columns=COLUMNS).dropna(subset=["accuracy"]).astype({"split": object, "metric": object})
        table = table.astype({"mode": str, "accuracy": float, "speedup": float, "reference": float})
        if table.empty or not table["accuracy"].between(0, 1).all():
            raise ValueError("accuracy must be a number from 0 to 1 in every row, and there must be a row")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path}: no trade-off ({' '.join(str(error).split())})") from error
    return table.fillna({"split": "", "metric": "accuracy"})


def pareto_front(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats in both accuracy and speedup, from the slowest to the fastest."""
    ordered = table.sort_values(["speedup", "accuracy"], ascending=False, kind="stable")
    before = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["accuracy"] > before].iloc[::-1]


def plot_tradeoff(table: pd.DataFrame, ax: Axes) -> None:
    """Every model as a point, a series for each mode on each split. The thin steps join the best points of a series,
    which a new run would not reach. Across: the plain classifier's score, and one point below it."""
    several = table["split"].nunique() > 1
    for index, ((mode, split), rows) in enumerate(table.groupby(["mode", "split"], sort=False)):
        color = _COLORS[index % len(_COLORS)]
        look = {"color": color, "marker": _MARKERS[(index + index // len(_COLORS)) % len(_MARKERS)], **POINT}
        name = paper.literal(f"{mode}, {split}" if several else str(mode))
        ax.plot(rows["speedup"], 100 * rows["accuracy"], label=name, **look)
        front = pareto_front(rows)
        ax.plot(front["speedup"], 100 * front["accuracy"], **STEPS, color=color)
    low, high = float(table["speedup"].min()), float(table["speedup"].max())
    ax.set_xlim(min(1.0, low - 0.015 * (high - low)), high * 1.04)  # a point at the left end is whole
    known = table[["split", "reference"]].dropna().drop_duplicates()
    for index, (split, reference) in enumerate(known.itertuples(index=False, name=None)):
        line: dict[str, Any] = {"linewidth": 0.8, "zorder": 1, "color": _GREYS[index % len(_GREYS)]}
        name = f"plain classifier, {paper.literal(split)}" if split else "plain classifier"
        ax.axhline(100 * reference, label=name, **line)
        below = "_nolegend_" if index else "one point below"
        ax.axhline(100 * reference - 1, linestyle=(0, (6, 2)), label=below, **line)
        bottom, top = ax.get_ylim()
        ax.set_ylim(min(bottom, 100 * reference - 1.6), max(top, 100 * reference + 0.4))
    ax.plot([], [], **STEPS, color="0.35", label="best of all epochs")
    first, *others = table["metric"].unique()
    ax.set(xlabel="Speedup (FLOPs), ×", ylabel=f"{'Score' if others else SCORES.get(first, first)}, %")
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


@paper.styled
def tradeoff_figure(table: pd.DataFrame | str | Path, *, style: str = "acl") -> Figure:
    """Accuracy against speedup, for one column; `table` is what `read_tradeoff` gives, or its file."""
    if isinstance(table, str | Path):
        table = read_tradeoff(table)
    figure = paper.PaperFigure(figsize=(paper.venue(style).column, 2.45), layout="constrained")
    ax = figure.subplots()
    plot_tradeoff(table, ax)
    handles, names = ax.get_legend_handles_labels()
    names, n_columns = paper.room_for_legend(figure, names, most_columns=2)
    look = {"frameon": False, "handlelength": 2.6, "columnspacing": 1.2}
    figure.legend(handles, names, loc="outside lower center", ncols=n_columns, **look)
    return figure
