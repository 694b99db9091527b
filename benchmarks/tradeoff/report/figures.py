"""The two figures: score against FLOPs speedup, and measured against FLOPs speedup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.figures import save_figure
from analysis.figures.style import DASHES, PaperFigure, literal, styled, venue
from benchmarks.tradeoff.data import METRICS, task_title
from benchmarks.tradeoff.report.comparison import mean_speedup
from benchmarks.tradeoff.selection import USELESS
from benchmarks.tradeoff.systems import FINETUNED, SYSTEMS, in_order, system_of

COLUMNS = 3  # panels side by side
PANEL = 1.75  # inches, a panel's height
LONG = 24  # letters; four columns of the legend have no room for a longer name
LOOKS: dict[str, dict[str, Any]] = {
    "adapler": {"color": "#D55E00", "marker": "o", "linestyle": "-", "linewidth": 1.8, "zorder": 6},
    "adapler-post-hoc": {"color": "#E69F00", "marker": "h", "linestyle": DASHES["dashed"], "zorder": 5},
    "distilbert": {"color": "#000000", "marker": "P", "linestyle": "none", "zorder": 4},
    "power": {"color": "#0072B2", "marker": "s", "linestyle": DASHES["dashdot"], "zorder": 4},
    "trbert": {"color": "#009E73", "marker": "^", "linestyle": DASHES["long"], "zorder": 4},
    "transkimmer": {"color": "#CC79A7", "marker": "v", "linestyle": DASHES["dashdotdot"], "zorder": 4},
    "ltp": {"color": "#56B4E9", "marker": "D", "linestyle": DASHES["dotted"], "zorder": 4},
    "cls_topk": {"color": "0.35", "marker": "X", "linestyle": DASHES["dotted"], "linewidth": 1.0, "zorder": 3},
    "random_topk": {"color": "0.6", "marker": ".", "linestyle": (0, (1, 2)), "linewidth": 1.0, "zorder": 2},
    FINETUNED: {"color": "0.25", "marker": "", "linestyle": "-", "linewidth": 0.8, "zorder": 1},
}
_SPARE = ("#882255", "#7A5C00", "#332288", "#117733")  # of variants
RING: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 8, "markerfacecolor": "none", "zorder": 7}


def looks(systems: Sequence[str]) -> dict[str, dict[str, Any]]:
    """system -> how it is drawn, the same in both figures."""
    found, spare = {}, 0
    for system in systems:
        if system in LOOKS:
            found[system] = LOOKS[system]
            continue
        base = max((name for name in SYSTEMS if system.startswith(name)), key=len)
        found[system] = {**LOOKS[base], "color": _SPARE[spare % len(_SPARE)]}
        spare += 1
    return found


def means_over_seeds(curves: pd.DataFrame) -> pd.DataFrame:
    """The curve of each system: mean, lowest and highest score over seeds, and mean speedup, a row for each task,
    backbone, system, budget and threshold scale, by speedup.

    Of the budgets and scales that all of a system's seeds were read at, for a line joins means over the same seeds. And
    only what validation would choose at some speed: a row is left out where the same system has another that is faster
    and scores higher on validation, or where it scores more than USELESS below the fine-tuned classifier there.
    """
    rows = curves.copy()
    rows["of_system"] = rows.groupby(["task", "backbone", "system"], sort=False)["seed"].transform("nunique")
    rows[["budget", "scale"]] = rows[["budget", "scale"]].astype(float).fillna(0.0)
    groups = rows.groupby(["task", "backbone", "system", "budget", "scale"], sort=False)
    found = groups.agg(
        score=("score", "mean"),
        low=("score", "min"),
        high=("score", "max"),
        speedup=("speedup", mean_speedup),
        seeds=("seed", "nunique"),
        of_system=("of_system", "first"),
        validation_score=("validation_score", "mean"),
        validation_speedup=("validation_speedup", mean_speedup),
    ).reset_index()
    found = found[found["seeds"] == found["of_system"]]
    plain = found[found["system"] == FINETUNED].set_index(["task", "backbone"])["validation_score"]
    keys = pd.MultiIndex.from_frame(found[["task", "backbone"]])
    least = plain.reindex(keys).fillna(0.0).to_numpy() - USELESS
    found = found[found["validation_score"].to_numpy() >= least]
    systems = found.groupby(["task", "backbone", "system"], sort=False)
    fronts = [own[_on_front(own)] for _, own in systems]
    return pd.concat(fronts).sort_values("speedup", kind="stable")


def _on_front(rows: pd.DataFrame) -> list[bool]:
    """Whether no other row is at least as good on validation in score and speedup and better in one."""
    both = list(zip(rows["validation_score"], rows["validation_speedup"], strict=True))
    return [not any(a >= score and b >= speed and (a, b) != (score, speed) for a, b in both) for score, speed in both]


def plot_scores(curves: pd.DataFrame, table: pd.DataFrame, ax: Axes, *, styles: dict[str, dict[str, Any]]) -> None:
    """Score against speedup, of the rows of one task and backbone, drawn as `styles` say, see `looks`.

    Lines: each system at the budgets and threshold scales of `means_over_seeds`, with a band from the lowest to the
    highest seed. A ring: the point that validation chose, which stands in the table; it is off the line where the seeds
    chose different budgets or scales. Across: the fine-tuned classifier.
    """
    means = means_over_seeds(curves)
    for system, look in styles.items():
        if system not in set(curves["system"]):
            continue
        rows = means[means["system"] == system]
        name = literal(system_of(system).title)
        if system == FINETUNED:
            ax.axhline(100 * float(rows["score"].iloc[0]), **{**look, "marker": None}, label=name)
            continue
        x, y = rows["speedup"].to_numpy(), 100 * rows["score"].to_numpy()
        ax.plot(x, y, **look, label=name, clip_on=not len(rows))  # the layout takes no empty line without
        low, high = 100 * rows["low"].to_numpy(), 100 * rows["high"].to_numpy()
        if len(rows) > 1:
            ax.fill_between(x, low, high, color=look["color"], alpha=0.14, linewidth=0, zorder=1)
        elif (rows["seeds"] > 1).any():  # a band of one point is a bar
            reach = np.maximum(0, [y - low, high - y])  # the mean of equal scores can be a last digit off them
            ax.errorbar(x, y, yerr=reach, fmt="none", ecolor=look["color"], elinewidth=0.8, zorder=1)
        chosen = table[table["system"] == system]
        ax.plot(chosen["speedup"], 100 * chosen["score"], **RING, markeredgecolor=look["color"], clip_on=False)
    speedup_axis(ax, "x", [*means["speedup"], *table["speedup"]])
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def speedup_axis(ax: Axes, axis: str, values: Sequence[float]) -> None:
    """A logarithmic axis from 1 (or the slowest) to the fastest, with ticks that are powers of two."""
    low, high = min(1.0, *values), max(1.5, *values)
    steps = range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)
    ticks = [2.0**step for step in steps]
    if high / low < 5:  # few powers of two: the values between them as well
        ticks = sorted({*ticks, *(1.5 * tick for tick in ticks)})
    getattr(ax, f"set_{axis}scale")("log", base=2)
    room = max(1.04, (high / low) ** 0.04)  # for the markers at both ends
    getattr(ax, f"set_{axis}lim")(low / room, high * room)
    own = getattr(ax, f"{axis}axis")
    own.set_major_locator(FixedLocator(ticks))
    own.set_minor_locator(NullLocator())
    own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _grid(number: int, *, style: str, legend_rows: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, number)
    rows = math.ceil(number / columns)
    width = venue(style).text if columns > 1 else venue(style).column
    figure = PaperFigure(figsize=(width, PANEL * rows + 0.15 * legend_rows + 0.15), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in axes[number:]:
        ax.remove()
    return figure, axes[:number]


def _names(systems: Sequence[str]) -> list[str]:
    """What a legend calls them."""
    return [literal(system_of(system).title) for system in systems]


def _legend_columns(names: Sequence[str], *, panels: int) -> int:
    """As many as fit below the panels."""
    return 2 if panels == 1 else 3 if max(map(len, names)) > LONG else 4


def _legend(figure: Figure, axes: Sequence[Axes], names: Sequence[str], extra: Sequence[Any] = ()) -> None:
    """One legend below all panels, in the order of the names."""
    known: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(name, handle)
    named = {name: known[name] for name in names if name in known}
    for handle in extra:
        named[handle.get_label()] = handle
    wide = len(axes) > 1
    figure.legend(
        named.values(),
        named.keys(),
        loc="outside lower center",
        ncols=_legend_columns(names, panels=len(axes)),
        frameon=False,
        handlelength=2.8 if wide else 2.0,
        columnspacing=1.2 if wide else 0.8,
        handletextpad=0.8 if wide else 0.5,
    )


@styled
def scores_figure(curves: pd.DataFrame, table: pd.DataFrame, *, style: str = "acl") -> Figure:
    """Score against FLOPs speedup of one backbone, one panel a task."""
    tasks, systems = list(dict.fromkeys(table["task"])), in_order(table["system"])
    styles, names = looks(systems), _names(systems)
    columns = _legend_columns(names, panels=len(tasks))
    figure, axes = _grid(len(tasks), style=style, legend_rows=math.ceil((len(systems) + 1) / columns))
    for number, (task, ax) in enumerate(zip(tasks, axes, strict=True)):
        own = table[table["task"] == task]
        plot_scores(curves[curves["task"] == task], own, ax, styles=styles)
        first = own.iloc[0]
        ax.set_title(literal(f"{task_title(task, first['coverage'])}, {METRICS[first['metric']]}"), loc="left")
        if number % COLUMNS == 0:
            ax.set_ylabel("Score on test, %")
        if number >= len(tasks) - min(COLUMNS, len(tasks)):
            ax.set_xlabel("Speedup (FLOPs), ×")
    (ring,) = axes[0].plot([], [], **RING, markeredgecolor="0.3", label="chosen on validation")
    _legend(figure, axes, names, extra=[ring])
    return figure


def plot_times(rows: pd.DataFrame, measured: str, ax: Axes) -> None:
    """Measured speedup against executed FLOPs, every system and task at its chosen point; on the line, the promise of
    the FLOPs is kept."""
    values = [*rows["speedup_executed"], *rows[measured]]
    for axis in ("x", "y"):
        speedup_axis(ax, axis, values)
    ends = ax.get_xlim()
    ax.plot(ends, ends, color="0.4", linewidth=0.7, zorder=1)
    for system, look in looks(in_order(rows["system"])).items():
        if system == FINETUNED:
            continue
        own = rows[rows["system"] == system]
        points = {**look, "linestyle": "none", "alpha": 0.85}
        ax.plot(own["speedup_executed"], own[measured], **points, label=literal(system_of(system).title))


@styled
def times_figure(table: pd.DataFrame, *, style: str = "acl") -> Figure:
    """Measured against FLOPs speedup of one backbone: in batches, and one by one."""
    systems = in_order(table["system"])
    names = _names(systems)
    columns = _legend_columns(names, panels=2)
    figure, axes = _grid(2, style=style, legend_rows=math.ceil(len(systems) / columns) + 3)
    for ax, (measured, title) in zip(axes, (("faster", "In batches"), ("faster_one", "One by one")), strict=True):
        plot_times(table, measured, ax)
        ax.set_title(title, loc="left")
        ax.set_xlabel("Speedup (FLOPs as executed), ×")
    axes[0].set_ylabel("Speedup (measured), ×")
    _legend(figure, axes, names)
    return figure


def save_figures(table: pd.DataFrame, curves: pd.DataFrame, output: Path, *, style: str) -> list[Path]:
    """Both figures of each backbone as PDF, PNG and SVG. Of a backbone with nothing but classifiers there are none."""
    paths: list[Path] = []
    for backbone, rows in table.groupby("backbone", sort=False):
        if set(rows["system"]) <= {FINETUNED}:
            continue
        own = curves[curves["backbone"] == backbone]
        paths += save_figure(scores_figure(own, rows, style=style), output / f"{backbone}-scores")
        paths += save_figure(times_figure(rows, style=style), output / f"{backbone}-times")
    return paths
