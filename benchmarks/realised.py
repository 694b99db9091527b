"""Draws how much of the FLOPs speedup becomes time: measured against executed FLOPs, beside the line of a kept promise.

    python benchmarks/inference.py --data data/eraser/movies --split test --rows 32 --batches tokens 1 \
        --scales 0 0.5 0.75 1 1.25 1.5 2 --dtype float32 bfloat16 --threads 2 --output realised.json
    python -m benchmarks.realised realised.json --output realised

Speedups are over the packed backbone of the same number format, in turns. A point is a threshold scale, with the range
of the rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from adapler.errors import ArgumentError, CommandParser, run_command
from analysis.figures import save_figure
from analysis.figures.style import DASHES, styled
from benchmarks.tradeoff.report.figures import speedup_axis

LOOKS: dict[str, dict[str, Any]] = {
    "float32": {"color": "#0072B2", "marker": "s", "linestyle": DASHES["dashed"]},
    "bfloat16": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
}
TITLES = {"tokens": "In batches", "1": "One by one"}
WIDTH, HEIGHT = 3.1, 2.6  # inches, of a panel


def points(rows: Sequence[dict[str, Any]], *, batch: str, dtype: str) -> list[tuple[float, float, float, float]]:
    """(executed FLOPs speedup, median, lowest and highest measured speedup) of each threshold scale, by FLOPs."""
    found = []
    for row in rows:
        if row["system"].startswith("adapler ") and (row["batch"], row["dtype"]) == (batch, dtype):
            ratio = row[f"over packed {dtype}"]
            found.append((row["flops"]["executed"], ratio["median"], ratio["min"], ratio["max"]))
    return sorted(found)


@styled
def realised_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """A panel for each kind of batch, a line for each number format."""
    batches = [name for name in TITLES if any(points(rows, batch=name, dtype=dtype) for dtype in LOOKS)]
    figure = Figure(figsize=(WIDTH * len(batches), HEIGHT), layout="constrained")
    values = [row["flops"]["executed"] for row in rows if row["flops"]["executed"]]
    for ax, batch in zip(figure.subplots(1, len(batches), squeeze=False)[0], batches, strict=True):
        for dtype in LOOKS:
            if not (found := points(rows, batch=batch, dtype=dtype)):
                continue
            flops, median, low, high = zip(*found, strict=True)
            down = [middle - end for middle, end in zip(median, low, strict=True)]
            up = [end - middle for middle, end in zip(median, high, strict=True)]
            look = {**LOOKS[dtype], "markersize": 3.5, "elinewidth": 0.7, "capsize": 1.5}
            ax.errorbar(flops, median, yerr=[down, up], label=dtype, **look)
            values += [*low, *high]
        for axis in ("x", "y"):
            speedup_axis(ax, axis, values)
        ends = ax.get_xlim()
        ax.plot(ends, ends, color="0.4", linewidth=0.7, zorder=1, label="all of the FLOPs become time")
        ax.set_title(TITLES[batch], loc="left")
        ax.set_xlabel("Speedup (FLOPs as executed), ×")
        ax.set_ylabel("Speedup (measured), ×")
        ax.legend(loc="upper left", fontsize="small", frameon=False)
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(
        prog="python -m benchmarks.realised", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", type=Path, help="what benchmarks/inference.py --output wrote")
    parser.add_argument("--output", type=Path, required=True, help="of the figure, without suffix")
    args = parser.parse_args(argv)
    try:
        rows = json.loads(args.record.read_text(encoding="utf-8"))
        settings = sorted(
            {
                f"{row['data']} {row['split']}, {row['texts']} texts of at most {row['max_length']} wordpieces, on "
                f"{row.get('device', 'cpu')} with {row['threads']} threads"
                for row in rows
            }
        )
        if not settings or any(row[name] is None for row in rows for name in ("system", "batch", "dtype", "flops")):
            raise ValueError("without rows" if not settings else "a row without a value")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(f"{args.record}: is not a record of benchmarks/inference.py ({error})") from error
    if len(settings) > 1:  # their points would make one line
        raise ArgumentError(f"{args.record}: holds {'; '.join(settings)}; a figure is of one of them")
    if not any(points(rows, batch=batch, dtype=dtype) for batch in TITLES for dtype in LOOKS):
        raise ArgumentError(
            f"{args.record}: has no AdapLeR in batches of `tokens` or one by one (--scales, --batches tokens 1)"
        )
    for path in save_figure(realised_figure(rows), args.output):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
