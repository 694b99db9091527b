"""One scoring method on one text, judged by the analysis layer: what the comparison shows, as plain values.

n tokens, L layers of the model, L' layers that the method scores (1 for a method with a meaning at the input only)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis import explain
from analysis.explanation import Explanation
from analysis.scores import ScoringMethod, get_method, method_names
from analysis.scores.contribution import scores_of_removal
from analysis.scores.perturbation import samples_for
from app.model.tracing import read_limit
from app.sources import labels
from app.sources.documents import Document

# Among the tokens present at the layer: for every method but AdapLeR's, these are all tokens of the input.
METRICS = ("average_precision", "fpr_present", "tpr_present")


@dataclass(frozen=True, eq=False)
class Comparison:
    """
    scope      what one layer's score means, one of `analysis.scores.SCOPES`
    target     whose logit is explained, None for a method that explains none
    scores     (L', n)
    present    (L', n) bool, the tokens that share out a layer's scores; their number is the n of 1/n
    content    (n,) bool, the text's own tokens, without special ones and the query's: these are judged
    selected   (L', n) bool, content tokens with a score of at least 1/n; None for signed scores
    retained   (L, n) bool, tokens that enter each layer, for a method that scores a model which drops tokens
    layerwise  False: the scores are of the input, and row 0 stands for every layer
    metrics    METRICS of each layer (L', 3), NaN where not defined; unjudged: why all are NaN, None otherwise
    chance     average precision of random scores
    diagnostics  name -> (L',), what the method says about its own result
    """

    title: str
    scope: str
    target: str | None
    scores: NDArray[np.float32]
    present: NDArray[np.bool_]
    content: NDArray[np.bool_]
    selected: NDArray[np.bool_] | None
    retained: NDArray[np.bool_] | None
    layerwise: bool
    metrics: NDArray[np.float64]
    unjudged: str | None
    chance: float
    diagnostics: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def signed(self) -> bool:
        """Whether a score may be negative: a selection at 1/n is then not defined."""
        return self.selected is None

    def row(self, layer: int) -> int:
        """Which row of the arrays stands for a layer of the model."""
        return layer if self.layerwise else 0

    def is_scored(self, layer: int) -> bool:
        """False where a removal policy decides nothing, and gives 0 to every token."""
        return self.retained is None or bool(self.scores[self.row(layer)].any())


def names() -> tuple[str, ...]:
    """Every registered method: those of the paper first."""
    first = ("cp", "saliency", "attention", "attention_received", "rollout", "random")
    return (*first, *(name for name in method_names() if name not in first))


def titles() -> dict[str, str]:
    """name -> title, in the order of `names`."""
    return {name: get_method(name).title for name in names()}


def stands_for(adapler: Any, method: str) -> str:
    """The method that is computed: of a model with another policy, "cp" is that policy's own scores."""
    return scores_of_removal(adapler) if method == "cp" else method


def distinct(adapler: Any, methods: Sequence[str]) -> list[str]:
    """The methods in their order, without those whose scores another one before them stands for."""
    computed = [stands_for(adapler, method) for method in methods]
    return [method for place, method in enumerate(methods) if computed[place] not in computed[:place]]


def is_dear(method: ScoringMethod) -> bool:
    """Whether it takes more passes than can be counted on one hand: its cost then starts with a letter, as in
    `n_samples forwards`."""
    return not (method.cost[:1].isdigit() or method.cost == "none")


def cost_of(method: ScoringMethod, *, tokens: int, layers: int) -> str:
    """`method.cost` in numbers, for a text of so many tokens, special ones not counted: "about 2,268 passes".

    >>> cost_of(get_method("lime"), tokens=110, layers=6), cost_of(get_method("saliency"), tokens=110, layers=6)
    ('about 2,268 forward passes', '1 forward + backward')
    """
    if not is_dear(method):
        return method.cost
    passes = passes_of(method, tokens=tokens, layers=layers)
    return f"about {passes:,} " + ("passes forward and back" if "backward" in method.cost else "forward passes")


def passes_of(method: ScoringMethod, *, tokens: int, layers: int) -> int:
    """How often a dear method goes through the model."""
    known: dict[str, Any] = {"n": tokens, "L": layers, **method.options}
    if known.get("n_samples") == "auto":
        known["n_samples"] = samples_for("auto", tokens)
    factors = re.findall(r"\w+", method.cost.partition(" forward")[0].replace(" x ", " "))
    return int(np.prod([int(known[factor]) for factor in factors]))


def rank_table(found: Mapping[str, Comparison], group: Sequence[int], *, layers: int) -> pd.DataFrame:
    """A row for each method: its title, and for each layer the rank of a token among those that share out the
    layer's scores, 1 for the highest; of several tokens, a word's, the best one's. <NA> where none of them is
    present, or none is scored."""
    rows = []
    for one in found.values():
        row: dict[str, Any] = {"method": one.title}
        for layer in range(layers):
            at = one.row(layer)
            there = [token for token in group if one.present[at, token] and one.is_scored(layer)]
            scores = one.scores[at][one.present[at]]
            best = max((float(one.scores[at, token]) for token in there), default=None)
            row[f"layer {layer}"] = None if best is None else f"{1 + int((scores > best).sum())} of {len(scores)}"
        rows.append(row)
    return pd.DataFrame(rows)


def compare(
    model: Any,
    tokenizer: Any,
    document: Document,
    method: str,
    *,
    threshold_scale: float = 1.0,
    dtype: str = "float32",
) -> Comparison:
    """Score a document that fits into the model's input, and judge the scores by its rationale, if it has one.

    model: AdapLeRForSequenceClassification in float32; left as found. dtype: of its own pass, where the method scores
    that; methods that score the model without removal are in float32, since rounding changes them visibly.
    Raises ArgumentError for an unknown method, and for one that needs a gold label where there is none.
    """
    method = stands_for(model, method)
    chosen = get_method(method)
    gold = gold_index(model, document)
    if chosen.needs_labels and gold is None:
        raise ArgumentError(f"{chosen.title}: needs the text's gold label, and this text has none that the model knows")
    words = list(document.words)
    explained = explain(
        words,
        query=document.query or "",
        model=model,
        tokenizer=tokenizer,
        methods=[method],
        gold=None if gold is None else str(model.config.id2label[gold]),  # as a number it may be another's name
        rationale=document.rationale.tolist(),
        max_length=read_limit(model, tokenizer),
        threshold_scale=threshold_scale,
        dtype=dtype if "adapler" in chosen.needs else "float32",
        name=document.name,
    )
    found = explained.methods[chosen.key]
    judged = explained.metrics(metrics=METRICS)
    content = ~explained.window.special
    selected = found.selected(present=True)
    present = np.ones(found.scores.shape, dtype=np.bool_) if found.present is None else found.present  # (L', N)
    decided = np.any(found.scores != 0, axis=1) | (not found.of_removal)  # (L',)
    return Comparison(
        title=found.title,
        scope=found.scope,
        target=found.target,
        scores=found.scores,
        present=present,
        content=content,
        selected=None if selected is None else selected & content,
        retained=explained.kept if found.of_removal else None,
        layerwise=found.layerwise,
        metrics=np.where(decided[:, None], judged[list(METRICS)].to_numpy(dtype=np.float64), np.nan),
        unjudged=_unjudged(explained),
        chance=float(judged["chance"].iloc[0]),
        diagnostics=found.diagnostics,
    )


def gold_index(model: Any, document: Document) -> int | None:
    """The model's class of a document's gold label, None where it has none."""
    if document.label is None:
        return None
    classes = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    return labels.match(document.label, classes, known=document.labels).index


def _unjudged(explained: Explanation) -> str | None:
    """Why a rationale judges nothing, None where it judges."""
    if explained.undefined() is None:
        return None
    read = explained.word_ids[~explained.window.special]
    if explained.word_mask()[read].any():
        return "every word is marked: there is no other to tell them from"
    return "no rationale to judge by"
