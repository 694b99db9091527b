"""A report of random values, with one document that was skipped and one cell that is not defined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.tokens import DocumentScores
from analysis.metrics.faithfulness import BINS
from analysis.metrics.plausibility import RECALL_GRID
from analysis.report import COLUMNS, RationaleReport

METHODS = ("attention", "saliency", "cp", "random", "my_own_100%")
AT_INPUT = ("lime(n_samples=8)", "human")
RATES = tuple(f"{rate}{variant}" for variant in ("", "_present", "_content") for rate in ("fpr", "tpr", "j"))
METRICS = ("average_precision", *RATES)
FAITHFUL = tuple(f"{kind}_{share}" for kind in ("comprehensiveness", "sufficiency") for share in BINS)
N_DOCUMENTS = 5


def report_of(values: NDArray[np.float64], meta: dict[str, Any]) -> RationaleReport:
    """values: (M, L, D, K), NaN where nothing is defined."""
    names = [meta["methods"], range(values.shape[1]), [one["id"] for one in meta["documents"]], meta["metrics"]]
    index = pd.MultiIndex.from_product(names, names=["method", "layer", "document", "metric"])
    frame = pd.DataFrame({"value": values.ravel()}, index=index).dropna().reset_index().assign(unit=0)
    return RationaleReport(frame[list(COLUMNS)], meta | {"n_layers": values.shape[1]})


def make_report(n_layers: int = 4, *, with_adapler: bool = True) -> RationaleReport:
    """Without examples, curves and correlations."""
    values = np.random.default_rng(0).random((len(METHODS), n_layers, N_DOCUMENTS, len(METRICS)))
    values[:, :, 2] = np.nan
    values[0, 0, 0, 0] = np.nan
    documents = [
        {
            "id": f"döc_{i}",
            "label": "POS",
            "prediction": "POS" if i else "NEG",
            "adapler_prediction": "NEG" if with_adapler else None,
            "tokens": 20 + i,
            "content_tokens": 18 + i,
            "rationale_tokens": 3,
            "lengths": list(range(20, 20 - n_layers, -1)) if with_adapler else None,
            "skipped": "no rationale in view" if i == 2 else None,
        }
        for i in range(N_DOCUMENTS)
    ]
    meta: dict[str, Any] = {
        "methods": list(METHODS),
        "metrics": list(METRICS),
        "documents": documents,
        "data": {"name": "films_100%", "checksum": "abc"},
        "split": "test",
        "truncation": "truncate",
        "max_length": 24,
        "density": 0.1 + 0.2,
        "chance_average_precision": 1 / 3,
        "seed": 0,
        "titles": {"cp": "AdapLeR CP"},
    }
    if with_adapler:
        meta["speedup"] = 2.5
    return report_of(values, meta)


def full_report(n_layers: int = 4) -> RationaleReport:
    """Everything that a report can hold: methods at the input only, faithfulness, examples, curves, correlations."""
    rng = np.random.default_rng(1)
    plain = make_report(n_layers)
    methods, metrics = METHODS + AT_INPUT, METRICS + FAITHFUL
    values = rng.random((len(methods), n_layers, N_DOCUMENTS, len(metrics)))
    values[: len(METHODS), ..., : len(METRICS)] = plain.values
    values[:, :, 2] = np.nan
    values[len(METHODS) :, 1:] = np.nan
    curves = {method: np.sort(rng.random((n_layers, len(RECALL_GRID))), axis=1)[:, ::-1].copy() for method in methods}
    errors = {method: 0.1 * rng.random((n_layers, len(RECALL_GRID))) for method in methods}
    correlations = np.stack([np.corrcoef(rng.random((len(methods), 9))) for _ in range(n_layers)])
    correlations[1:, len(METHODS) :] = correlations[1:, :, len(METHODS) :] = np.nan
    examples = (make_example(n_layers), make_example(n_layers, with_retention=False))
    meta = plain.meta | {
        "methods": list(methods),
        "metrics": list(metrics),
        "curves": {method: curve.tolist() for method, curve in curves.items()},
        "curve_errors": {method: error.tolist() for method, error in errors.items()},
        "correlations": correlations.tolist(),
        "examples": [example.to_dict() for example in examples],
        "layerwise": {method: method in METHODS for method in methods},
        "titles": {"cp": "AdapLeR CP", "human": "Human"},
        "aggregation": "none",
        "protocol": "paper",
    }
    return report_of(values, meta)


def make_example(n_layers: int = 4, *, with_retention: bool = True) -> DocumentScores:
    """Ten tokens, `un ##forgettable` and `film` in the rationale; each layer drops the first one that is left."""
    tokens = ("[CLS]", "a", "un", "##forgettable", "film", ".", "<b>x</b>", "$y$", "日", "[SEP]")
    words = np.array([-1, 0, 1, 1, 2, 3, 4, 5, 6, -1])
    rng = np.random.default_rng(2)
    retention = np.ones((n_layers, len(tokens)), dtype=bool)
    for layer in range(n_layers):
        retention[layer:, 1 + layer % 8] = False
    scores = {method: rng.random((n_layers, len(tokens))) for method in ("attention", "saliency", "cp")}
    scores["cp"][1:][~retention[:-1]] = 0
    scores[AT_INPUT[0]] = rng.normal(size=(1, len(tokens)))
    return DocumentScores(
        id="döc_0" if with_retention else "<i>döc</i>",
        tokens=tokens,
        words=words,
        rationale=np.isin(words, (1, 2)),
        scores=scores,
        retention=retention if with_retention else None,
        prediction="POS",
        label="POS",
    )
