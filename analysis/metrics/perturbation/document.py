"""A document with some of its content tokens taken away, and which ones those are.

    n wordpieces of the input, n_c of them content (neither special nor of a query); C classes

Tokens are "delete"d, or replaced by the mask token. Nothing here knows a model: `predict` gets a list of id arrays,
all inputs of a document in one call, and returns their (len, C) probabilities.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import as_labels
from analysis.metrics.selection import density_size

BINS = (1, 5, 10, 20, 50)
AT_DENSITY = "at_density"  # instead of a percentage: as many tokens as a rationale has on average
VARIANTS = ("delete", "mask")

Ids = NDArray[np.int64]
Predict = Callable[[list[Ids]], ArrayLike]


@dataclass(frozen=True)
class FaithfulnessSettings:
    """How tokens are taken away.

    variant        "delete", or "mask" to leave the tokenizer's mask token in their place
    bins           percentages of the content tokens
    rounding       "up": ceil(X % of n_c), so at least 1; "down": floor, and a bin of no token, or of the same
                   tokens as the one before, is left out of the AOPC (ferret)
    positive_only  never take a token whose score is not above 0 (ferret)
    density        mean share of rationale tokens in the data set, for `..._at_density`; None leaves those undefined
    seed           of the order of tokens with equal scores
    """

    variant: str = "delete"
    bins: tuple[int, ...] = BINS
    rounding: str = "up"
    positive_only: bool = False
    density: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ArgumentError(f"variant: got {self.variant!r}, allowed are {', '.join(VARIANTS)}")
        if self.rounding not in ("up", "down"):
            raise ArgumentError(f"rounding: got {self.rounding!r}, allowed are up, down")
        if not self.bins or not all(0 < percent <= 100 for percent in self.bins):
            raise ArgumentError(f"bins: got {self.bins}, must be percentages over 0 and at most 100")
        if self.density is not None and not 0 <= self.density <= 1:
            raise ArgumentError(f"density: got {self.density}, must be between 0 and 1")

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that `faithfulness` computes, in its order."""
        marks = (*map(str, self.bins), AT_DENSITY)
        each = [f"{kind}_{mark}" for kind in ("comprehensiveness", "sufficiency") for mark in marks]
        return (*each, "aopc_comprehensiveness", "aopc_sufficiency")


class PerturbedDocument:
    """The input, and its versions with only some content tokens kept."""

    def __init__(self, window_ids: ArrayLike, content: ArrayLike, variant: str, mask_id: int | None) -> None:
        self.ids = np.asarray(window_ids, dtype=np.int64)
        inside = as_labels(content, "content")
        if self.ids.shape != inside.shape:
            raise ArgumentError(f"content: {len(inside)} tokens, window_ids have shape {self.ids.shape}")
        if variant == "mask" and mask_id is None:
            raise ArgumentError("mask_id: got None, variant 'mask' needs the tokenizer's mask token")
        self.places = np.flatnonzero(inside)  # (n_c,)
        self.n_content = len(self.places)
        self.mask_id = mask_id if variant == "mask" else None
        self.everything = key_of(np.ones(self.n_content, dtype=bool))

    def tie_order(self, seed: int, words: ArrayLike | None) -> NDArray[np.int64]:
        """(n_c,) the place of each token among tokens of the same score; tokens of one word stand together."""
        groups = np.arange(self.n_content) if words is None else np.asarray(words)
        if groups.shape != (self.n_content,):
            raise ArgumentError(f"words: got shape {groups.shape}, must be ({self.n_content} content tokens,)")
        _, inverse = np.unique(groups, return_inverse=True)
        shuffled = np.random.default_rng([seed, zlib.crc32(self.ids.tobytes())]).permutation(int(inverse.max()) + 1)
        order = np.lexsort((np.arange(self.n_content), shuffled[inverse]))
        places = np.empty(self.n_content, dtype=np.int64)
        places[order] = np.arange(self.n_content)
        return places

    def keeping(self, kept: NDArray[np.bool_]) -> Ids:
        """The input with the content tokens of `kept` (n_c,) only."""
        gone = self.places[~kept]
        if self.mask_id is None:
            return np.delete(self.ids, gone)
        ids = self.ids.copy()
        ids[gone] = self.mask_id
        return ids

    def probabilities(self, predict: Predict, kept: Sequence[NDArray[np.bool_]], target: int) -> dict[bytes, float]:
        """p(target) of the whole input and of each version, each predicted once, in one call."""
        versions = {self.everything: np.ones(self.n_content, dtype=bool)} | {key_of(one): one for one in kept}
        inputs = [self.keeping(one) for one in versions.values()]
        output = np.asarray(predict(inputs), dtype=np.float64)  # (len, C)
        if output.ndim != 2 or len(output) != len(inputs):
            raise ArgumentError(f"predict: returned shape {output.shape} for {len(inputs)} inputs, must be (inputs, C)")
        if not 0 <= target < output.shape[1]:
            raise ArgumentError(f"target: got {target}, the model has {output.shape[1]} classes")
        return dict(zip(versions, output[:, target].tolist(), strict=True))


def key_of(kept: NDArray[np.bool_]) -> bytes:
    return np.packbits(kept).tobytes()


def best_sets(
    scores: NDArray[np.float64], tie_order: NDArray[np.int64], settings: FaithfulnessSettings
) -> list[NDArray[np.bool_] | None]:
    """The tokens of each bin (n_c,), and at last of the density; None for a set that does not count."""
    order = np.lexsort((tie_order, -scores))
    usable = int((scores > 0).sum()) if settings.positive_only else len(scores)

    def best(size: int) -> NDArray[np.bool_] | None:
        chosen = np.zeros(len(scores), dtype=bool)
        chosen[order[: min(size, usable)]] = True
        return chosen if chosen.any() else None

    sets = [None if size is None else best(size) for size in bin_sizes(len(scores), settings, usable=usable)]
    sets.append(None if settings.density is None else best(density_size(settings.density, len(scores))))
    return sets


def bin_sizes(n_content: int, settings: FaithfulnessSettings, *, usable: int | None = None) -> list[int | None]:
    """How many of n_c tokens each bin takes, at most `usable`; None for a bin that does not count."""
    most = n_content if usable is None else usable
    sizes: list[int | None] = []
    before = 0
    for percent in settings.bins:
        share = percent * n_content / 100
        # percent · n is exact for whole percentages; the margin is for others
        size = min(math.ceil(share - 1e-9) if settings.rounding == "up" else math.floor(share + 1e-9), most)
        sizes.append(None if settings.rounding == "down" and size == before else size)
        before = size or before
    return sizes
