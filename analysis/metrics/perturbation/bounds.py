"""The best and the worst AOPC that any order of a document's tokens can have, and an AOPC between the two.

    n_c content tokens; a set of tokens is a (n_c,) bool array

At most EXACT tokens: all sets are tried. At most SINGLE_STEPS: a beam search takes one token at a time. Longer texts:
at each percentage every token is tried alone on top of those that are taken, and as many as are due are taken at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapler.errors import ArgumentError
from analysis.metrics.perturbation.document import (
    FaithfulnessSettings,
    PerturbedDocument,
    Predict,
    bin_sizes,
    key_of,
)

EXACT = 8
SINGLE_STEPS = 64
WIDTH = 5  # of the beam
Set = NDArray[np.bool_]


def normalised_aopc(value: float, lower: float, upper: float) -> float:
    """Normalised AOPC: where an AOPC lies between the worst and the best that any order of this text's tokens has.

    Formula: (AOPC - lower) / (upper - lower), lower and upper the AOPC of the worst and the best order of the tokens,
        at the same percentages. Found by trying all sets of up to 8 tokens, by beam search (5 sets) up to 64, and above
        that approximately: at each percentage the tokens are ranked by what each of them changes alone, given those
        that are taken already.
    Selection: that of the AOPC.
    Range: 0 to 1 with exact limits; a method can lie outside where the search missed an order. Higher is better for
        `naopc_comprehensiveness`, LOWER for `naopc_sufficiency`. NaN where no order changes anything.
    Misleads: in long texts the limits are too narrow, so that values are too far from 1/2. It costs hundreds (30
        tokens) to thousands (500) of forward passes a document.
    Reference: Edin, Motzfeldt, Christensen, Ruotsalo, Maaloe and Maistro (2025), Normalized AOPC: Fixing Misleading
        Faithfulness Metrics for Feature Attribution Explainability, https://arxiv.org/abs/2408.08137

    >>> normalised_aopc(0.25, 0.0, 0.5)
    0.5
    """
    if math.isnan(value) or not upper - lower > 1e-9:
        return math.nan
    return (value - lower) / (upper - lower)


def aopc_bounds(
    predict: Predict,
    window_ids: ArrayLike,
    content: ArrayLike,
    *,
    kind: str,
    target: int,
    settings: FaithfulnessSettings,
    mask_id: int | None = None,
    usable: int | None = None,
) -> tuple[float, float]:
    """(lower, upper) AOPC of one document, NaN both without content tokens or percentages that count.

    kind: "comprehensiveness" or "sufficiency". usable: tokens that may be taken at most, of scores of which only the
    positive ones are; default: all. See `faithfulness_rows` for the other arguments.
    """
    if kind not in ("comprehensiveness", "sufficiency"):
        raise ArgumentError(f"kind: got {kind!r}, allowed are comprehensiveness, sufficiency")
    document = PerturbedDocument(window_ids, content, settings.variant, mask_id)
    sizes = [size for size in bin_sizes(document.n_content, settings, usable=usable) if size]
    if not sizes:
        return math.nan, math.nan
    drops = _Drops(document, predict, target, taken_away=kind == "comprehensiveness")
    n = document.n_content
    search = _exact if n <= EXACT else _beam if n <= SINGLE_STEPS else _in_blocks
    low, high = -search(drops, n, sizes, -1), search(drops, n, sizes, 1)
    return low / len(sizes), high / len(sizes)


class _Drops:
    """p(x) - p(x without the tokens, or with them alone) of sets of tokens, each predicted once."""

    def __init__(self, document: PerturbedDocument, predict: Predict, target: int, *, taken_away: bool) -> None:
        self.document, self.predict, self.target, self.taken_away = document, predict, target, taken_away
        self.known: dict[bytes, float] = {}

    def of(self, sets: Sequence[Set]) -> NDArray[np.float64]:
        kept = [~one if self.taken_away else one for one in sets]
        if missing := [one for one in kept if key_of(one) not in self.known]:
            self.known |= self.document.probabilities(self.predict, missing, self.target)
        whole = self.known[self.document.everything]
        return np.array([whole - self.known[key_of(one)] for one in kept])


def _exact(drops: _Drops, n: int, sizes: Sequence[int], sign: int) -> float:
    """The highest sum over the sizes of sign * drop along sets that hold each other."""
    steps = sorted(set(sizes))
    best: dict[frozenset[int], float] = {frozenset(): 0.0}
    for size in steps:
        chosen = [frozenset(one) for one in combinations(range(n), size)]
        values = sign * sizes.count(size) * drops.of([_as_set(one, n) for one in chosen])
        best = {
            one: float(value) + max(before for inside, before in best.items() if inside <= one)
            for one, value in zip(chosen, values, strict=True)
        }
    return max(best.values())


def _beam(drops: _Drops, n: int, sizes: Sequence[int], sign: int) -> float:
    """As `_exact`, one token at a time, with the WIDTH sets that promise most."""
    beam: list[tuple[float, Set]] = [(0.0, np.zeros(n, dtype=bool))]
    for size in range(1, max(sizes) + 1):
        children: dict[bytes, tuple[float, Set]] = {}
        for done, one in beam:
            for token in np.flatnonzero(~one):
                child = one.copy()
                child[token] = True
                key = key_of(child)
                if key not in children or children[key][0] < done:
                    children[key] = (done, child)
        values = sign * drops.of([child for _, child in children.values()])
        due, left = sizes.count(size), sum(later > size for later in sizes)
        ranked = sorted(
            (
                (done + due * float(value), left * float(value), index, child)
                for index, ((done, child), value) in enumerate(zip(children.values(), values, strict=True))
            ),
            key=lambda one: (-(one[0] + one[1]), one[2]),
        )
        beam = [(done, child) for done, _, _, child in ranked[:WIDTH]]
    return max(done for done, _ in beam)


def _in_blocks(drops: _Drops, n: int, sizes: Sequence[int], sign: int) -> float:
    """As `_exact`, all tokens of one percentage at once."""
    taken, total = np.zeros(n, dtype=bool), 0.0
    for size in sorted(set(sizes)):
        rest = np.flatnonzero(~taken)
        tried = [taken | _as_set(frozenset([token]), n) for token in rest.tolist()]
        order = np.argsort(-sign * drops.of(tried), kind="stable")
        taken = taken | _as_set(frozenset(rest[order[: size - int(taken.sum())]].tolist()), n)
        total += sign * sizes.count(size) * float(drops.of([taken])[0])
    return total


def _as_set(tokens: frozenset[int], n: int) -> Set:
    found = np.zeros(n, dtype=bool)
    found[list(tokens)] = True
    return found
