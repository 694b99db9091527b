"""Metrics: pure functions of arrays, validated, undefined cases NaN.

plausibility   agreement with a human rationale: ranking, selection at 1/n, k best tokens, spans
faithfulness   comprehensiveness, sufficiency, AOPC and its limits, soft metrics, leave-one-out
registry       all of them by name: METRICS, `compute`; `Unit`: one document at one layer of one method
statistics     intervals, paired tests, Holm; one method against all others
"""

from analysis.metrics.faithfulness import FaithfulnessSettings
from analysis.metrics.plausibility import average_precision, precision_at_recall, roc_auc
from analysis.metrics.registry import METRICS, Metric, Unit, compute, get_metric, metric_names
from analysis.metrics.statistics import bootstrap_intervals, compare, holm, paired_permutation_test

__all__ = [
    "METRICS",
    "FaithfulnessSettings",
    "Metric",
    "Unit",
    "average_precision",
    "bootstrap_intervals",
    "compare",
    "compute",
    "get_metric",
    "holm",
    "metric_names",
    "paired_permutation_test",
    "precision_at_recall",
    "roc_auc",
]
