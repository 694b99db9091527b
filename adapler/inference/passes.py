"""What a run over the examples of a split gives: sums for its score, FLOPs, time; and the same sums of resamples.

Dimensions: E examples, R resamples, K passes over the same examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLOWER = 1.1  # times a smaller scale, which drops less: then something else slowed the pass, and it is timed again
DRAWN_AT_ONCE = 1 << 24  # numbers of a block of resamples

Array = NDArray[np.float64]


def score_parts(predicted: NDArray[Any], gold: NDArray[Any], *, metric: str) -> Array:
    """(E, 2): what is summed over examples; the ratio of the two sums is the score, accuracy or F1 of label 1."""
    if metric == "accuracy":
        return np.stack([predicted == gold, np.ones(len(gold))], axis=1).astype(float)
    hit, said, true = (predicted == 1) & (gold == 1), predicted == 1, gold == 1
    return np.stack([2.0 * hit, said.astype(float) + true], axis=1)  # F1 = 2 tp / (2 tp + fp + fn)


def ratio_of(sums: Array) -> Array:
    """(..., 2) -> (...); 0 where nothing is counted, as the F1 of no positives."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] != 0)


@dataclass(frozen=True)
class Pass:
    """One run over the rows of a split: sums for the score, FLOPs of each example, milliseconds of a text."""

    parts: Array  # (E, 2) numerator and denominator of the score
    flops: Array  # (E,)
    milliseconds: float
    milliseconds_single: float

    @property
    def score(self) -> float:
        """Accuracy, or F1."""
        return float(ratio_of(self.parts.sum(0)))

    def quicker(self, other: Pass) -> Pass:
        """The same pass with the shorter of both times."""
        return replace(
            self,
            milliseconds=min(self.milliseconds, other.milliseconds),
            milliseconds_single=min(self.milliseconds_single, other.milliseconds_single),
        )

    def slowed(self, smaller: Sequence[Pass]) -> bool:
        """Whether it took longer than a pass that drops less, in batches or one by one."""
        return any(
            self.milliseconds > SLOWER * one.milliseconds or self.milliseconds_single > SLOWER * one.milliseconds_single
            for one in smaller
        )


def resampled(passes: Sequence[Pass], *, resamples: int, seed: int) -> Array:
    """(R, K, 3): numerator and denominator of the score, and FLOPs, summed over the same draws of examples."""
    examples = len(passes[0].flops)
    columns = np.concatenate([np.concatenate([one.parts, one.flops[:, None]], axis=1) for one in passes], axis=1)
    random = np.random.default_rng(seed)
    block = max(1, min(resamples, DRAWN_AT_ONCE // examples))
    sums = []
    for begin in range(0, resamples, block):
        number = min(block, resamples - begin)
        counts = random.multinomial(examples, np.full(examples, 1 / examples), size=number)  # (R, E)
        sums.append(counts @ columns)  # (R, K * 3)
    return np.concatenate(sums).reshape(resamples, len(passes), 3)
