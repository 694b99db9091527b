"""Accuracy against speedup: what dropping tokens costs, from a CSV of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from adapler.errors import DataError
from analysis.figures.style import PaperFigure, literal, room_for_legend, styled, venue

COLUMNS = ("mode", "phi", "epoch", "scale", "accuracy", "speedup", "reference")
SCORES = {"accuracy": "Accuracy", "f1": "F1"}
_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#7A5C00", "#882255", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
POINT: dict[str, Any] = {"linestyle": "none", "markersize": 3.2, "alpha": 0.75, "markeredgewidth": 0, "zorder": 3}
HALF_POINT = 0.015  # of the width: a point at the left end is not cut by the frame
# the best score at a speedup of at least x is that of the next point to the right
STEPS: dict[str, Any] = {"drawstyle": "steps-pre", "linewidth": 0.7, "marker": "", "zorder": 2}
_GREYS = ("0.25", "0.6", "0.8")  # of a plain classifier's scores on several tasks or splits


def read_tradeoff(path: str | Path) -> pd.DataFrame:
    """The rows of a trade-off CSV; `mode` names how a model was trained, the rest are numbers.

    accuracy (or score, with a column `metric` that says of what): of the AdapLeR model, a share from 0 to 1.
    speedup: FLOPs of the plain classifier / FLOPs of AdapLeR.
    reference: the plain classifier's score on the same rows; empty where it is not known.
    task, split, examples: which rows the score is of and how many; each may be missing.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(("mode", "metric", "task", "split"), str)).dropna(how="all")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())})") from error
    if "accuracy" not in table.columns:
        table = table.rename(columns={"score": "accuracy"})
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DataError(f"{path}: no column {', '.join(missing)}; found {', '.join(map(str, table.columns))}")
    if table.empty:
        raise DataError(f"{path}: no rows")
    for name, upper in (("accuracy", 1.0), ("speedup", np.inf), ("reference", 1.0)):
        numbers = pd.to_numeric(table[name], errors="coerce")
        right = ((numbers >= 0) & (numbers <= upper) & np.isfinite(numbers)) | (
            table[name].isna() & (name == "reference")
        )
        if not right.all():
            raise DataError(f"{path}: {name} is {table[name][~right].iloc[0]!r}, must be a number from 0 to {upper:g}")
        table[name] = numbers
    if len(metrics := _metrics(table)) > 1:
        raise DataError(f"{path}: scores of several metrics ({', '.join(metrics)}), a figure shows one")
    table["mode"] = table["mode"].fillna("-")
    return table


def _metrics(table: pd.DataFrame) -> list[str]:
    return sorted(table["metric"].dropna().unique()) if "metric" in table.columns else []


def pareto_front(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats in both accuracy and speedup, from the slowest to the fastest."""
    ordered = table.sort_values(["speedup", "accuracy"], ascending=False, kind="stable")
    before = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["accuracy"] > before].iloc[::-1]


def standard_errors(table: pd.DataFrame) -> NDArray[np.float64]:
    """(rows,) binomial standard error of each accuracy, sqrt(a (1 - a) / examples).

    NaN where the number of examples is not known, and for a metric that is no share of examples, such as F1.
    """
    if "examples" not in table.columns or _metrics(table) not in ([], ["accuracy"]):
        return np.full(len(table), np.nan)
    share, n = table["accuracy"].to_numpy(float), table["examples"].to_numpy(float)
    return np.asarray(np.sqrt(np.divide(share * (1 - share), n, out=np.full(len(n), np.nan), where=n > 0)))


def plot_tradeoff(table: pd.DataFrame, ax: Axes) -> None:
    """Every run and epoch as a point, with its standard error where the number of examples is known. The thin steps
    join the best points of each mode, which are chosen on the rows that they are shown on: a new run would not reach
    them. Across: the plain classifier's score, and one point below it.
    """
    where = _where(table)  # a series for each mode on each task and split: their scores are never joined
    for index, ((mode, on), rows) in enumerate(table.groupby(["mode", where], sort=False)):
        color = _COLORS[index % len(_COLORS)]
        marker = _MARKERS[(index + index // len(_COLORS)) % len(_MARKERS)]
        speedup, score = rows["speedup"].to_numpy(float), 100 * rows["accuracy"].to_numpy(float)
        error = 100 * standard_errors(rows)
        if not np.isnan(error).all():
            ax.errorbar(speedup, score, yerr=error, fmt="none", ecolor=color, elinewidth=0.5, alpha=0.35, zorder=2)
        ax.plot(
            speedup, score, **POINT, color=color, marker=marker, label=literal(f"{mode}, {on}" if on else str(mode))
        )
        front = pareto_front(rows)
        ax.plot(front["speedup"], 100 * front["accuracy"], **STEPS, color=color)
    low, high = float(table["speedup"].min()), float(table["speedup"].max())
    ax.set_xlim(min(1.0, low * 0.97, low - HALF_POINT * (high - low)), high * 1.04)
    _draw_references(table, ax)
    ax.plot([], [], **STEPS, color="0.35", label="best of all epochs")
    ax.set_xlabel("Speedup (FLOPs), ×")
    ax.set_ylabel(f"{SCORES.get(''.join(_metrics(table)) or 'accuracy', 'Score')}, %")
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _where(table: pd.DataFrame, *, named: Sequence[str] = ()) -> pd.Series[str]:
    """Task and split of each row, in words: where there are several, and what is `named` if there is one, too."""
    names = [name for name in ("task", "split") if name in table and table[name].nunique() > (name not in named)]
    words = table[names].fillna("-").astype(str)
    return words.agg(", ".join, axis=1) if names else pd.Series("", index=table.index)


def _draw_references(table: pd.DataFrame, ax: Axes) -> None:
    """A line for each score that a plain classifier has on a task and split, and one a point below it."""
    where = _where(table, named=("split",))
    known = pd.DataFrame({"where": where, "reference": table["reference"]}).dropna().drop_duplicates()
    for index, (on, reference) in enumerate(known.itertuples(index=False, name=None)):
        look: dict[str, Any] = {"linewidth": 0.8, "zorder": 1, "color": _GREYS[index % len(_GREYS)]}
        name = f"plain classifier, {literal(on)}" if on else "plain classifier"
        ax.axhline(100 * reference, linestyle="-", label=name, **look)
        below = "one point below" if index == 0 else "_nolegend_"
        ax.axhline(100 * reference - 1, linestyle=(0, (6, 2)), label=below, **look)
    if len(known):
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, 100 * known["reference"].min() - 1.6), max(high, 100 * known["reference"].max() + 0.4))


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
