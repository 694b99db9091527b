"""One scoring method on one text, judged by the analysis layer: what the comparison shows, as plain values.

n tokens, L' layers that the method scores (1 for a method with a meaning at the input only)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.documents.alignment import align
from analysis.documents.units import layer_units, unit_labels
from analysis.evaluation.cache import ScoreCache
from analysis.evaluation.scoring import Scorer
from analysis.evaluation.settings import Settings
from analysis.metrics.plausibility import expected_average_precision, select_uniform
from analysis.metrics.registry import compute
from analysis.scores import ScoringMethod, get_method, method_names
from app.model.tracing import read_limit
from app.sources.documents import Document

METRICS = ("average_precision", "fpr", "tpr")


@dataclass(frozen=True, eq=False)
class Comparison:
    """
    scores    (L', n); selected (L', n) bool at 1/n, None for signed scores
    retained  (L, n) bool for `cp`, whose model drops tokens, else None
    metrics   METRICS of each layer (L', 3), NaN where not defined
    chance    average precision of random scores; seconds: what the scoring took
    """

    title: str
    scores: NDArray[np.float32]
    selected: NDArray[np.bool_] | None
    retained: NDArray[np.bool_] | None
    signed: bool
    metrics: NDArray[np.float64]
    chance: float
    seconds: float

    def row(self, layer: int) -> int:
        """Which row of the arrays stands for a layer of the model."""
        return layer if len(self.scores) > 1 else 0


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
    known = {str(name): int(index) for name, index in model.config.label2id.items()}
    if "labels" in chosen.needs and document.label not in known:
        raise ArgumentError(f"{chosen.title}: needs the text's gold label, and this text has none")
    window = align(document.example(), tokenizer, max_length=read_limit(model, tokenizer), policy="truncate").windows[0]
    scorer = Scorer(
        model=model.backbone,
        adapler=model,
        tokenizer=tokenizer,
        methods=[chosen],
        settings=Settings(threshold_scale=threshold_scale),
        cache=ScoreCache(None),
    )
    started = time.perf_counter()
    (scored,) = scorer.score([window], [known.get(document.label or "", 0)])
    seconds = time.perf_counter() - started
    given = scored.scores[chosen.key]
    labels = unit_labels([window], aggregation="none")
    units = layer_units([window], [given], labels, aggregation="none")
    rows = range(len(given.scores))
    judged = labels.any() and not labels.all()
    return Comparison(
        title=chosen.title,
        scores=given.scores,
        selected=None if given.signed else np.stack([select_uniform(given.scores[row], len(window)) for row in rows]),
        retained=scored.retention if method == "cp" else None,
        signed=given.signed,
        metrics=np.array(
            [
                compute(METRICS, unit) if judged else [np.nan] * 3
                for unit in units
            ]
        ),
        chance=expected_average_precision(int(labels.sum()), len(labels)) if judged else float("nan"),
        seconds=seconds,
    )
