"""Figures of a report. Every function takes results and an `ax`, never a model; nothing is recomputed.

Vector PDF and PNG for the text width of an ACL paper, fonts embedded as TrueType, colours of Okabe and Ito
that colour-blind readers tell apart, and a marker and a line style for each method, so that grey print reads
as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adapler.errors import ArgumentError
from adapler.files import replacing
from analysis.report import RationaleReport

TEXT_WIDTH = 6.3  # inches, both columns of an ACL paper
PANELS = ("average_precision", "fpr", "tpr")
AXIS_TITLES = {
    "average_precision": "Average precision",
    "fpr": "FPR at $1/n$  (lower is better)",
    "tpr": "TPR at $1/n$",
    "j": "J = TPR $-$ FPR at $1/n$",
}
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "savefig.dpi": 300,
}
# Okabe and Ito (2008); the paper's own method has the strongest colour and the only solid line
_LOOKS: dict[str, Any] = {
    "cp": {"color": "#D55E00", "marker": "o", "linestyle": "-", "linewidth": 1.8, "zorder": 5},
    "saliency": {"color": "#0072B2", "marker": "s", "linestyle": "--"},
    "saliency_gold": {"color": "#56B4E9", "marker": "D", "linestyle": (0, (4, 1, 1, 1, 1, 1))},
    "attention": {"color": "#009E73", "marker": "^", "linestyle": "-."},
    "attention_received": {"color": "#CC79A7", "marker": "v", "linestyle": (0, (8, 1.5))},
    "rollout": {"color": "#E69F00", "marker": "X", "linestyle": (0, (1, 1))},
    "random": {"color": "0.55", "marker": ".", "linestyle": (0, (1, 2)), "linewidth": 1.0, "zorder": 1},
}
_SPARE = [
    {"color": color, "marker": marker, "linestyle": style}
    for color, marker, style in (("#56B4E9", "P", "-"), ("#000000", "*", "--"), ("#7F7F7F", "h", "-."))
]


def looks(methods: Sequence[str]) -> dict[str, Any]:
    """method -> colour, marker and line style, the same in every figure."""
    spare = cycle(_SPARE)
    return {method: _LOOKS[method] if method in _LOOKS else next(spare) for method in methods}


def plot_metric(report: RationaleReport, metric: str, ax: Axes, *, bands: bool = True, chance: bool = True) -> None:
    """One line a method: the metric's mean by layer with its 95 % band, and the chance level of AP."""
    if metric not in report.metrics:
        raise ArgumentError(f"panel {metric!r} is not in the report, which has {', '.join(report.metrics)}")
    summary = report.summary()
    summary = summary[summary["metric"] == metric]
    titles = report.meta.get("titles", {})
    level = report.meta.get("chance_average_precision")
    chance = chance and metric == "average_precision" and level is not None
    for method, look in looks(report.methods).items():
        if chance and method == "random":
            continue  # the chance line is its expectation, without the noise
        rows = summary[summary["method"] == method].sort_values("layer")
        layers = rows["layer"].to_numpy()
        style: Any = {"zorder": 3, "markeredgecolor": "white", "markeredgewidth": 0.4} | look
        ax.plot(layers, rows["mean"].to_numpy(), label=titles.get(method, method), clip_on=False, **style)
        if bands:
            low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
            ax.fill_between(layers, low, high, color=look["color"], alpha=0.11, linewidth=0, zorder=1)
    if chance and level is not None:
        ax.axhline(level, color="0.25", linewidth=0.8, linestyle=(0, (6, 2)), zorder=2, label="Chance")
    ax.set_title(AXIS_TITLES.get(metric, metric.replace("_", " ")), loc="left")
    _layer_axis(ax, report.n_layers)
    if metric != "average_precision":
        ax.set_ylim(None if metric.startswith("j") else 0, None)


def plot_lengths(report: RationaleReport, ax: Axes) -> None:
    """Tokens that enter each layer of the AdapLeR model, mean and the middle half of the documents."""
    lengths = np.array([d.lengths for d in report.documents if d.lengths is not None], dtype=float)  # (D, L)
    if not len(lengths):
        raise ArgumentError("figure 'lengths': the report has no AdapLeR model")
    full = float(np.mean([d.tokens for d in report.documents]))
    layers = np.arange(lengths.shape[1])
    low, high = np.quantile(lengths, [0.25, 0.75], axis=0)
    look = _LOOKS["cp"]
    ax.axhline(full, color="0.25", linewidth=0.8, linestyle=(0, (6, 2)))
    ax.annotate(
        f"input, {full:.0f}",
        (layers[-1], full),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
    )
    ax.fill_between(layers, low, high, color=look["color"], alpha=0.15, linewidth=0)
    ax.plot(layers, lengths.mean(0), color=look["color"], marker="o", clip_on=False, zorder=3)
    for layer, value in zip(layers, lengths.mean(0), strict=True):
        ax.annotate(f"{value:.0f}", (layer, value), xytext=(0, 5), textcoords="offset points", ha="center")
    ax.set_ylim(0, full * 1.12)
    ax.set_title("Tokens that enter the layer", loc="left")
    _layer_axis(ax, report.n_layers)


def agreement_figure(report: RationaleReport, *, panels: Sequence[str] = PANELS) -> Figure:
    """AP and FPR by layer, the paper's figure, with TPR: selecting nothing has a perfect FPR."""
    if not panels:
        raise ArgumentError("panels: got none, at least one metric is needed")
    with rc_context(STYLE):
        width = TEXT_WIDTH if len(panels) > 1 else TEXT_WIDTH * 0.55
        figure = Figure(figsize=(width, 2.5), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, metric in zip(axes, panels, strict=True):
            plot_metric(report, metric, ax)
        rates = [ax for ax, metric in zip(axes, panels, strict=True) if metric.startswith(("fpr", "tpr"))]
        for ax in rates:  # one scale, so that the two can be compared by eye
            ax.set_ylim(0, max(other.get_ylim()[1] for other in rates))
        named: dict[str, Any] = {}
        for ax in axes:
            for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
                named.setdefault(label, handle)
        if "Chance" in named:
            named["Chance"] = named.pop("Chance")  # last
        columns = min(len(named), 4 if len(panels) > 1 else 2)
        figure.legend(
            named.values(),
            named.keys(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            handlelength=3.2,
        )
    return figure


def lengths_figure(report: RationaleReport) -> Figure:
    """Lengths by layer, for one column."""
    with rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH / 2, 2.1), layout="constrained")
        plot_lengths(report, figure.subplots())
    return figure


_KINDS = {"agreement": agreement_figure, "lengths": lengths_figure}


def kinds(report: RationaleReport) -> tuple[str, ...]:
    """The figures that this report has results for."""
    return tuple(kind for kind in _KINDS if kind != "lengths" or report.mean_lengths is not None)


def draw(report: RationaleReport, kind: str, **options: Any) -> Figure:
    """The figure of that kind; ArgumentError lists the kinds there are."""
    if kind not in _KINDS:
        raise ArgumentError(f"figure {kind!r} is not known, there are {', '.join(_KINDS)}")
    return _KINDS[kind](report, **options)


def save_figure(figure: Figure, stem: str | Path) -> list[Path]:
    """Write `stem`.pdf (fonts embedded) and `stem`.png (300 dpi); the same figure gives the same bytes."""
    paths = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        path = Path(f"{stem}{suffix}")
        with rc_context(STYLE), replacing(path) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
        paths.append(path)
    return paths


def _layer_axis(ax: Axes, n_layers: int) -> None:
    ax.set_xlabel("Encoder layer (0 = first)")
    ax.set_xlim(-0.25, n_layers - 0.75)
    if n_layers <= 12:
        ax.set_xticks(range(0, n_layers, 1 if n_layers <= 8 else 2))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
