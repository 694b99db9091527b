"""Names of metrics and formats of numbers in tables, pages and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.metrics.registry import METRICS

OF_REMOVAL = ("cp", "policy")  # the scores by which a model drops tokens: among dropped tokens they have no order
# the family of `analysis.metrics.statistics`
HOLM_FAMILY = "Holm-adjusted over the metric's cells, random scores and repeated methods left out"
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


def metric_title(metric: str) -> str:
    """`fpr_present` -> "FPR (selected at 1/n, n = tokens present at the layer)"."""
    base, sign, variant = metric.partition("_")
    if base in ("fpr", "tpr", "j") and sign + variant in LEVELS:
        return f"{TITLES[base]} ({LEVELS[sign + variant]})"
    return TITLES.get(metric) or (METRICS[metric].title if metric in METRICS else metric.replace("_", " "))


def higher_is_better(metric: str) -> bool:
    return METRICS[metric].higher_is_better if metric in METRICS else True


def judges_rationales(metrics: Sequence[str]) -> bool:
    """Whether one of the metrics needs human rationales; an unknown metric is taken to need them."""
    return any(metric not in METRICS or METRICS[metric].needs_rationale for metric in metrics)


def number(value: float | None, decimals: int = 3) -> str:
    """.254, -.031, 1.000; "-" where undefined."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # no "-.000"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
