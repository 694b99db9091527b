"""Every metric by name: its title, which way is better, which n it uses, and how it is computed.

n tokens (or words) of one document; a `Unit` is one document at one layer of one method

A metric is a row of METRICS at the end of this file. The formula is in the docstring of its pure function, its
`source`. Metrics whose `function` is None need the model once more (`analysis.metrics.faithfulness`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.metrics import faithfulness as fa
from analysis.metrics import plausibility as pl

GROUPS = ("ranking", "selection", "eraser", "faithfulness", "soft", "normalised", "sparseness")
FERRET_K = 5  # the size of ferret's hard rationale when it explains one text, whatever its length

# Which n, or k, a metric uses: `Metric.level`. Tables and documentation print these words.
RANKING = "order of the content tokens, no n"
EQUAL_FPR = "order of the content tokens, down to a given FPR, no n"
INPUT = "score >= 1/n, n = tokens of the input"
PRESENT = "score >= 1/n, n = tokens present at the layer"
CONTENT = "score >= 1/n, n = content tokens, scores over them alone"
OWN_SIZE = "k best tokens, k = length of the document's rationale"
DENSITY = "k best tokens, k = density · content tokens"
HARD = "the method's hard rationale, else the k best tokens, k = density · content tokens"
FIXED_SIZE = f"k best tokens with a positive score, k = {FERRET_K}"
MEAN_SIZE = "k best tokens with a positive score, k = mean length of a rationale"
PERCENT = "best X % of the content tokens"
LEAVE_ONE_OUT = "each content token alone"
BY_CHANCE = "each content token by chance, by its own score"
NO_SELECTION = "all content tokens, no n"


@dataclass(frozen=True, eq=False)
class Unit:
    """One document at one layer of one method.

    labels          (n,) bool, True in the rationale; special tokens and a query's tokens are left out
    scores          (n,) float64; raw, or shares of the input whose sum is at most 1
    n_input         among how many the uniform level shares the scores out: the real tokens of the input, special ones
                    included (words that are sums of their wordpieces: words and special tokens)
    n_present       the same, for the tokens present at this layer
    density         of the data set: mean share of rationale tokens
    size            of its rationales: mean number of rationale tokens, NaN when it is not known
    signed          scores that may be negative: what is selected at 1/n is not defined for them
    units           "token" or "word"
    hard            (n,) bool, the method's own hard rationale; None when it has none
    present_scores  (n,) float64, scores for the level of the tokens present; None: `scores`. They differ where a
                    document is several windows, each weighted by its share of the tokens present
    seed            of the random order of ties, where there is no closed form
    """

    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    n_input: int
    n_present: int
    density: float
    size: float = math.nan
    signed: bool = False
    units: str = "token"
    hard: NDArray[np.bool_] | None = None
    present_scores: NDArray[np.float64] | None = None
    seed: int = 0
    _selected: dict[str, NDArray[np.bool_]] = field(default_factory=dict, repr=False, init=False)

    def __post_init__(self) -> None:
        for name in ("labels", "scores", "hard", "present_scores"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, (pl.as_scores if "scores" in name else pl.as_labels)(given))
                pl.same_length(name, getattr(self, name), self.labels)

    def selected(self, level: str) -> NDArray[np.bool_]:
        """(n,) bool: the tokens that reach the level INPUT, PRESENT or CONTENT; several metrics share it."""
        if level not in self._selected:
            if level == CONTENT:
                self._selected[level] = pl.select_content(self.scores)
            elif level == INPUT:
                self._selected[level] = pl.select_uniform(self.scores, self.n_input)
            else:
                scores = self.scores if self.present_scores is None else self.present_scores
                self._selected[level] = pl.select_uniform(scores, self.n_present)
        return self._selected[level]


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
        """Whether it depends on the mean size, which is measured whatever density is given."""
        return self.level == MEAN_SIZE


def metric_names(group: str | None = None) -> tuple[str, ...]:
    """All names, or those of one of GROUPS."""
    return tuple(name for name, metric in METRICS.items() if group in (None, metric.group))


def get_metric(name: str) -> Metric:
    """The metric of that name. Raises ArgumentError with all names for any other."""
    if name not in METRICS:
        raise ArgumentError(f"metric: got {name!r}, allowed are {', '.join(METRICS)}")
    return METRICS[name]


def compute(names: Sequence[str], unit: Unit) -> list[float]:
    """The value of each metric on one document, NaN where it is not defined. Raises ArgumentError for an unknown name,
    one that needs the model, and a selection at 1/n of negative scores that are not said to be signed."""
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


def _auprc(unit: Unit, *, positive: bool = False) -> float:
    # ERASER gives a document without rationale .5; here it is undefined, as for every other metric
    # positive is ferret's: a negative score is no evidence for the class, like 0
    scores = np.maximum(unit.scores, 0) if positive else unit.scores
    return pl.auprc(unit.labels, scores) if unit.labels.any() else math.nan


def _tpr_at(unit: Unit, *, percent: int) -> float:
    return pl.tpr_at_fpr(unit.labels, unit.scores, percent / 100)


def _at_level(unit: Unit, *, level: str, agreement: Callable[[Any, Any], float]) -> float:
    return math.nan if unit.signed else agreement(unit.labels, unit.selected(level))


def _size(unit: Unit, level: str) -> int:
    """k of a level; 0 where it is not known."""
    if level == OWN_SIZE:
        return int(unit.labels.sum())
    if level == MEAN_SIZE:
        return 0 if math.isnan(unit.size) else max(1, round(unit.size))
    return FERRET_K if level == FIXED_SIZE else pl.density_size(unit.density, len(unit.labels))


def _at_size(unit: Unit, *, level: str, agreement: Callable[..., float] = pl.top_k_f1) -> float:
    k, positive_only = _size(unit, level), level in (FIXED_SIZE, MEAN_SIZE)
    return agreement(unit.labels, unit.scores, k, positive_only=positive_only) if k else math.nan


def _token_f1(unit: Unit) -> float:
    return _at_size(unit, level=DENSITY) if unit.hard is None else pl.f1_score(unit.labels, unit.hard)


def _iou_f1(unit: Unit) -> float:
    if unit.hard is not None:
        return pl.iou_f1(unit.labels, unit.hard)
    return pl.top_k_iou_f1(unit.labels, unit.scores, _size(unit, DENSITY), seed=unit.seed)


def _rates(suffix: str, words: str, level: str) -> list[Metric]:
    """The rates of what is selected at a level."""
    rates = {
        "fpr": ("FPR", False, pl.false_positive_rate),
        "tpr": ("TPR", True, pl.true_positive_rate),
        "j": ("J", True, pl.youden_j),
        "precision": ("Precision", True, pl.precision),
        "f1": ("F1", True, pl.f1_score),
    }
    if suffix:
        rates = {name: rates[name] for name in ("fpr", "tpr", "j")}
    return [
        Metric(name + suffix, f"{title} ({words})", "selection", up, level, function,
               partial(_at_level, level=level, agreement=function))
        for name, (title, up, function) in rates.items()
    ]  # fmt: skip


def _perturbed(kind: str, short: str, up: bool, source: Callable[..., Any]) -> list[Metric]:
    """Comprehensiveness or sufficiency at every percentage, at the density, and their mean."""
    each = [(str(percent), f"{short} {percent} %", PERCENT) for percent in fa.BINS]
    rows = [Metric(f"{kind}_{mark}", title, "faithfulness", up, level, source)
            for mark, title, level in (*each, (fa.AT_DENSITY, f"{short}@density", DENSITY))]  # fmt: skip
    return [*rows, Metric(f"aopc_{kind}", f"{short} AOPC", "faithfulness", up, PERCENT, fa.aopc)]


# fmt: off
METRICS: dict[str, Metric] = {metric.name: metric for metric in (
    Metric("average_precision", "AP", "ranking", True, RANKING, pl.average_precision, _average_precision),
    Metric("roc_auc", "ROC-AUC", "ranking", True, RANKING, pl.roc_auc, lambda u: pl.roc_auc(u.labels, u.scores)),
    Metric("auprc", "AUPRC (ERASER)", "ranking", True, RANKING, pl.auprc, _auprc),
    Metric("auprc_positive", "AUPRC (ferret)", "ranking", True, RANKING, pl.auprc, partial(_auprc, positive=True)),
    *(Metric(f"tpr_at_fpr_{x}", f"TPR at {x} % FPR", "ranking", True, EQUAL_FPR, pl.tpr_at_fpr,
             partial(_tpr_at, percent=x)) for x in (5, 10, 20)),
    *_rates("", "1/n", INPUT),
    *_rates("_present", "1/n present", PRESENT),
    *_rates("_content", "1/n content", CONTENT),
    Metric("f1_at_k", "F1@k", "selection", True, OWN_SIZE, pl.f1_score, partial(_at_size, level=OWN_SIZE)),
    Metric("f1_at_density", "F1@density", "selection", True, DENSITY, pl.f1_score, partial(_at_size, level=DENSITY)),
    Metric("token_f1", "Token F1", "eraser", True, HARD, pl.f1_score, _token_f1),
    Metric("iou_f1", "IOU F1", "eraser", True, HARD, pl.iou_f1, _iou_f1),
    *(Metric(f"token_{name}_at_{size}", f"Token {title}@{words}", "selection", True, level, source,
             partial(_at_size, level=level, agreement=agreement))
      for name, title, source, agreement in (("f1", "F1", pl.f1_score, pl.top_k_f1),
                                             ("iou", "IOU", pl.token_iou, pl.top_k_iou))
      for size, words, level in (("5", "5", FIXED_SIZE), ("mean", "mean size", MEAN_SIZE))),
    *_perturbed("comprehensiveness", "Comp.", True, fa.comprehensiveness),
    *_perturbed("sufficiency", "Suff.", False, fa.sufficiency),
    Metric("loo_kendall", "LOO tau", "faithfulness", True, LEAVE_ONE_OUT, fa.loo_kendall),
    Metric("soft_comprehensiveness", "Soft comp.", "soft", True, BY_CHANCE, fa.soft_comprehensiveness),
    Metric("soft_sufficiency", "Soft suff.", "soft", True, BY_CHANCE, fa.soft_sufficiency),
    Metric("naopc_comprehensiveness", "Comp. NAOPC", "normalised", True, PERCENT, fa.normalised_aopc),
    Metric("naopc_sufficiency", "Suff. NAOPC", "normalised", False, PERCENT, fa.normalised_aopc),
    Metric("sparseness", "Gini", "sparseness", True, NO_SELECTION, pl.gini, lambda u: pl.gini(u.scores)),
)}
# fmt: on
