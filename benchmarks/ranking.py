"""The score of a dropped token, zeroed or carried: AP of human rationales by layer, with and without dropping.

    python -m benchmarks.ranking --data data/eraser/movies --output results/rationales/ranking.csv

Rows: split, dropping (yes, no), method (cp: a dropped token has 0; cp_carried: its last score; saliency), metric,
layer, mean, 95 % bootstrap interval over documents, n, and the same of the difference from saliency.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.evaluate import evaluate

METHODS = ("cp", "cp_carried", "saliency")
METRICS = ("average_precision", "roc_auc")
RESAMPLES = 2000


def table(adapler: str | None, data: str | None, cache: str | None) -> pd.DataFrame:
    rows = []
    for split in ("val", "test"):
        for dropping, scale in (("yes", 1.0), ("no", 0.0)):
            report = evaluate(
                None, data, list(METHODS), list(METRICS),
                adapler=adapler, split=split, threshold_scale=scale, cache=cache,
            )  # fmt: skip
            values = report.frame.pivot_table(index="document", columns=["metric", "method", "layer"], values="value")
            chosen = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
            for metric, method, layer in values.columns:
                own = values[metric, method, layer].to_numpy()
                difference = own - values[metric, "saliency", layer].to_numpy()
                row = {"split": split, "dropping": dropping, "method": method, "metric": metric, "layer": layer}
                for name, one in (("", own), ("minus_saliency_", difference)):
                    low, high = np.quantile(one[chosen].mean(1), [0.025, 0.975])
                    row |= {f"{name}mean": one.mean(), f"{name}low": low, f"{name}high": high}
                rows.append(row | {"n": len(values)})
    return pd.DataFrame(rows).round(4)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapler", help="an AdapLeR checkpoint; default: the embedded one")
    parser.add_argument("--data", help="a corpus with validation and test split; default: the movies")
    parser.add_argument("--cache", help="folder of scores")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(argv)
    found = table(options.adapler, options.data, options.cache)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    found.to_csv(options.output, index=False)
    means = found.pivot_table(index=["split", "dropping", "metric", "method"], columns="layer", values="mean")
    print(means.round(3).to_string())


if __name__ == "__main__":
    main()
