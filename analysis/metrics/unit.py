"""What one document is judged on: labels and scores of its tokens at one layer of one method, and the levels at which
tokens are selected.

n tokens (or words) of one document
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.metrics import plausibility as pl

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
    """What one document, at one layer, is judged on.

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
    # selections that several metrics share, filled in as they are asked for
    _memo: dict[str, Any] = field(default_factory=dict, repr=False, init=False)

    def __post_init__(self) -> None:
        if self.units not in ("token", "word"):
            raise ArgumentError(f"units: got {self.units!r}, allowed are token, word")
        object.__setattr__(self, "labels", pl.as_labels(self.labels))
        object.__setattr__(self, "scores", pl.as_scores(self.scores))
        pl.same_length("scores", self.scores, self.labels)
        if self.hard is not None:
            object.__setattr__(self, "hard", pl.as_labels(self.hard, "hard"))
            pl.same_length("hard", self.hard, self.labels)
        if self.present_scores is not None:
            object.__setattr__(self, "present_scores", pl.as_scores(self.present_scores))
            pl.same_length("present_scores", self.present_scores, self.labels)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """`make()`, computed the first time only."""
        if name not in self._memo:
            self._memo[name] = make()
        return self._memo[name]

    def selected(self, level: str) -> NDArray[np.bool_]:
        """(n,) bool: what is selected at the level INPUT, PRESENT or CONTENT. ArgumentError for another level."""
        return np.asarray(self.once(level, lambda: self._select(level)))

    def _select(self, level: str) -> NDArray[np.bool_]:
        if level == INPUT:
            return pl.select_uniform(self.scores, self.n_input)
        if level == PRESENT:
            scores = self.scores if self.present_scores is None else self.present_scores
            return pl.select_uniform(scores, self.n_present)
        if level == CONTENT:
            return pl.select_content(self.scores)
        raise ArgumentError(f"level: got {level!r}, allowed are {INPUT!r}, {PRESENT!r}, {CONTENT!r}")
