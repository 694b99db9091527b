"""Faithfulness of scores to the model: what happens to its prediction without, or with only, the best tokens.

    n wordpieces of the input, n_c of them content (neither special nor of a query); C classes; S rows of scores

        comprehensiveness_X = p(x) - p(x without its best X % of tokens)       high: these tokens were needed
        sufficiency_X       = p(x) - p(only the best X % of x's tokens)        low: these tokens are enough
        aopc_...            = mean over the bins                               (DeYoung et al., 2020)

p is the probability of `target`, the class that the model predicts for the whole input. Special tokens and a query
always stay. Tokens are "delete"d, or replaced by `mask_id` ("mask"). Nothing here knows a model: `predict` gets a
list of id arrays, all inputs of a document in one call, and returns their (len, C) probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import as_labels, as_scores

BINS = (1, 5, 10, 20, 50)
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
    """

    variant: str = "delete"
    bins: tuple[int, ...] = BINS
    rounding: str = "up"
    positive_only: bool = False

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ArgumentError(f"variant: got {self.variant!r}, allowed are {', '.join(VARIANTS)}")
        if self.rounding not in ("up", "down"):
            raise ArgumentError(f"rounding: got {self.rounding!r}, allowed are up, down")
        if not self.bins or not all(0 < percent <= 100 for percent in self.bins):
            raise ArgumentError(f"bins: got {self.bins}, must be percentages over 0 and at most 100")


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
) -> dict[str, float]:
    """comprehensiveness_X and sufficiency_X of every bin X, and aopc_comprehensiveness and aopc_sufficiency.

    window_ids: (n,) the whole input, special tokens included; content: (n,) bool; scores: (n_c,), ranked from the
    highest, of equal ones the earliest first. See `FaithfulnessSettings` for the options.

    All NaN without content tokens. Raises ArgumentError for lengths that do not fit, an unknown variant or target,
    no mask_id for "mask", and for what `predict` returns when it is not (len, C).
    """
    settings = FaithfulnessSettings(variant, tuple(bins), rounding, positive_only)
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
) -> list[dict[str, float]]:
    """`faithfulness` of several rows of scores (S, n_c) of one document, as methods or layers, in one `predict`.

    Inputs that several rows or bins ask for are predicted once.
    """
    document = _Document(window_ids, content, settings.variant, mask_id)
    rows = np.asarray(scores, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != document.n_content:
        raise ArgumentError(f"scores: got shape {rows.shape}, must be (rows, {document.n_content} content tokens)")
    names = [f"{kind}_{percent}" for kind in ("comprehensiveness", "sufficiency") for percent in settings.bins]
    names += ["aopc_comprehensiveness", "aopc_sufficiency"]
    if document.n_content == 0:
        return [dict.fromkeys(names, math.nan) for _ in rows]
    chosen = [_best(as_scores(row), settings) for row in rows]
    probability = document.probabilities(
        predict, [kept for sets in chosen for best in sets if best is not None for kept in (~best, best)], target
    )
    whole = probability[document.everything]
    results = []
    for sets in chosen:
        values: dict[str, float] = {}
        for kind in ("comprehensiveness", "sufficiency"):
            drops = [
                math.nan if best is None else whole - probability[_key(~best if kind[0] == "c" else best)]
                for best in sets
            ]
            values |= {f"{kind}_{percent}": drop for percent, drop in zip(settings.bins, drops, strict=True)}
            counted = [drop for drop in drops if not math.isnan(drop)]
            values[f"aopc_{kind}"] = float(np.mean(counted)) if counted else math.nan
        results.append({name: values[name] for name in names})
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
    """(n_c,) p(x) - p(x without token i), of every content token; the same for all methods and layers."""
    document = _Document(window_ids, content, FaithfulnessSettings(variant).variant, mask_id)
    if document.n_content == 0:
        return np.zeros(0)
    without = [np.arange(document.n_content) != i for i in range(document.n_content)]
    probability = document.probabilities(predict, without, target)
    whole = probability[document.everything]
    return np.array([whole - probability[_key(kept)] for kept in without], dtype=np.float64)


def loo_kendall(drops: ArrayLike, scores: ArrayLike) -> float:
    """Kendall's tau-b between `leave_one_out` and scores, both (n_c,) (Jain and Wallace, 2019).

    NaN with fewer than two tokens, or when either is constant.
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


def _best(scores: NDArray[np.float64], settings: FaithfulnessSettings) -> list[NDArray[np.bool_] | None]:
    """The tokens of each bin (n_c,), None for a bin that does not count."""
    order = np.argsort(-scores, kind="stable")
    usable = int((scores > 0).sum()) if settings.positive_only else len(scores)
    sets: list[NDArray[np.bool_] | None] = []
    before = 0
    for percent in settings.bins:
        share = percent * len(scores) / 100
        # percent · n is exact for whole percentages; the margin is for others
        size = math.ceil(share - 1e-9) if settings.rounding == "up" else math.floor(share + 1e-9)
        size = min(size, usable)
        if size == 0 or (settings.rounding == "down" and size == before):
            sets.append(None)
            continue
        before = size
        best = np.zeros(len(scores), dtype=bool)
        best[order[:size]] = True
        sets.append(best)
    return sets
