"""Accuracy against speedup: what dropping tokens costs, from a CSV of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from adapler.errors import DataError
from analysis.figures.paper import PaperFigure, literal, room_for_legend, styled, venue

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
    which are chosen on the rows that they are shown on: a new run would not reach them. Across: the plain classifier's
    score, and one point below it.
    """
    several = table["split"].nunique() > 1
    for index, ((mode, split), rows) in enumerate(table.groupby(["mode", "split"], sort=False)):
        color = _COLORS[index % len(_COLORS)]
        look = {"color": color, "marker": _MARKERS[(index + index // len(_COLORS)) % len(_MARKERS)], **POINT}
        name = literal(f"{mode}, {split}" if several else str(mode))
        ax.plot(rows["speedup"], 100 * rows["accuracy"], label=name, **look)
        front = pareto_front(rows)
        ax.plot(front["speedup"], 100 * front["accuracy"], **STEPS, color=color)
    low, high = float(table["speedup"].min()), float(table["speedup"].max())
    ax.set_xlim(min(1.0, low - 0.015 * (high - low)), high * 1.04)  # a point at the left end is whole
    known = table[["split", "reference"]].dropna().drop_duplicates()
    for index, (split, reference) in enumerate(known.itertuples(index=False, name=None)):
        line: dict[str, Any] = {"linewidth": 0.8, "zorder": 1, "color": _GREYS[index % len(_GREYS)]}
        ax.axhline(
            100 * reference, label=f"plain classifier{', ' * bool(split)}{literal(split) if split else ''}", **line
        )
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


@styled
def tradeoff_figure(table: pd.DataFrame | str | Path, *, style: str = "acl") -> Figure:
    """Accuracy against speedup, for one column; `table` is what `read_tradeoff` gives, or its file."""
    if isinstance(table, str | Path):
        table = read_tradeoff(table)
    figure = PaperFigure(figsize=(venue(style).column, 2.45), layout="constrained")
    ax = figure.subplots()
    plot_tradeoff(table, ax)
    handles, names = ax.get_legend_handles_labels()
    names, n_columns = room_for_legend(figure, names, most_columns=2)
    look = {"frameon": False, "handlelength": 2.6, "columnspacing": 1.2}
    figure.legend(handles, names, loc="outside lower center", ncols=n_columns, **look)
    return figure
