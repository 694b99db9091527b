"""Windows with their scores -> the units that metrics judge: one window, or a whole document stitched together.

L' layers that have scores; n wordpieces of a window, N of all windows of the unit; U words or content
wordpieces of the unit
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.documents.aggregation import aggregate
from analysis.documents.windows import Window
from analysis.metrics.registry import Unit


@dataclass(frozen=True, eq=False)
class WindowScores:
    """Scores of one method for one window.

    scores       (L', n): float32 from a model, float64 where they were given
    present      (L', n) bool, the tokens that are there at the layer, or None for all
    diagnostics  name -> (L',)
    weight       of the window where several are stitched to one document; None: its share of the wordpieces, n/N
    of_words     every wordpiece carries its whole word's score, so that is the word's score under any aggregation
    """

    scores: NDArray[np.floating[Any]]
    present: NDArray[np.bool_] | None = None
    signed: bool = False
    diagnostics: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    weight: float | None = None
    of_words: bool = False


def group(windows: Sequence[Window], *, policy: str) -> list[list[Window]]:
    """The windows of one document by unit: all in one under "all-windows", else each alone."""
    return [list(windows)] if policy == "all-windows" else [[window] for window in windows]


def unit_labels(windows: Sequence[Window], *, aggregation: str) -> NDArray[np.bool_]:
    """(U,) bool, the human rationale of a unit: of its content wordpieces, or of its words."""
    return _any_piece(windows, [window.rationale for window in windows], aggregation)


def marked_units(windows: Sequence[Window], words: NDArray[np.bool_], *, aggregation: str) -> NDArray[np.bool_]:
    """(U,) bool, the content wordpieces (or words) of a unit that `words` (W,), a mask of the document, marks."""
    pieces = [np.where(window.special, False, words[window.words]) for window in windows]
    return _any_piece(windows, pieces, aggregation)


def _any_piece(windows: Sequence[Window], pieces: Sequence[NDArray[np.bool_]], aggregation: str) -> NDArray[np.bool_]:
    marked = np.concatenate([one[~window.special] for one, window in zip(pieces, windows, strict=True)])
    return marked if aggregation == "none" else np.asarray(aggregate(marked, _words(windows), how="max")[0] > 0)


def is_judged(labels: NDArray[np.bool_], *, all_rationale: bool = False) -> bool:
    """Whether a unit has a rationale, and other tokens too unless `all_rationale` counts those without any."""
    return bool(labels.any() and (all_rationale or not labels.all()))


def why_skipped(units: Sequence[NDArray[np.bool_]], *, all_rationale: bool = False) -> str | None:
    """Why none of a document's units, given by their labels, can be judged; None when one can.

    all_rationale: units whose every token is rationale are judged too, as ERASER's scorer does.
    """
    if any(is_judged(labels, all_rationale=all_rationale) for labels in units):
        return None
    return "nothing but rationale in view" if any(labels.any() for labels in units) else "no rationale in view"


def layer_units(
    windows: Sequence[Window],
    given: Sequence[WindowScores],
    labels: NDArray[np.bool_],
    *,
    aggregation: str,
    density: float = math.nan,
    size: float = math.nan,
    hard: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> tuple[Unit, ...]:
    """One unit at each of the L' layers: the scores of its content wordpieces, or of its words.

    labels: (U,), `unit_labels` of the same windows; density, size, hard, seed: as in `Unit`.

    Windows are stitched with the weight n/N, so that a document with uniform scores has 1/N everywhere. Where tokens
    are gone at a layer, the level "1/n, n = tokens present" is judged on scores stitched with the weight of the tokens
    present instead, by the same reason. Scores of words are the max, mean or sum over wordpieces, divided by what is
    then the sum over words and special tokens: they are shares of the input again, whose uniform level is one over the
    number of both. Signed scores are no shares; they are neither weighted nor divided.
    """
    signed = any(one.signed for one in given)
    how = "max" if aggregation != "none" and all(one.of_words for one in given) else aggregation
    special = np.concatenate([window.special for window in windows])  # (N,)
    present = np.concatenate(
        [np.ones(one.scores.shape, dtype=bool) if one.present is None else one.present for one in given], axis=1
    )  # (L', N)
    total = len(special)
    shares = [np.full(len(one.scores), len(one.scores[0]) / total) for one in given]
    scores = _unit_scores(windows, given, shares, how=how, signed=signed)  # (L', U)
    by_present = None
    if len(given) > 1 and not signed and not present.all():
        counts = np.array(
            [
                np.full(len(one.scores), one.scores.shape[1]) if one.present is None else one.present.sum(1)
                for one in given
            ]
        )  # (windows, L')
        shares = list(counts / np.maximum(counts.sum(0), 1))
        by_present = _unit_scores(windows, given, shares, how=how, signed=signed)
    if aggregation == "none":
        n_input, n_present = total, present.sum(1)
    else:
        words = _words(windows)
        n_input = len(np.unique(words)) + int(special.sum())
        n_present = aggregate(present[:, ~special], words, how="max")[0].sum(1) + present[:, special].sum(1)
    return tuple(
        Unit(
            labels=labels,
            scores=scores[layer],
            n_input=n_input,
            n_present=int(n_present[layer]),
            density=density,
            size=size,
            signed=signed,
            units="token" if aggregation == "none" else "word",
            hard=hard,
            present_scores=None if by_present is None else by_present[layer],
            seed=seed,
        )
        for layer in range(len(scores))
    )


def word_scores(
    windows: Sequence[Window], given: Sequence[WindowScores], *, n_words: int, aggregation: str
) -> NDArray[np.float64]:
    """(L', W) scores of all words of a document, stitched as in `layer_units`.

    A word's score is its wordpieces' aggregate, the highest of them under "none"; a word out of view has the lowest
    score of its document, at most 0.
    """
    total = sum(len(window) for window in windows)
    signed, by_words = any(one.signed for one in given), all(one.of_words for one in given)
    how = "max" if aggregation == "none" or by_words else aggregation
    shares = [np.full(len(one.scores), len(window) / total) for window, one in zip(windows, given, strict=True)]
    by_word = _unit_scores(windows, given, shares, how=how, signed=signed)  # (L', words in view)
    _, first = np.unique(_words(windows), return_index=True)
    kept = _words(windows)[np.sort(first)]  # in the order of `aggregate`
    scores = np.repeat(np.min(by_word, axis=1, initial=0.0)[:, None], n_words, axis=1)
    scores[:, kept] = by_word
    return scores


def _unit_scores(
    windows: Sequence[Window],
    given: Sequence[WindowScores],
    shares: Sequence[NDArray[np.float64]],
    *,
    how: str,
    signed: bool,
) -> NDArray[np.float64]:
    """(L', U) scores of the windows stitched; shares: of each window, the weight (L',) it has if it names none."""
    parts = []
    for one, share in zip(given, shares, strict=True):
        weight = np.ones(len(share)) if signed else share if one.weight is None else np.full(len(share), one.weight)
        parts.append(one.scores.astype(np.float64) * weight[:, None])
    pieces = np.concatenate(parts, axis=1)  # (L', N)
    special = np.concatenate([window.special for window in windows])
    if how == "none":
        return np.asarray(pieces[:, ~special])
    by_word, _ = aggregate(pieces[:, ~special], _words(windows), how=how)
    if not signed:
        mass = by_word.sum(1, keepdims=True) + pieces[:, special].sum(1, keepdims=True)
        by_word = np.divide(by_word, mass, out=by_word, where=mass > 0)
    return by_word


def _words(windows: Sequence[Window]) -> NDArray[np.int64]:
    """Word index of each content wordpiece of a unit."""
    return np.concatenate([window.words[~window.special] for window in windows])
