"""Accuracy against speedup: what dropping tokens costs, from a CSV of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from adapler.errors import DataError
from analysis.figures.style import PaperFigure, literal, styled, venue

COLUMNS = ("mode", "phi", "epoch", "scale", "accuracy", "speedup", "reference")
_LOOKS = (
    {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    {"color": "#0072B2", "marker": "s", "linestyle": (0, (4.5, 1.5))},
    {"color": "#009E73", "marker": "^", "linestyle": (0, (6, 1.5, 1.2, 1.5))},
    {"color": "#CC79A7", "marker": "D", "linestyle": (0, (1.2, 1.2))},
)


def read_tradeoff(path: str | Path) -> pd.DataFrame:
    """The rows of a trade-off CSV; `mode` names how a model was trained, the rest are numbers.

    accuracy, reference: of the AdapLeR model and of the plain classifier, shares from 0 to 1.
    speedup: FLOPs of the plain classifier / FLOPs of AdapLeR.

    Raises DataError that names the file and the column for a file that cannot be read, that lacks a column or has
    no rows, and for a value that is no number or out of range.
    """
    try:
        table = pd.read_csv(path, dtype={"mode": str})
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error
    if "score" in table.columns and "accuracy" not in table.columns:  # with a column `metric` that says of what
        table = table.rename(columns={"score": "accuracy"})
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; found {', '.join(map(str, table.columns))}")
    if table.empty:
        raise DataError(f"{path}: no rows")
    for name in ("accuracy", "speedup", "reference"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        upper = 1.0 if name != "speedup" else float("inf")
        wrong = table.index[~((numbers >= 0) & (numbers <= upper) & (numbers < float("inf")))]
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"{path}, line {row + 2}: {name} is {table[name][row]!r}, must be a number from 0 "
                f"{'to 1' if name != 'speedup' else 'up'}"
            )
        table[name] = numbers
    return table


def pareto_front(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats in both accuracy and speedup, from the slowest to the fastest."""
    ordered = table.sort_values(["speedup", "accuracy"], ascending=False, kind="stable")
    before = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["accuracy"] > before].iloc[::-1]


def plot_tradeoff(table: pd.DataFrame, ax: Axes) -> None:
    """Every run as a faint marker, the Pareto front of each mode as a line, the plain classifier's accuracy as a
    line across, and one point of accuracy below it."""
    modes = list(dict.fromkeys(table["mode"].fillna("-")))
    for index, mode in enumerate(modes):
        look: dict[str, Any] = dict(_LOOKS[index % len(_LOOKS)])
        rows = table[table["mode"].fillna("-") == mode]
        front = pareto_front(rows)
        faint = {**look, "linestyle": "none", "alpha": 0.35, "markersize": 3, "markeredgewidth": 0}
        ax.plot(rows["speedup"], 100 * rows["accuracy"], zorder=2, **faint)
        ax.plot(
            front["speedup"],
            100 * front["accuracy"],
            label=literal(mode),
            zorder=3,
            markeredgecolor="white",
            markeredgewidth=0.4,
            **look,
        )
    reference = 100 * float(table["reference"].mean())
    ax.set_xlabel("Speedup (FLOPs), ×")
    ax.set_ylabel("Accuracy, %")
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, reference - 1.6), max(high, reference + 0.4))
    ax.set_xlim(min(1.0, float(table["speedup"].min()) * 0.97), float(table["speedup"].max()) * 1.04)
    line: dict[str, Any] = {"color": "0.25", "linewidth": 0.8, "zorder": 1}
    ax.axhline(reference, linestyle="-", label="plain classifier", **line)
    ax.axhline(reference - 1, linestyle=(0, (6, 2)), label="one point below", **line)
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
    figure.legend(loc="outside lower center", ncols=2, frameon=False, handlelength=2.6, columnspacing=1.2)
    return figure
