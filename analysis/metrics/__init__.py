"""Metrics: pure functions of arrays, validated, undefined cases NaN.

plausibility   agreement with a human rationale: ranking, selection at 1/n, k best tokens, spans; METRICS, the table of
               all metrics by name, and `compute`
faithfulness   comprehensiveness, sufficiency, AOPC and its limits, soft metrics, leave-one-out
"""

from analysis.metrics import faithfulness, plausibility
from analysis.metrics.plausibility import METRICS

__all__ = ["METRICS", "faithfulness", "plausibility"]
