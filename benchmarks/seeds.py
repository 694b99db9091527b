"""Reports of several seeds: their means, and the layers in which all seeds of a method are on one side of another's.

python -m benchmarks.seeds reports/a/layers.csv reports/b/layers.csv --output seeds.csv
python -m benchmarks.seeds seeds.csv --over saliency --metrics average_precision fpr
"""

from __future__ import annotations

import argparse

import pandas as pd


def merged(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean, standard deviation, lowest and highest of each (method, layer, metric) over the tables of the seeds."""
    groups = pd.concat(tables).groupby(["method", "layer", "metric"], sort=False)["mean"]
    return groups.agg(mean="mean", sd=lambda x: x.std(ddof=1), min="min", max="max", runs="size").reset_index()


def layers(numbers: list[int]) -> str:
    """`[0, 2, 3, 4]` as "0, 2-4"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def ahead(table: pd.DataFrame, metric: str, *, method: str, over: str) -> str:
    """The layers where every seed of `method` is above, or below, every seed of `over`."""
    rows = table[table["metric"] == metric].set_index(["method", "layer"])
    one, other = rows.loc[method], rows.loc[over]
    above = [layer for layer in one.index if one["min"][layer] > other["max"][layer]]
    below = [layer for layer in one.index if one["max"][layer] < other["min"][layer]]
    parts = [f"{name} {layers(found)}" for name, found in (("above", above), ("below", below)) if found]
    return "; ".join(parts) or "mixed"


def main() -> None:
    """Merge, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", help="layers.csv of each seed, or one merged table")
    parser.add_argument("--output", help="merged table to write")
    parser.add_argument("--method", default="cp")
    parser.add_argument("--over", help="method to compare with")
    parser.add_argument("--metrics", nargs="+", default=["average_precision"])
    options = parser.parse_args()
    tables = [pd.read_csv(name) for name in options.tables]
    table = tables[0] if "runs" in tables[0] else merged(tables)
    if options.output:
        table.to_csv(options.output, index=False)
    if options.over:
        for metric in options.metrics:
            print(f"{metric}: {ahead(table, metric, method=options.method, over=options.over)}")


if __name__ == "__main__":
    main()
