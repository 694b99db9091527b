"""Metrics: pure functions of arrays, validated, undefined cases NaN.

plausibility   agreement with a human rationale: ranking, selection at 1/n, k best tokens, spans; METRICS, the table of
               all metrics by name, and `compute`
faithfulness   comprehensiveness, sufficiency, AOPC and its limits, soft metrics, leave-one-out
"""

from analysis.metrics.faithfulness import FaithfulnessSettings
from analysis.metrics.plausibility import (
    METRICS,
    Metric,
    Unit,
    average_precision,
    compute,
    get_metric,
    metric_names,
    precision_at_recall,
    roc_auc,
)

__all__ = [
    "METRICS",
    "FaithfulnessSettings",
    "Metric",
    "Unit",
    "average_precision",
    "compute",
    "get_metric",
    "metric_names",
    "precision_at_recall",
    "roc_auc",
]
