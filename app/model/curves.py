"""This text by layer: how well methods agree with the annotator, and how much of the evidence is still read."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from app.model.comparing import METRICS, Comparison
from app.model.tracing import Trace

NAMES = dict(zip(METRICS, ("AP", "FPR", "TPR"), strict=True))
EVIDENCE, OTHERS, TEXT = "evidence", "other words' tokens", "the text's tokens"


def agreement(found: Mapping[str, Comparison], *, layers: int) -> pd.DataFrame:
    """Tidy: method, layer, metric (AP, FPR or TPR), value, n (the tokens that share out the layer's scores, the n of
    1/n); NaN where a metric is not defined. A method with scores of the input has the same at every layer."""
    rows = [
        {
            "method": one.title,
            "layer": layer,
            "metric": name,
            "value": float(one.metrics[one.row(layer), place]),
            "n": int(one.present[one.row(layer)].sum()),
        }
        for one in found.values()
        for layer in range(layers)
        for place, name in enumerate(NAMES.values())
    ]
    return pd.DataFrame(rows, columns=["method", "layer", "metric", "value", "n"])


def alive(trace: Trace) -> pd.DataFrame:
    """Tidy: layer, tokens (EVIDENCE or OTHERS; TEXT without a rationale), share of them that enters the layer, count.
    `trace` has tokens; special ones and those of a query are none of these."""
    content = trace.words >= 0
    rows = []
    evidence, others = content & trace.gold, content & ~trace.gold
    for name, chosen in ((EVIDENCE, evidence), (OTHERS if evidence.any() else TEXT, others)):
        if not chosen.any():
            continue
        for layer in range(trace.layers):
            count = int((trace.enters[layer] & chosen).sum())
            rows.append({"layer": layer, "tokens": name, "share": count / int(chosen.sum()), "count": count})
    return pd.DataFrame(rows, columns=["layer", "tokens", "share", "count"])
