"""Every metric by name: what it is called in a table, which way is better, and how one document is judged.

n tokens (or words) of one document; a `Unit` is one document at one layer of one method

Metrics whose `function` is None need the model once more (`analysis.metrics.faithfulness`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.metrics import eraser
from analysis.metrics import plausibility as pl
from analysis.metrics import selection as sel
from analysis.metrics.faithfulness import BINS

GROUPS = ("ranking", "selection", "eraser", "faithfulness")
VARIANTS = {"": "1/n", "_present": "1/n present", "_content": "1/n content"}
FERRET_K = 5  # the size of ferret's hard rationale when it explains one text, whatever its length


@dataclass(frozen=True, eq=False)
class Unit:
    """What one document, at one layer, is judged on.

    labels     (n,) bool, True in the rationale; special tokens and a query's tokens are left out
    scores     (n,) float64; raw, or shares of the input whose sum is at most 1
    n_input    among how many the uniform level shares the scores out: the real tokens of the input, special ones
               included (words that are sums of their wordpieces: words and special tokens)
    n_present  the same, for the tokens present at this layer
    density    of the data set: mean share of rationale tokens over its scored documents
    size       of its rationales: mean number of rationale tokens over the same, NaN when it is not known
    signed     scores that may be negative: what is selected at 1/n is not defined for them
    units      "token" or "word"
    """

    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    n_input: int
    n_present: int
    density: float
    size: float = math.nan
    signed: bool = False
    units: str = "token"
    # selections that several metrics share, filled in as they are asked for
    _memo: dict[str, Any] = field(default_factory=dict, repr=False, init=False)

    def __post_init__(self) -> None:
        if self.units not in ("token", "word"):
            raise ArgumentError(f"units: got {self.units!r}, allowed are token, word")
        object.__setattr__(self, "labels", pl.as_labels(self.labels))
        object.__setattr__(self, "scores", pl.as_scores(self.scores))
        pl.same_length("scores", self.scores, self.labels)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """`make()`, computed the first time only."""
        if name not in self._memo:
            self._memo[name] = make()
        return self._memo[name]


@dataclass(frozen=True)
class Metric:
    """name: on the command line and in every output; title: in tables and on axes."""

    name: str
    title: str
    group: str
    higher_is_better: bool
    function: Callable[[Unit], float] | None


def metric_names(group: str | None = None) -> tuple[str, ...]:
    """All names, or those of one group ("ranking", "selection", "eraser", "faithfulness").

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

    Raises ArgumentError for an unknown name, for one that needs the model (group "faithfulness"), and for negative
    scores that are not said to be signed when a selection at 1/n is asked for.
    """
    values = []
    for name in names:
        function = get_metric(name).function
        if function is None:
            raise ArgumentError(f"metric: {name!r} needs the model, see analysis.metrics.faithfulness")
        values.append(float(function(unit)) if len(unit.labels) else math.nan)
    return values


def _roc_auc(unit: Unit) -> float:
    return eraser.roc_auc(unit.labels, unit.scores)


def _auprc(unit: Unit) -> float:
    # ERASER gives a document without rationale .5; here it is undefined, as for every other metric
    return eraser.auprc(unit.labels, unit.scores) if unit.labels.any() else math.nan


def _auprc_positive(unit: Unit) -> float:
    # ferret's: a negative score is no evidence for the class, like 0
    return eraser.auprc(unit.labels, np.maximum(unit.scores, 0)) if unit.labels.any() else math.nan


def _at_uniform(variant: str, rate: Callable[[Any, Any], float]) -> Callable[[Unit], float]:
    def select(unit: Unit) -> NDArray[np.bool_]:
        if variant == "_content":
            return pl.select_content(unit.scores)
        return pl.select_uniform(unit.scores, unit.n_present if variant else unit.n_input)

    def function(unit: Unit) -> float:
        if unit.signed:
            return math.nan
        return rate(unit.labels, unit.once("uniform" + variant, lambda: select(unit)))

    return function


def _at_size(which: str, size: str) -> Callable[[Unit], float]:
    def function(unit: Unit) -> float:
        if size == "k":
            k = int(unit.labels.sum())
        else:
            k = sel.density_size(unit.density, len(unit.labels))
        if k == 0:
            return math.nan
        return float(getattr(unit.once("top_" + size, lambda: sel.top_k_scores(unit.labels, unit.scores, k)), which))

    return function


def _hard(unit: Unit) -> NDArray[np.bool_]:
    k = sel.density_size(unit.density, len(unit.labels))
    return np.asarray(unit.once("hard", lambda: sel.select_top_k(unit.scores, k)))


def _ferret(unit: Unit, k: int) -> NDArray[np.bool_]:
    best = unit.once(f"ferret {k}", lambda: sel.select_top_k(unit.scores, k))
    return np.asarray(best & (unit.scores > 0))


def _at_ferret_s_size(agreement: Callable[[Any, Any], float]) -> Callable[[Unit], float]:
    return lambda unit: agreement(unit.labels, _ferret(unit, FERRET_K))


def _at_mean_size(agreement: Callable[[Any, Any], float]) -> Callable[[Unit], float]:
    def function(unit: Unit) -> float:
        if math.isnan(unit.size):
            return math.nan
        return agreement(unit.labels, _ferret(unit, max(1, round(unit.size))))

    return function


def _build() -> dict[str, Metric]:
    metrics = [
        Metric("average_precision", "AP", "ranking", True, lambda u: pl.average_precision(u.labels, u.scores)),
        Metric("roc_auc", "ROC-AUC", "ranking", True, _roc_auc),
        Metric("auprc", "AUPRC (ERASER)", "ranking", True, _auprc),
        Metric("auprc_positive", "AUPRC (ferret)", "ranking", True, _auprc_positive),
    ]
    rates: tuple[tuple[str, str, bool, Callable[[Any, Any], float]], ...] = (
        ("fpr", "FPR", False, pl.false_positive_rate),
        ("tpr", "TPR", True, pl.true_positive_rate),
        ("j", "J", True, pl.youden_j),
        ("precision", "Precision", True, sel.precision),
        ("f1", "F1", True, sel.f1_score),
    )
    for variant, level in VARIANTS.items():
        for name, title, up, rate in rates:
            function = _at_uniform(variant, rate)
            metrics.append(Metric(name + variant, f"{title} ({level})", "selection", up, function))
    for size, at in (("k", "k"), ("density", "density")):
        for name, title in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")):
            metrics.append(Metric(f"{name}_at_{size}", f"{title}@{at}", "selection", True, _at_size(name, size)))
    metrics += [
        Metric("token_f1", "Token F1", "eraser", True, lambda u: sel.f1_score(u.labels, _hard(u))),
        Metric("iou_f1", "IOU F1", "eraser", True, lambda u: eraser.iou_f1(u.labels, _hard(u))),
    ]
    for name, title, agreement in (("f1", "F1", sel.f1_score), ("iou", "IOU", sel.token_iou)):
        fixed = _at_ferret_s_size(agreement)
        metrics.append(Metric(f"token_{name}_at_{FERRET_K}", f"Token {title}@{FERRET_K}", "selection", True, fixed))
        mean = _at_mean_size(agreement)
        metrics.append(Metric(f"token_{name}_at_mean", f"Token {title}@mean size", "selection", True, mean))
    for name, title, up in (("comprehensiveness", "Comp.", True), ("sufficiency", "Suff.", False)):
        metrics += [Metric(f"{name}_{b}", f"{title} {b} %", "faithfulness", up, None) for b in BINS]
        metrics.append(Metric(f"aopc_{name}", f"{title} AOPC", "faithfulness", up, None))
    metrics.append(Metric("loo_kendall", "LOO tau", "faithfulness", True, None))
    return {metric.name: metric for metric in metrics}


METRICS: dict[str, Metric] = _build()
