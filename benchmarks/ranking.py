"""The score of a dropped token, zeroed or carried: AP of human rationales by layer, with and without dropping.

    python -m benchmarks.ranking --data data/eraser/movies --output results/rationales/ranking.csv

Rows: split, dropping (yes, no), method (cp: a dropped token has 0; cp_carried: its last score; saliency), metric,
layer, mean, 95 % bootstrap interval over documents, n, and the same of the difference from saliency.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.rationale_eval import evaluate

METHODS = ("cp", "cp_carried", "saliency")
METRICS = ("average_precision", "roc_auc")
RESAMPLES = 2000


def evaluations(adapler: str | None, data: str | None, cache: str | None) -> pd.DataFrame:
    """A row a value: split, dropping, and those of a report's frame. Without dropping nothing has to be carried, and
    saliency reads the classifier, which drops nothing: only `cp` is computed again."""
    frames = []
    for split in ("val", "test"):
        where: dict[str, Any] = {"adapler": adapler, "split": split, "cache": cache}
        dropping = evaluate(None, data, list(METHODS), list(METRICS), **where).frame
        whole = evaluate(None, data, ["cp"], list(METRICS), threshold_scale=0.0, **where).frame
        saliency = dropping[dropping["method"] == "saliency"]
        without = pd.concat([whole, whole.assign(method="cp_carried"), saliency])
        frames += [dropping.assign(split=split, dropping="yes"), without.assign(split=split, dropping="no")]
    return pd.concat(frames)


def table(values: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (split, dropping), part in values.groupby(["split", "dropping"], sort=False):
        wide = part.pivot_table(index="document", columns=["metric", "method", "layer"], values="value")
        chosen = np.random.default_rng(0).integers(0, len(wide), (RESAMPLES, len(wide)))
        for metric, method, layer in wide.columns:
            own = wide[metric, method, layer].to_numpy()
            difference = own - wide[metric, "saliency", layer].to_numpy()
            row = {"split": split, "dropping": dropping, "method": method, "metric": metric, "layer": layer}
            for name, one in (("", own), ("minus_saliency_", difference)):
                low, high = np.quantile(one[chosen].mean(1), [0.025, 0.975])
                row |= {f"{name}mean": one.mean(), f"{name}low": low, f"{name}high": high}
            rows.append(row | {"n": len(wide)})
    return pd.DataFrame(rows).round(6)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapler", help="an AdapLeR checkpoint; default: the embedded one")
    parser.add_argument("--data", help="a corpus with validation and test split; default: the movies")
    parser.add_argument("--cache", help="folder of scores")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(argv)
    found = table(evaluations(options.adapler, options.data, options.cache))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    found.to_csv(options.output, index=False)
    means = found.pivot_table(index=["split", "dropping", "metric", "method"], columns="layer", values="mean")
    print(means.round(3).to_string())


if __name__ == "__main__":
    main()
