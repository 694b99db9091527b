"""The command `python -m analysis.studies.ahead`: in which layers every seed of a method is above all of another's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from adapler.errors import ArgumentError, CommandParser, run_command
from analysis.metrics.registry import METRICS

EXAMPLE = """example:
  python -m analysis.studies.seeds reports/seed-1 reports/seed-2 reports/seed-3 --output reports/seeds.csv
  python -m analysis.studies.ahead "post hoc=reports/seeds.csv" --over saliency attention
"""
COLUMNS = ("method", "layer", "metric", "min", "max", "runs")  # of `analysis.studies.seeds`, those that are read
NO_NUMBER = {name: ["", "nan", "NaN"] for name in ("layer", "mean", "min", "max", "runs")}


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = CommandParser(
        prog="python -m analysis.studies.ahead",
        description="In which layers the lowest run of a method is above the highest of another one, and the other way "
        "round, as a table in Markdown. Layers where runs of both lie among each other are named in neither. `(1 of 3 "
        "runs)` behind them says that in one of these layers a method has a value in so few of the runs.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="[NAME=]CSV", help="made by `analysis.studies.seeds --output`")
    parser.add_argument("--method", default="cp", metavar="NAME", help="(default: cp)")
    parser.add_argument("--over", nargs="+", default=["saliency"], metavar="NAME", help="others (default: saliency)")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="(default: all of the first file)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    tables = {}
    for given in arguments.files:
        name, _, path = ("", "", given) if Path(given).exists() else given.rpartition("=")
        if (name or path) in tables:
            raise ArgumentError(f"{name or path}: two tables have this name; NAME=CSV gives another one")
        tables[name or path] = read(path)
    metrics = arguments.metrics or list(dict.fromkeys(next(iter(tables.values()))["metric"]))
    heads = ["", f"{arguments.method} against", *(METRICS[name].title if name in METRICS else name for name in metrics)]
    lines = [heads, ["---"] * len(heads)]
    for name, table in tables.items():
        for other in arguments.over:
            cells = [said(table, arguments.method, other, metric=metric, where=name) for metric in metrics]
            lines.append([name, other, *cells])
    print("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return 0


def read(path: str) -> pd.DataFrame:
    """The table of several runs.

    Raises:
        ArgumentError: it cannot be read, or is no such table.
    """
    try:
        # a method may be called NA, or 1; NaN is none in columns of numbers only
        table = pd.read_csv(path, dtype={"method": str, "metric": str}, keep_default_na=False, na_values=NO_NUMBER)
    except (OSError, ValueError) as error:  # pandas' own errors of a table are ValueErrors
        raise ArgumentError(f"{path}: cannot be read as CSV ({error})") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise ArgumentError(
            f"{path}: has no column {missing[0]!r}; `analysis.studies.seeds --output` writes such files"
        )
    for name in ("layer", "min", "max", "runs"):
        if not is_numeric_dtype(table[name]):
            raise ArgumentError(f"{path}: column {name!r} must hold numbers")
    if table.duplicated(["method", "layer", "metric"]).any():
        raise ArgumentError(f"{path}: has a method's value of one layer and metric twice; is it two tables in one?")
    return table


def said(table: pd.DataFrame, method: str, other: str, *, metric: str, where: str) -> str:
    """A cell: `above 0-2; below 5`. Of a method that scores the input only, its one value stands against all layers.
    Behind it the number of runs, where in one of these layers a method has a value in fewer of them than there are.

    `neither` where there is no such layer, `-` where the metric is not defined for a method, as FPR for signed scores.

    Raises:
        ArgumentError: the table does not have the metric, or has nothing of a method for it.
    """
    part = table[table["metric"] == metric]
    if part.empty:
        raise ArgumentError(f"--metrics: {where} has no {metric!r}, but {', '.join(dict.fromkeys(table['metric']))}")
    for name in (method, other):
        if name not in set(part["method"]):
            raise ArgumentError(f"{where}: has no method {name!r}, but {', '.join(dict.fromkeys(part['method']))}")
    mine, its = (runs_of(part, name) for name in (method, other))
    layers = mine.index if len(its) == 1 else its.index if len(mine) == 1 else mine.index.intersection(its.index)
    mine, its = (one.reindex(layers, method="ffill") if len(one) == 1 else one.loc[layers] for one in (mine, its))
    if mine["min"].isna().all() or its["min"].isna().all():
        return "-"
    found = {"above": layers[mine["min"] > its["max"]], "below": layers[mine["max"] < its["min"]]}
    text = "; ".join(f"{word} {ranges(where.tolist())}" for word, where in found.items() if len(where))
    named = found["above"].union(found["below"])
    fewest, most = min(one["runs"].reindex(named).min() for one in (mine, its)), table["runs"].max()
    return (f"{text} ({fewest:.0f} of {most} runs)" if fewest < most else text) or "neither"


def runs_of(part: pd.DataFrame, method: str) -> pd.DataFrame:
    """The lowest and the highest run of each layer, and how many there are, by layer."""
    return part[part["method"] == method].set_index("layer")[["min", "max", "runs"]].sort_index()


def ranges(numbers: Sequence[int]) -> str:
    """Increasing whole numbers in short: `0-2, 5`."""
    runs = (list(run) for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]))
    ends = ((run[0][1], run[-1][1]) for run in runs)
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ends)


if __name__ == "__main__":
    sys.exit(run_command(main))
