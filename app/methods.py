"""One scoring method on one text, judged by the analysis: what the story shows, as plain values.

n tokens, L layers of the model, L' layers that the method scores (1 for a method with a meaning at the input only)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis import explain
from analysis.scores import get_method, method_names
from analysis.scores.contribution import scores_of_removal
from app.documents import Document
from app.tracing import read_limit

METRICS = ("average_precision", "fpr_present", "tpr_present")
FIRST = ("attention", "rollout", "saliency", "cp_carried", "decompx", "cp")  # the story's own, in its order


@dataclass(frozen=True, eq=False)
class Scored:
    """A method's scores of a text.

    Attributes:
        name, title, scope: of the method; scope says what one layer's score means.
        scores: (L', n).
        present: (L', n) bool, the tokens that share out a layer's scores; their number is the n of 1/n.
        selected: (L', n) bool, content tokens with a score of at least 1/n; None for signed scores.
        retained: (L, n) bool, tokens that enter each layer, for a method that scores a model which drops tokens.
        metrics: (L', 3) METRICS of each layer, NaN where not defined.
        chance: average precision of random scores.
    """

    name: str
    title: str
    scope: str
    scores: NDArray[np.float32]
    present: NDArray[np.bool_]
    selected: NDArray[np.bool_] | None
    retained: NDArray[np.bool_] | None
    metrics: NDArray[np.float64]
    chance: float

    def said(self, row: int) -> list[str]:
        """Description of a layer: its scores, and their agreement with the marked words."""
        n = int(self.present[row].sum())
        whose = "with removal" if self.retained is not None else "without removal"
        precision, fpr, tpr = self.metrics[row]
        judged = [f"AP {precision:.2f} (chance {self.chance:.2f})"] if not math.isnan(precision) else []
        judged += [f"FPR {fpr:.2f}, TPR {tpr:.2f} at 1/n"] if not math.isnan(fpr) else []
        return [f"{self.scope}, {whose}, n = {n}", " \N{MIDDLE DOT} ".join(judged) or "no rationale to judge by"]


def names() -> tuple[str, ...]:
    """Methods of a few passes; those of thousands are for `analysis.explain`, whoever waits at a page does not."""
    quick = [name for name in method_names() if get_method(name).cost[:1].isdigit() or get_method(name).cost == "none"]
    return (*FIRST, *(name for name in quick if name not in FIRST))


def titles() -> dict[str, str]:
    return {name: get_method(name).title for name in names()}


def distinct(model: Any, chosen: Sequence[str]) -> list[str]:
    """Methods without duplicates: for a model with another policy, "cp" is that policy's own score."""
    computed = ["cp" if name == scores_of_removal(model) else name for name in chosen]
    return [name for place, name in enumerate(chosen) if computed[place] not in computed[:place]]


def score(model: Any, tokenizer: Any, document: Document, name: str, *, threshold_scale: float, dtype: str) -> Scored:
    """Score a document that fits into the model's input, and judge the scores by its rationale, if it has one.

    Args:
        model: AdapLeRForSequenceClassification in float32; left as found.
        dtype: of the pass that drops tokens; methods that score the model without removal are in float32.

    Raises:
        ArgumentError: a method that this document or model cannot be scored with.
    """
    method = scores_of_removal(model) if name == "cp" else name
    chosen = get_method(method)
    labels = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    gold = document.gold_index(labels)
    if chosen.needs_labels and gold is None:
        raise ArgumentError(f"{chosen.title}: needs the text's gold label, and this text has none that the model knows")
    words = list(document.words)
    explained = explain(
        (words, document.query) if document.query else words,
        model=model,
        tokenizer=tokenizer,
        methods=[method],
        gold=None if gold is None else labels[gold],
        rationale=document.rationale.tolist(),
        max_length=read_limit(model, tokenizer),
        threshold_scale=threshold_scale,
        dtype=dtype if "adapler" in chosen.needs else "float32",
        name=document.name,
    )
    found = explained.methods[chosen.key]
    judged = explained.metrics(metrics=METRICS)
    content = ~explained.window.special
    selected = found.selected()
    decided = np.any(found.scores != 0, axis=1) | (not found.of_removal)  # (L',)
    return Scored(
        name=name,
        title=found.title,
        scope=found.scope,
        scores=found.scores,
        present=np.ones(found.scores.shape, dtype=np.bool_) if found.present is None else found.present,
        selected=None if selected is None else selected & content,
        retained=explained.kept if found.of_removal else None,
        metrics=np.where(decided[:, None], judged[list(METRICS)].to_numpy(dtype=np.float64), np.nan),
        chance=float(judged["chance"].iloc[0]),
    )
