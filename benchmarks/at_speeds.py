"""Accuracy at a speedup, interpolated between the threshold scales that were measured: results/at-speeds.csv.

    python -m benchmarks.at_speeds

Reads the files of scales below results/ (columns split, seed, threshold_scale, accuracy, speedup and the columns that
name a row), interpolates each seed on the logarithm of the speedup, and writes mean, lowest and highest over the seeds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parents[1] / "results"
SPEEDS = (3, 4, 6, 8, 12)
_PREDICTORS = ("scales", "all-reviews", "all-reviews-local", "ablation", "combined", "full")
FILES = (
    *(f"movies-minilm/predictors/{name}.csv" for name in _PREDICTORS),
    *(f"movies-mpnet/seeds/{name}.csv" for name in ("scales", "full-scales", "post-hoc-scales")),
)


def at_speeds(table: pd.DataFrame) -> pd.DataFrame:
    """(row, split, seeds, speedup, mean, low, high) of a table of scales; speeds beyond a curve are left out."""
    table = table[table["threshold_scale"].astype(str) != "none"]
    names = [name for name in ("row", "predictor", "target") if name in table]
    table = table.assign(row=table[names].agg(", ".join, axis=1) if names else "")
    rows = []
    for (row, split), group in table.groupby(["row", "split"]):
        curves = [curve.sort_values("speedup") for _, curve in group.groupby("seed")]
        for speed in SPEEDS:
            if all(curve["speedup"].min() <= speed <= curve["speedup"].max() for curve in curves):
                at = [np.interp(np.log(speed), np.log(curve["speedup"]), curve["accuracy"]) for curve in curves]
                rows.append((row, split, len(at), speed, np.mean(at), min(at), max(at)))
    return pd.DataFrame(rows, columns=["row", "split", "seeds", "speedup", "mean", "low", "high"])


def main() -> None:
    """Write the table."""
    tables = [at_speeds(pd.read_csv(RESULTS / name)).assign(file=name) for name in FILES]
    pd.concat(tables).round(5).to_csv(RESULTS / "at-speeds.csv", index=False)


if __name__ == "__main__":
    main()
