"""How metrics are called and numbers are written, in tables, pages and figures alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.metrics.registry import METRICS

# the family of `analysis.metrics.statistics`
HOLM_FAMILY = "Holm-adjusted over the metric's cells, random scores and repeated methods left out"
OF_REMOVAL = ("cp", "policy")  # methods whose dropped tokens are not there any more
TITLES = {
    "average_precision": "Average precision",
    "fpr": "FPR",
    "tpr": "TPR",
    "j": "J = TPR - FPR",
    "aopc_comprehensiveness": "Comprehensiveness (AOPC)",
    "aopc_sufficiency": "Sufficiency (AOPC), lower is better",
}
LEVELS = {
    "": "selected at 1/n, n = tokens of the input",
    "_present": "selected at 1/n, n = tokens present at the layer",
    "_content": "selected at 1/n, n = content tokens, scores renormalised over them",
}


def reference_among(methods: Sequence[str]) -> str | None:
    """The method that the others are compared with, `cp` or else `policy`; None where neither is there."""
    return next((method for method in OF_REMOVAL if method in methods), None)


def metric_title(metric: str) -> str:
    """`fpr_content` -> "FPR (selected at 1/n, scores over content tokens only)"."""
    base, _, variant = metric.partition("_")
    level = "_" + variant if variant else ""
    if base in ("fpr", "tpr", "j") and level in LEVELS:
        return f"{TITLES[base]} ({LEVELS[level]})"
    if metric in TITLES:
        return TITLES[metric]
    return METRICS[metric].title if metric in METRICS else metric.replace("_", " ")


def higher_is_better(metric: str) -> bool:
    return METRICS[metric].higher_is_better if metric in METRICS else True


def judges_rationales(metrics: Sequence[str]) -> bool:
    """Whether one of the metrics needs human rationales; of a metric that is not known here it is taken to be so.

    >>> judges_rationales(["aopc_comprehensiveness", "fpr"]), judges_rationales(["aopc_comprehensiveness"])
    (True, False)
    """
    return any(metric not in METRICS or METRICS[metric].needs_rationale for metric in metrics)


def number(value: float | None, decimals: int = 3) -> str:
    """.254, -.031, 1.000; "-" where undefined."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # no "-.000"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
