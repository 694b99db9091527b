"""Faithfulness of scores to the model: what happens to its prediction without, or with only, the best tokens.

    n wordpieces of the input, n_c of them content (neither special nor of a query); C classes; S rows of scores

        comprehensiveness_X = p(x) - p(x without its best X % of tokens)       high: these tokens were needed
        sufficiency_X       = p(x) - p(only the best X % of x's tokens)        low: these tokens are enough
        aopc_...            = mean over the bins                               (DeYoung et al., 2020)

p is the probability of `target`, the class that the model predicts for the whole input. Special tokens and a query
always stay. Tokens are "delete"d, or replaced by `mask_id` ("mask"). Nothing here knows a model: `predict` gets a
list of id arrays, all inputs of a document in one call, and returns their (len, C) probabilities.

Tokens with the same score are taken in a random order. It depends on the seed and on the ids of the input, not on the
tokens' positions, and all methods and layers of one input share it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import as_labels, as_scores
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


def comprehensiveness(whole: float, without: float) -> float:
    """Comprehensiveness: how far the predicted class loses probability without the best tokens.

    Formula: p(x) - p(x without the tokens), p the probability of the class predicted for the whole input x
    Selection: the best X % of the content tokens (`comprehensiveness_X`), or as many as a rationale of the data set
        has on average (`comprehensiveness_at_density`, ERASER's own k = ceil(density · n)).
    Range: -1 to 1, higher is better (these tokens were needed).
    Misleads: a text with holes is unlike what the model was trained on, so the loss is not the tokens' meaning alone.
        Ties at the edge are broken at random, not by position.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408

    >>> comprehensiveness(0.75, 0.25)
    0.5
    """
    return whole - without


def sufficiency(whole: float, only: float) -> float:
    """Sufficiency: how far the predicted class loses probability with the best tokens alone.

    Formula: p(x) - p(the tokens alone), p the probability of the class predicted for the whole input x
    Selection: the best X % of the content tokens (`sufficiency_X`), or as many as a rationale of the data set has on
        average (`sufficiency_at_density`, ERASER's own k = ceil(density · n)).
    Range: -1 to 1, LOWER is better (these tokens are enough).
    Misleads: a model that predicts one class for almost any input finds every selection sufficient. Negative values
        mean that the tokens alone are more convincing than the text.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408

    >>> sufficiency(0.75, 0.5)
    0.25
    """
    return whole - only


def aopc(drops: Sequence[float]) -> float:
    """AOPC: the mean of comprehensiveness (or sufficiency) over the percentages; NaN ones are left out.

    Formula: 1/B · sum over the B percentages of p(x) - p(x changed at this percentage)
    Selection: the best 1, 5, 10, 20 and 50 % of the content tokens (`--protocol ferret`: 10, 20, ..., 100 %).
    Range: -1 to 1; higher is better for `aopc_comprehensiveness`, lower for `aopc_sufficiency`. NaN without any.
    Misleads: numbers of other percentages are other numbers. The official scorer takes the mean as here; the paper's
        formula divides by B + 1.
    Reference: DeYoung et al. (2020), ERASER, section 4.2; Samek et al. (2017), https://arxiv.org/abs/1509.06321

    >>> aopc([0.25, 0.75])
    0.5
    """
    counted = [drop for drop in drops if not math.isnan(drop)]
    return float(np.mean(counted)) if counted else math.nan


def faithfulness(
    predict: Predict,
    window_ids: ArrayLike,
    content: ArrayLike,
    scores: ArrayLike,
    *,
    target: int,
    variant: str = "delete",
    mask_id: int | None = None,
    bins: Sequence[int] = BINS,
    rounding: str = "up",
    positive_only: bool = False,
    density: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """comprehensiveness_X and sufficiency_X of every bin X and of "at_density", and both AOPCs.

    window_ids: (n,) the whole input, special tokens included; content: (n,) bool; scores: (n_c,), taken from the
    highest, equal ones in a random order. See `FaithfulnessSettings` for the options.

    All NaN without content tokens. Raises ArgumentError for lengths that do not fit, an unknown variant or target,
    no mask_id for "mask", and for what `predict` returns when it is not (len, C).
    """
    settings = FaithfulnessSettings(variant, tuple(bins), rounding, positive_only, density, seed)
    rows = np.asarray(as_scores(scores))[None]
    return faithfulness_rows(predict, window_ids, content, rows, target=target, settings=settings, mask_id=mask_id)[0]


def faithfulness_rows(
    predict: Predict,
    window_ids: ArrayLike,
    content: ArrayLike,
    scores: ArrayLike,
    *,
    target: int,
    settings: FaithfulnessSettings,
    mask_id: int | None = None,
    words: ArrayLike | None = None,
) -> list[dict[str, float]]:
    """`faithfulness` of several rows of scores (S, n_c) of one document, as methods or layers, in one `predict`.

    words: (n_c,) the number of each token's word, where tokens have their word's score: the tokens of one word then
        stay together in the random order of equal scores. Inputs that several rows or bins ask for are predicted once.
    """
    document = _Document(window_ids, content, settings.variant, mask_id)
    rows = np.asarray(scores, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != document.n_content:
        raise ArgumentError(f"scores: got shape {rows.shape}, must be (rows, {document.n_content} content tokens)")
    if document.n_content == 0:
        return [dict.fromkeys(settings.names, math.nan) for _ in rows]
    order = document.tie_order(settings.seed, words)
    chosen = [_best(as_scores(row), order, settings) for row in rows]
    probability = document.probabilities(
        predict, [kept for sets in chosen for best in sets if best is not None for kept in (~best, best)], target
    )
    whole = probability[document.everything]
    results = []
    for sets in chosen:
        lost = [math.nan if best is None else comprehensiveness(whole, probability[_key(~best)]) for best in sets]
        missing = [math.nan if best is None else sufficiency(whole, probability[_key(best)]) for best in sets]
        drops = [*lost, *missing, aopc(lost[:-1]), aopc(missing[:-1])]  # the last set is that of the density
        results.append(dict(zip(settings.names, drops, strict=True)))
    return results


def leave_one_out(
    predict: Predict,
    window_ids: ArrayLike,
    content: ArrayLike,
    *,
    target: int,
    variant: str = "delete",
    mask_id: int | None = None,
) -> NDArray[np.float64]:
    """(n_c,) p(x) - p(x without token i), of every content token; the same for all methods and layers.

    See `faithfulness` for the arguments and errors.
    """
    document = _Document(window_ids, content, FaithfulnessSettings(variant).variant, mask_id)
    if document.n_content == 0:
        return np.zeros(0)
    without = [np.arange(document.n_content) != i for i in range(document.n_content)]
    probability = document.probabilities(predict, without, target)
    whole = probability[document.everything]
    return np.array([whole - probability[_key(kept)] for kept in without], dtype=np.float64)


def loo_kendall(drops: ArrayLike, scores: ArrayLike) -> float:
    """LOO tau: rank correlation of the scores with what each token's removal takes from the prediction.

    drops: `leave_one_out`, (n_c,); scores: (n_c,).

    Formula: Kendall's tau-b of p(x) - p(x without token i) and s_i, over the content tokens
    Selection: none. Every content token is taken away alone.
    Range: -1 to 1, higher is better. NaN with fewer than two tokens, or when either is constant.
    Misleads: where words repeat, removing one of them changes little although they matter together.
    Reference: Jain and Wallace (2019), Attention is not Explanation, https://aclanthology.org/N19-1357

    >>> loo_kendall([0.1, 0.2, 0.3], [1, 2, 3])
    1.0
    """
    first, second = as_scores(drops), as_scores(scores)
    if len(first) != len(second):
        raise ArgumentError(f"scores: {len(second)} tokens, drops have {len(first)}")
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(kendalltau(first, second).statistic)


class _Document:
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
        self.everything = _key(np.ones(self.n_content, dtype=bool))

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
        versions = {self.everything: np.ones(self.n_content, dtype=bool)} | {_key(one): one for one in kept}
        inputs = [self.keeping(one) for one in versions.values()]
        output = np.asarray(predict(inputs), dtype=np.float64)  # (len, C)
        if output.ndim != 2 or len(output) != len(inputs):
            raise ArgumentError(f"predict: returned shape {output.shape} for {len(inputs)} inputs, must be (inputs, C)")
        if not 0 <= target < output.shape[1]:
            raise ArgumentError(f"target: got {target}, the model has {output.shape[1]} classes")
        return dict(zip(versions, output[:, target].tolist(), strict=True))


def _key(kept: NDArray[np.bool_]) -> bytes:
    return np.packbits(kept).tobytes()


def _best(
    scores: NDArray[np.float64], tie_order: NDArray[np.int64], settings: FaithfulnessSettings
) -> list[NDArray[np.bool_] | None]:
    """The tokens of each bin (n_c,), and at last of the density; None for a set that does not count."""
    order = np.lexsort((tie_order, -scores))
    usable = int((scores > 0).sum()) if settings.positive_only else len(scores)

    def best(size: int) -> NDArray[np.bool_] | None:
        chosen = np.zeros(len(scores), dtype=bool)
        chosen[order[: min(size, usable)]] = True
        return chosen if chosen.any() else None

    sets: list[NDArray[np.bool_] | None] = []
    before = 0
    for percent in settings.bins:
        share = percent * len(scores) / 100
        # percent · n is exact for whole percentages; the margin is for others
        size = min(math.ceil(share - 1e-9) if settings.rounding == "up" else math.floor(share + 1e-9), usable)
        sets.append(None if settings.rounding == "down" and size == before else best(size))
        before = size or before
    sets.append(None if settings.density is None else best(density_size(settings.density, len(scores))))
    return sets
