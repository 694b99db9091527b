"""Windows with their scores -> the units that metrics judge: one window, or a whole document stitched together.

L' layers that have scores; n wordpieces of a window, N of all windows of the unit; U words or content
wordpieces of the unit
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.documents.aggregation import aggregate
from analysis.documents.windows import Window
from analysis.metrics.registry import Unit


@dataclass(frozen=True, eq=False)
class WindowScores:
    """Scores of one method for one window.

    scores (L', n) float32; present (L', n) bool, or None for all; diagnostics: name -> (L',).
    """

    scores: NDArray[np.float32]
    present: NDArray[np.bool_] | None = None
    signed: bool = False
    diagnostics: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class UnitScores:
    """What `unit_scores` makes of one unit's windows: scores (L', U), and among how many they are shared out."""

    scores: NDArray[np.float64]
    n_input: int
    n_present: NDArray[np.int64]  # (L',)
    signed: bool

    def at(self, layer: int, labels: NDArray[np.bool_], *, density: float, units: str, size: float = math.nan) -> Unit:
        """The unit of one layer, for `analysis.metrics.registry.compute`."""
        return Unit(
            labels=labels,
            scores=self.scores[layer],
            n_input=self.n_input,
            n_present=int(self.n_present[layer]),
            density=density,
            size=size,
            signed=self.signed,
            units=units,
        )


def group(windows: Sequence[Window], *, policy: str) -> list[list[Window]]:
    """The windows of one document by unit: all in one under "all-windows", else each alone."""
    return [list(windows)] if policy == "all-windows" else [[window] for window in windows]


def unit_labels(windows: Sequence[Window], *, aggregation: str) -> NDArray[np.bool_]:
    """(U,) bool, the human rationale of a unit: of its content wordpieces, or of its words."""
    labels = np.concatenate([window.rationale[~window.special] for window in windows])
    if aggregation == "none":
        return labels
    words = np.concatenate([window.words[~window.special] for window in windows])
    return np.asarray(aggregate(labels, words, how="max")[0] > 0)


def why_skipped(units: Sequence[NDArray[np.bool_]]) -> str | None:
    """Why none of a document's units, given by their labels, can be judged; None when one can."""
    if any(labels.any() and not labels.all() for labels in units):
        return None
    return "nothing but rationale in view" if any(labels.any() for labels in units) else "no rationale in view"


def unit_scores(windows: Sequence[Window], given: Sequence[WindowScores], *, aggregation: str) -> UnitScores:
    """Scores of a unit's content wordpieces, or of its words.

    Windows are stitched with the weight n/N, so that a document with uniform scores has 1/N everywhere. Scores of
    words are the max, mean or sum over wordpieces, divided by what is then the sum over words and special tokens:
    they are shares of the input again, whose uniform level is one over the number of both. Signed scores are no
    shares; they are neither weighted nor divided.
    """
    lengths = [len(window) for window in windows]
    total = sum(lengths)
    signed = any(one.signed for one in given)
    weights = [1.0 if signed else length / total for length in lengths]
    scores = np.concatenate(
        [one.scores.astype(np.float64) * weight for one, weight in zip(given, weights, strict=True)], axis=1
    )  # (L', N)
    special = np.concatenate([window.special for window in windows])  # (N,)
    if all(one.present is None for one in given):
        present = np.ones(scores.shape, dtype=bool)
    else:
        present = np.concatenate(
            [np.ones(one.scores.shape, dtype=bool) if one.present is None else one.present for one in given], axis=1
        )
    if aggregation == "none":
        return UnitScores(scores[:, ~special], total, present.sum(1), signed)
    words = np.concatenate([window.words[~window.special] for window in windows])
    by_word, kept = aggregate(scores[:, ~special], words, how=aggregation)  # (L', U)
    if not signed:
        mass = by_word.sum(1, keepdims=True) + scores[:, special].sum(1, keepdims=True)
        by_word = np.divide(by_word, mass, out=by_word, where=mass > 0)
    words_present = aggregate(present[:, ~special], words, how="max")[0].sum(1).astype(np.int64)
    n_present = words_present + present[:, special].sum(1)
    return UnitScores(by_word, len(kept) + int(special.sum()), n_present, signed)
