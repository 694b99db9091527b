"""Every metric by name: what it is called in a table, which way is better, which n it uses, and how it is computed.

n tokens (or words) of one document; a `Unit` is one document at one layer of one method

A metric is a row of METRICS at the end of this file. The formula is in the docstring of its pure function, its
`source`. Metrics whose `function` is None need the model once more (`analysis.metrics.faithfulness`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapler.errors import ArgumentError
from analysis.metrics import eraser
from analysis.metrics import faithfulness as fa
from analysis.metrics import plausibility as pl
from analysis.metrics import selection as sel
from analysis.metrics.perturbation.bounds import normalised_aopc
from analysis.metrics.perturbation.soft import soft_comprehensiveness, soft_sufficiency
from analysis.metrics.sparseness import gini
from analysis.metrics.unit import (
    BY_CHANCE,
    CONTENT,
    DENSITY,
    EQUAL_FPR,
    FERRET_K,
    FIXED_SIZE,
    HARD,
    INPUT,
    LEAVE_ONE_OUT,
    MEAN_SIZE,
    NO_SELECTION,
    OWN_SIZE,
    PERCENT,
    PRESENT,
    RANKING,
    Unit,
)

GROUPS = ("ranking", "selection", "eraser", "faithfulness", "soft", "normalised", "sparseness")


@dataclass(frozen=True)
class Metric:
    """One row of METRICS.

    name       on the command line and in every output; title: in tables and on axes
    group      one of GROUPS
    level      which n or k it uses, in words
    source     the pure function that computes it; its docstring has the formula
    function   Unit -> value, NaN where it is not defined; None: needs the model (`analysis.metrics.faithfulness`)
    """

    name: str
    title: str
    group: str
    higher_is_better: bool
    level: str
    source: Callable[..., Any]
    function: Callable[[Unit], float] | None = None

    @property
    def documentation(self) -> str:
        """The docstring of `source`: formula, selection, range, what misleads, reference."""
        return inspect.getdoc(self.source) or ""

    @property
    def needs_rationale(self) -> bool:
        """Whether it compares with a human rationale, or selects as many tokens as one has."""
        return self.uses_density or self.function is not None and self.group != "sparseness"

    @property
    def uses_density(self) -> bool:
        """Whether its value depends on the data set's mean density or size of rationales."""
        return self.uses_size or self.level in (DENSITY, HARD) or self.name.endswith(fa.AT_DENSITY)

    @property
    def uses_size(self) -> bool:
        """Whether it depends on the mean size, which is measured whatever density is asked for."""
        return self.level == MEAN_SIZE


def metric_names(group: str | None = None) -> tuple[str, ...]:
    """All names, or those of one of GROUPS.

    Raises ArgumentError for a group that there is none of.
    """
    if group is not None and group not in GROUPS:
        raise ArgumentError(f"group: got {group!r}, allowed are {', '.join(GROUPS)}")
    return tuple(name for name, metric in METRICS.items() if group in (None, metric.group))


def get_metric(name: str) -> Metric:
    """The metric of that name. Raises ArgumentError with all names for any other."""
    if name not in METRICS:
        raise ArgumentError(f"metric: got {name!r}, allowed are {', '.join(METRICS)}")
    return METRICS[name]


def compute(names: Sequence[str], unit: Unit) -> list[float]:
    """The value of each metric on one document, NaN where it is not defined.

    Raises ArgumentError for an unknown name, for one that needs the model (its `function` is None), and for negative
    scores that are not said to be signed when a selection at 1/n is asked for.
    """
    values = []
    for name in names:
        function = get_metric(name).function
        if function is None:
            raise ArgumentError(f"metric: {name!r} needs the model, see analysis.metrics.faithfulness")
        values.append(float(function(unit)) if len(unit.labels) else math.nan)
    return values


def _average_precision(unit: Unit) -> float:
    # where every token is rationale each ranking is perfect: that says nothing, and ERASER leaves it out too
    return math.nan if unit.labels.all() else pl.average_precision(unit.labels, unit.scores)


def _roc_auc(unit: Unit) -> float:
    return eraser.roc_auc(unit.labels, unit.scores)


def _auprc(unit: Unit) -> float:
    # ERASER gives a document without rationale .5; here it is undefined, as for every other metric
    return eraser.auprc(unit.labels, unit.scores) if unit.labels.any() else math.nan


def _auprc_positive(unit: Unit) -> float:
    # ferret's: a negative score is no evidence for the class, like 0
    return eraser.auprc(unit.labels, np.maximum(unit.scores, 0)) if unit.labels.any() else math.nan


def _at_fpr(percent: int) -> Callable[[Unit], float]:
    return lambda unit: pl.tpr_at_fpr(unit.labels, unit.scores, percent / 100)


def _at(level: str, agreement: Callable[[Any, Any], float]) -> Callable[[Unit], float]:
    """An agreement of the rationale with what is selected at the level 1/n."""
    return lambda unit: math.nan if unit.signed else agreement(unit.labels, unit.selected(level))


def _at_own_size(unit: Unit) -> sel.PrecisionRecallF1:
    k = int(unit.labels.sum())
    nothing = sel.PrecisionRecallF1(math.nan, math.nan, math.nan)
    found = unit.once(OWN_SIZE, lambda: sel.top_k_scores(unit.labels, unit.scores, k) if k else nothing)
    return sel.PrecisionRecallF1(*found)


def _at_density(unit: Unit) -> sel.PrecisionRecallF1:
    found = unit.once(DENSITY, lambda: sel.top_k_scores(unit.labels, unit.scores, _density_size(unit)))
    return sel.PrecisionRecallF1(*found)


def _density_size(unit: Unit) -> int:
    return sel.density_size(unit.density, len(unit.labels))


def _token_f1(unit: Unit) -> float:
    return _at_density(unit).f1 if unit.hard is None else sel.f1_score(unit.labels, unit.hard)


def _iou_f1(unit: Unit) -> float:
    if unit.hard is not None:
        return eraser.iou_f1(unit.labels, unit.hard)
    return eraser.top_k_iou_f1(unit.labels, unit.scores, _density_size(unit), seed=unit.seed)


def _mean_size(unit: Unit) -> int | None:
    return None if math.isnan(unit.size) else max(1, round(unit.size))


def _positive_f1(unit: Unit, k: int | None) -> float:
    return math.nan if k is None else sel.top_k_scores(unit.labels, unit.scores, k, positive_only=True).f1


def _positive_iou(unit: Unit, k: int | None) -> float:
    return math.nan if k is None else sel.top_k_iou(unit.labels, unit.scores, k, positive_only=True)


# fmt: off
METRICS: dict[str, Metric] = {metric.name: metric for metric in (
    Metric("average_precision", "AP", "ranking", True, RANKING, pl.average_precision, _average_precision),
    Metric("roc_auc", "ROC-AUC", "ranking", True, RANKING, eraser.roc_auc, _roc_auc),
    Metric("auprc", "AUPRC (ERASER)", "ranking", True, RANKING, eraser.auprc, _auprc),
    Metric("auprc_positive", "AUPRC (ferret)", "ranking", True, RANKING, eraser.auprc, _auprc_positive),
    Metric("tpr_at_fpr_5", "TPR at 5 % FPR", "ranking", True, EQUAL_FPR, pl.tpr_at_fpr, _at_fpr(5)),
    Metric("tpr_at_fpr_10", "TPR at 10 % FPR", "ranking", True, EQUAL_FPR, pl.tpr_at_fpr, _at_fpr(10)),
    Metric("tpr_at_fpr_20", "TPR at 20 % FPR", "ranking", True, EQUAL_FPR, pl.tpr_at_fpr, _at_fpr(20)),

    Metric("fpr", "FPR (1/n)", "selection", False, INPUT, pl.false_positive_rate, _at(INPUT, pl.false_positive_rate)),
    Metric("tpr", "TPR (1/n)", "selection", True, INPUT, pl.true_positive_rate, _at(INPUT, pl.true_positive_rate)),
    Metric("j", "J (1/n)", "selection", True, INPUT, pl.youden_j, _at(INPUT, pl.youden_j)),
    Metric("precision", "Precision (1/n)", "selection", True, INPUT, sel.precision, _at(INPUT, sel.precision)),
    Metric("f1", "F1 (1/n)", "selection", True, INPUT, sel.f1_score, _at(INPUT, sel.f1_score)),

    Metric("fpr_present", "FPR (1/n present)", "selection", False, PRESENT,
           pl.false_positive_rate, _at(PRESENT, pl.false_positive_rate)),
    Metric("tpr_present", "TPR (1/n present)", "selection", True, PRESENT,
           pl.true_positive_rate, _at(PRESENT, pl.true_positive_rate)),
    Metric("j_present", "J (1/n present)", "selection", True, PRESENT, pl.youden_j, _at(PRESENT, pl.youden_j)),
    Metric("precision_present", "Precision (1/n present)", "selection", True, PRESENT,
           sel.precision, _at(PRESENT, sel.precision)),
    Metric("f1_present", "F1 (1/n present)", "selection", True, PRESENT, sel.f1_score, _at(PRESENT, sel.f1_score)),

    Metric("fpr_content", "FPR (1/n content)", "selection", False, CONTENT,
           pl.false_positive_rate, _at(CONTENT, pl.false_positive_rate)),
    Metric("tpr_content", "TPR (1/n content)", "selection", True, CONTENT,
           pl.true_positive_rate, _at(CONTENT, pl.true_positive_rate)),
    Metric("j_content", "J (1/n content)", "selection", True, CONTENT, pl.youden_j, _at(CONTENT, pl.youden_j)),
    Metric("precision_content", "Precision (1/n content)", "selection", True, CONTENT,
           sel.precision, _at(CONTENT, sel.precision)),
    Metric("f1_content", "F1 (1/n content)", "selection", True, CONTENT, sel.f1_score, _at(CONTENT, sel.f1_score)),

    Metric("precision_at_k", "Precision@k", "selection", True, OWN_SIZE,
           sel.precision, lambda u: _at_own_size(u).precision),
    Metric("recall_at_k", "Recall@k", "selection", True, OWN_SIZE, sel.recall, lambda u: _at_own_size(u).recall),
    Metric("f1_at_k", "F1@k", "selection", True, OWN_SIZE, sel.f1_score, lambda u: _at_own_size(u).f1),
    Metric("precision_at_density", "Precision@density", "selection", True, DENSITY,
           sel.precision, lambda u: _at_density(u).precision),
    Metric("recall_at_density", "Recall@density", "selection", True, DENSITY,
           sel.recall, lambda u: _at_density(u).recall),
    Metric("f1_at_density", "F1@density", "selection", True, DENSITY, sel.f1_score, lambda u: _at_density(u).f1),

    Metric("token_f1", "Token F1", "eraser", True, HARD, sel.f1_score, _token_f1),
    Metric("iou_f1", "IOU F1", "eraser", True, HARD, eraser.iou_f1, _iou_f1),

    Metric("token_f1_at_5", "Token F1@5", "selection", True, FIXED_SIZE,
           sel.f1_score, lambda u: _positive_f1(u, FERRET_K)),
    Metric("token_f1_at_mean", "Token F1@mean size", "selection", True, MEAN_SIZE,
           sel.f1_score, lambda u: _positive_f1(u, _mean_size(u))),
    Metric("token_iou_at_5", "Token IOU@5", "selection", True, FIXED_SIZE,
           sel.token_iou, lambda u: _positive_iou(u, FERRET_K)),
    Metric("token_iou_at_mean", "Token IOU@mean size", "selection", True, MEAN_SIZE,
           sel.token_iou, lambda u: _positive_iou(u, _mean_size(u))),

    Metric("comprehensiveness_1", "Comp. 1 %", "faithfulness", True, PERCENT, fa.comprehensiveness),
    Metric("comprehensiveness_5", "Comp. 5 %", "faithfulness", True, PERCENT, fa.comprehensiveness),
    Metric("comprehensiveness_10", "Comp. 10 %", "faithfulness", True, PERCENT, fa.comprehensiveness),
    Metric("comprehensiveness_20", "Comp. 20 %", "faithfulness", True, PERCENT, fa.comprehensiveness),
    Metric("comprehensiveness_50", "Comp. 50 %", "faithfulness", True, PERCENT, fa.comprehensiveness),
    Metric("comprehensiveness_at_density", "Comp.@density", "faithfulness", True, DENSITY, fa.comprehensiveness),
    Metric("aopc_comprehensiveness", "Comp. AOPC", "faithfulness", True, PERCENT, fa.aopc),
    Metric("sufficiency_1", "Suff. 1 %", "faithfulness", False, PERCENT, fa.sufficiency),
    Metric("sufficiency_5", "Suff. 5 %", "faithfulness", False, PERCENT, fa.sufficiency),
    Metric("sufficiency_10", "Suff. 10 %", "faithfulness", False, PERCENT, fa.sufficiency),
    Metric("sufficiency_20", "Suff. 20 %", "faithfulness", False, PERCENT, fa.sufficiency),
    Metric("sufficiency_50", "Suff. 50 %", "faithfulness", False, PERCENT, fa.sufficiency),
    Metric("sufficiency_at_density", "Suff.@density", "faithfulness", False, DENSITY, fa.sufficiency),
    Metric("aopc_sufficiency", "Suff. AOPC", "faithfulness", False, PERCENT, fa.aopc),
    Metric("loo_kendall", "LOO tau", "faithfulness", True, LEAVE_ONE_OUT, fa.loo_kendall),
    Metric("soft_comprehensiveness", "Soft comp.", "soft", True, BY_CHANCE, soft_comprehensiveness),
    Metric("soft_sufficiency", "Soft suff.", "soft", True, BY_CHANCE, soft_sufficiency),
    Metric("naopc_comprehensiveness", "Comp. NAOPC", "normalised", True, PERCENT, normalised_aopc),
    Metric("naopc_sufficiency", "Suff. NAOPC", "normalised", False, PERCENT, normalised_aopc),

    Metric("sparseness", "Gini", "sparseness", True, NO_SELECTION, gini, lambda u: gini(u.scores)),
)}
# fmt: on
