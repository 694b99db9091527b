"""Metrics: pure functions of arrays, validated, undefined cases NaN.

plausibility   average precision, selection at 1/n, FPR, TPR, J, TPR at equal FPR
selection      precision, recall, F1, IOU of tokens; top k, ties in the mean
eraser         ERASER's AUPRC, ROC-AUC, IOU F1 of a document
eraser_scorer  what ERASER's official scorer prints of a data set, `eraser_scores`
faithfulness   comprehensiveness, sufficiency, AOPC, leave-one-out
curves         interpolated precision at a grid of recalls
perturbation   texts with tokens taken away: soft metrics, limits of an AOPC
sparseness     Gini coefficient
unit           what one document is judged on
registry       all of them by name: METRICS, `compute`
statistics     intervals, paired tests, Holm
comparison     one method against all others, effect sizes, several runs merged
"""

from analysis.metrics.comparison import compare, effect_size, merge_runs
from analysis.metrics.curves import RECALL_GRID, precision_at_recall
from analysis.metrics.eraser import auprc, contiguous_spans, iou_f1, roc_auc, top_k_iou_f1
from analysis.metrics.eraser_scorer import EraserScores, SpanDocument, eraser_scores
from analysis.metrics.faithfulness import (
    FaithfulnessSettings,
    aopc,
    comprehensiveness,
    leave_one_out,
    loo_kendall,
    sufficiency,
)
from analysis.metrics.plausibility import (
    average_precision,
    density,
    expected_average_precision,
    false_positive_rate,
    select_content,
    select_uniform,
    tpr_at_fpr,
    true_positive_rate,
    youden_j,
)
from analysis.metrics.registry import METRICS, Metric, compute, get_metric, metric_names
from analysis.metrics.selection import (
    density_size,
    f1_score,
    precision,
    recall,
    select_top_k,
    token_iou,
    top_k_iou,
    top_k_scores,
)
from analysis.metrics.statistics import bootstrap_intervals, holm, paired_permutation_test
from analysis.metrics.unit import Unit

# The function `faithfulness` has the name of its module: from analysis.metrics.faithfulness import faithfulness
__all__ = [
    "METRICS",
    "RECALL_GRID",
    "EraserScores",
    "FaithfulnessSettings",
    "Metric",
    "SpanDocument",
    "Unit",
    "aopc",
    "auprc",
    "average_precision",
    "bootstrap_intervals",
    "compare",
    "comprehensiveness",
    "compute",
    "contiguous_spans",
    "density",
    "density_size",
    "effect_size",
    "eraser_scores",
    "expected_average_precision",
    "f1_score",
    "false_positive_rate",
    "get_metric",
    "holm",
    "iou_f1",
    "leave_one_out",
    "loo_kendall",
    "merge_runs",
    "metric_names",
    "paired_permutation_test",
    "precision",
    "precision_at_recall",
    "recall",
    "roc_auc",
    "select_content",
    "select_top_k",
    "select_uniform",
    "sufficiency",
    "token_iou",
    "top_k_iou",
    "top_k_iou_f1",
    "top_k_scores",
    "tpr_at_fpr",
    "true_positive_rate",
    "youden_j",
]
