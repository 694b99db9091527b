"""One scoring method on one text, judged by the analysis layer: what the comparison shows, as plain values.

n tokens, L' layers that the method scores (1 for a method with a meaning at the input only)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.documents.alignment import align
from analysis.documents.units import unit_labels, unit_scores, why_skipped
from analysis.evaluation.cache import ScoreCache
from analysis.evaluation.scoring import Scorer
from analysis.evaluation.settings import Settings
from analysis.metrics.plausibility import expected_average_precision, select_uniform
from analysis.metrics.registry import compute
from analysis.scores import ScoringMethod, get_method, method_names
from app.model.tracing import read_limit
from app.sources import labels
from app.sources.documents import Document

# Among the tokens present at the layer: for every method but AdapLeR's, these are all tokens of the input.
METRICS = ("average_precision", "fpr_present", "tpr_present")


@dataclass(frozen=True, eq=False)
class Comparison:
    """
    scores     (L', n)
    present    (L', n) bool, the tokens that share out a layer's scores; their number is the n of 1/n
    content    (n,) bool, the text's own tokens, without special ones and the query's: these are judged
    selected   (L', n) bool, content tokens with a score of at least 1/n; None for signed scores
    retained   (L, n) bool, tokens that enter each layer, for a method that scores a model which drops tokens
    layerwise  False: the scores are of the input, and row 0 stands for every layer
    metrics    METRICS of each layer (L', 3), NaN where not defined; unjudged: why all are NaN, None otherwise
    chance     average precision of random scores
    """

    title: str
    scores: NDArray[np.float32]
    present: NDArray[np.bool_]
    content: NDArray[np.bool_]
    selected: NDArray[np.bool_] | None
    retained: NDArray[np.bool_] | None
    layerwise: bool
    metrics: NDArray[np.float64]
    unjudged: str | None
    chance: float

    @property
    def signed(self) -> bool:
        """Whether a score may be negative: a selection at 1/n is then not defined."""
        return self.selected is None

    def row(self, layer: int) -> int:
        """Which row of the arrays stands for a layer of the model."""
        return layer if self.layerwise else 0


def names() -> tuple[str, ...]:
    """Every registered method: those of the paper first."""
    first = ("cp", "saliency", "attention", "attention_received", "rollout", "random")
    return (*first, *(name for name in method_names() if name not in first))


def is_dear(method: ScoringMethod) -> bool:
    """Whether it takes more passes than can be counted on one hand: its cost then starts with a letter, as in
    `n_samples forwards`."""
    return not (method.cost[:1].isdigit() or method.cost == "none")


def compare(model: Any, tokenizer: Any, document: Document, method: str, *, threshold_scale: float = 1.0) -> Comparison:
    """Score a document that fits into the model's input, and judge the scores by its rationale, if it has one.

    model: AdapLeRForSequenceClassification; left as found.
    Raises ArgumentError for an unknown method, and for one that needs a gold label where there is none.
    """
    chosen = get_method(method)
    gold = gold_index(model, document)
    if "labels" in chosen.needs and gold is None:
        raise ArgumentError(f"{chosen.title}: needs the text's gold label, and this text has none that the model knows")
    window = align(
        document.example(),
        tokenizer,
        max_length=read_limit(model, tokenizer),
        policy="truncate",
        with_query=bool(document.query),
    ).windows[0]
    scorer = Scorer(
        model=model.backbone,
        adapler=model,
        tokenizer=tokenizer,
        methods=[chosen],
        settings=Settings(threshold_scale=threshold_scale),
        cache=ScoreCache(None),
    )
    (scored,) = scorer.score([window], [gold or 0])
    given = scored.scores[chosen.key]
    marked = unit_labels([window], aggregation="none")
    unit = unit_scores([window], [given], aggregation="none")
    rows = range(len(given.scores))
    content = ~window.special
    selected = None
    if not given.signed:
        selected = np.stack([select_uniform(given.scores[row], int(unit.n_present[row])) & content for row in rows])
    unjudged = _unjudged(marked)
    metrics = np.full((len(given.scores), len(METRICS)), np.nan)
    if unjudged is None:
        metrics[:] = [compute(METRICS, unit.at(row, marked, density=0.0, units="token")) for row in rows]
    drops = "adapler" in chosen.needs
    return Comparison(
        title=chosen.title,
        scores=given.scores,
        present=np.ones(given.scores.shape, dtype=np.bool_) if given.present is None else given.present,
        content=content,
        selected=selected,
        retained=scored.retention if drops else None,
        layerwise=chosen.layerwise,
        metrics=metrics,
        unjudged=unjudged,
        chance=expected_average_precision(int(marked.sum()), len(marked)) if unjudged is None else float("nan"),
    )


def gold_index(model: Any, document: Document) -> int | None:
    """The model's class of a document's gold label, None where it has none."""
    if document.label is None:
        return None
    classes = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    return labels.match(document.label, classes, known=document.labels).index


def _unjudged(marked: NDArray[np.bool_]) -> str | None:
    """Why a rationale judges nothing. (U,) bool: the text's tokens in it."""
    if why_skipped([marked]) is None:
        return None
    if marked.any():
        return "every word is marked: there is no other to tell them from"
    return "no rationale to judge by"
