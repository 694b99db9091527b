"""Faithfulness of scores to the model: what happens to its prediction without, or with only, the best tokens.

    n wordpieces of the input, n_c of them content (neither special nor of a query); C classes; S rows of scores

        comprehensiveness_X = p(x) - p(x without its best X % of tokens)       high: these tokens were needed
        sufficiency_X       = p(x) - p(only the best X % of x's tokens)        low: these tokens are enough
        aopc_...            = mean over the bins                               (DeYoung et al., 2020)

p is the probability of `target`, the class that the model predicts for the whole input. Special tokens and a query
always stay. Nothing here knows a model: `predict` gets a list of id arrays and returns their (len, C) probabilities.

Tokens with the same score are taken in a random order, by the seed and the ids of the input, which all methods share.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

from adapler.errors import ArgumentError
from analysis.metrics import plausibility as pl
from analysis.metrics.plausibility import METRICS, Metric

BINS = (1, 5, 10, 20, 50)
SOFT = ("soft_comprehensiveness", "soft_sufficiency")
DRAWS = 20  # of the soft metrics
EXACT = 8  # of the limits of an AOPC: at most so many tokens, and all sets are tried
SINGLE_STEPS = 64  # at most so many: a beam search takes one token at a time; longer texts: as many as are due at once
WIDTH = 5  # of the beam

Ids = NDArray[np.int64]
Set = NDArray[np.bool_]  # (n_c,) of content tokens
Predict = Callable[[list[Ids]], ArrayLike]


def comprehensiveness(whole: float, without: float) -> float:
    """Comprehensiveness: how far the predicted class loses probability without the best tokens.

    Formula: p(x) - p(x without the tokens), p the probability of the class predicted for the whole input x
    Selection: the best X % of the content tokens (`comprehensiveness_X`), or as many as a rationale of the data set
        has on average (`comprehensiveness_at_density`, ERASER's own k = ceil(density · n)).
    Range: -1 to 1, higher is better (these tokens were needed).
    Misleads: a text with holes is unlike what the model was trained on, so the loss is not the tokens' meaning alone.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408
    """
    return whole - without


def sufficiency(whole: float, only: float) -> float:
    """Sufficiency: how far the predicted class loses probability with the best tokens alone.

    Formula: p(x) - p(the tokens alone), p the probability of the class predicted for the whole input x
    Selection: as of comprehensiveness (`sufficiency_X`, `sufficiency_at_density`).
    Range: -1 to 1, LOWER is better (these tokens are enough).
    Misleads: a model that predicts one class for almost any input finds every selection sufficient. Negative values
        mean that the tokens alone are more convincing than the text.
    Reference: DeYoung et al. (2020), ERASER, https://aclanthology.org/2020.acl-main.408
    """
    return whole - only


def aopc(drops: Sequence[float]) -> float:
    """AOPC: the mean of comprehensiveness (or sufficiency) over the percentages; NaN ones are left out.

    Formula: 1/B · sum over the B percentages of p(x) - p(x changed at this percentage)
    Selection: the best 1, 5, 10, 20 and 50 % of the content tokens (`--protocol ferret`: 10, 20, ..., 100 %).
    Range: -1 to 1; higher is better for `aopc_comprehensiveness`, lower for `aopc_sufficiency`. NaN without any.
    Misleads: other percentages give other numbers. The official scorer takes this mean; the paper's formula divides
        by B + 1.
    Reference: DeYoung et al. (2020), ERASER, section 4.2; Samek et al. (2017), https://arxiv.org/abs/1509.06321
    """
    counted = [drop for drop in drops if not math.isnan(drop)]
    return float(np.mean(counted)) if counted else math.nan


def soft_comprehensiveness(whole: float, without: float, nothing: float) -> float:
    """Soft comprehensiveness: what the predicted class loses when each token goes with a chance of its score.

    whole, nothing: p of the input as it is, and without any content token; without: p of one draw.

    Formula: mean over 20 draws of max(0, p(x) - p(x')) / max(0, p(x) - p(no content token)), where x' loses token i
        with probability q_i = (s_i - min s) / (max s - min s); 1/2 each where all scores are the same
    Selection: none: no percentage is chosen, every token is drawn by its own score.
    Range: 0 and up, higher is better (what has high scores was needed). Above 1: the text with holes was less
        convincing than no text. NaN where the model is as sure without any text.
    Misleads: q depends on the spread of the scores, not only on their order: even scores remove half of the text,
        one very high score removes one token. The authors drop entries of embeddings; here whole tokens go.
    Reference: Zhao and Aletras (2023), Incorporating Attribution Importance for Improving Faithfulness Metrics,
        https://aclanthology.org/2023.acl-long.261
    """
    scale = max(0.0, whole - nothing)
    return math.nan if scale < 1e-9 else round(max(0.0, whole - without) / scale, 12)


def soft_sufficiency(whole: float, only: float, nothing: float) -> float:
    """Soft sufficiency: how much of the predicted class is kept when each token stays with a chance of its score.

    whole, nothing: p of the input as it is, and without any content token; only: p of one draw.

    Formula: with S(x') = 1 - max(0, p(x) - p(x')): mean over 20 draws of
        max(0, S(x') - S(no content token)) / (1 - S(no content token)), where x' keeps token i with the probability
        q_i of soft comprehensiveness
    Selection: none: no percentage is chosen, every token is drawn by its own score.
    Range: 0 to 1, HIGHER is better (what has high scores is enough), unlike `sufficiency`. NaN where the model is as
        sure without any text.
    Misleads: even scores keep half of the text and do well for that; read it with soft comprehensiveness.
    Reference: Zhao and Aletras (2023), Incorporating Attribution Importance for Improving Faithfulness Metrics,
        https://aclanthology.org/2023.acl-long.261
    """
    scale = max(0.0, whole - nothing)
    return math.nan if scale < 1e-9 else round(max(0.0, scale - max(0.0, whole - only)) / scale, 12)


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
    """
    if math.isnan(value) or not upper - lower > 1e-9:
        return math.nan
    return (value - lower) / (upper - lower)


def loo_kendall(drops: ArrayLike, scores: ArrayLike) -> float:
    """LOO tau: rank correlation of the scores with what each token's removal takes from the prediction.

    drops: `leave_one_out`, (n_c,); scores: (n_c,).

    Formula: Kendall's tau-b of p(x) - p(x without token i) and s_i, over the content tokens
    Selection: none. Every content token is taken away alone.
    Range: -1 to 1, higher is better. NaN with fewer than two tokens, or when either is constant.
    Misleads: where words repeat, removing one of them changes little although they matter together.
    Reference: Jain and Wallace (2019), Attention is not Explanation, https://aclanthology.org/N19-1357
    """
    first, second = pl.as_scores(drops), pl.as_scores(scores)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(kendalltau(first, second).statistic)


# ---------------------------------------------------------------- texts with tokens taken away


@dataclass(frozen=True)
class FaithfulnessSettings:
    """Settings of token removal for faithfulness.

    variant        "delete", or "mask" to leave the tokenizer's mask token in their place
    bins           percentages of the content tokens
    rounding       "up": ceil(X % of n_c); "down": floor, and a bin that adds no token is left out of the AOPC (ferret)
    positive_only  never take a token whose score is not above 0 (ferret)
    density        mean share of rationale tokens in the data set, for `..._at_density`; None leaves those undefined
    seed           of the order of tokens with equal scores
    """

    variant: Literal["delete", "mask"] = "delete"
    bins: tuple[int, ...] = BINS
    rounding: str = "up"
    positive_only: bool = False
    density: float | None = None
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that `faithfulness_rows` computes, in its order."""
        marks = (*map(str, self.bins), pl.AT_DENSITY)
        each = [f"{kind}_{mark}" for kind in ("comprehensiveness", "sufficiency") for mark in marks]
        return (*each, "aopc_comprehensiveness", "aopc_sufficiency")


class Versions:
    """An input and its versions with only some content tokens kept, each predicted once.

    predict: see the top of this file. window_ids: (n,) the whole input, special tokens included; content: (n,) bool;
    target: index of the class; mask_id: of the tokenizer's mask token, for the variant "mask".
    """

    def __init__(
        self,
        predict: Predict,
        window_ids: ArrayLike,
        content: ArrayLike,
        *,
        target: int,
        settings: FaithfulnessSettings,
        mask_id: int | None = None,
    ) -> None:
        self.ids = np.asarray(window_ids, dtype=np.int64)
        if settings.variant == "mask" and mask_id is None:
            raise ArgumentError("mask_id: got None, variant 'mask' needs the tokenizer's mask token")
        self.places = np.flatnonzero(content)  # (n_c,)
        self.n_content = len(self.places)
        self.mask_id = mask_id if settings.variant == "mask" else None
        self._predict, self.target, self.settings = predict, target, settings
        self._known: dict[bytes, float] = {}

    def p(self, kept: Sequence[Set]) -> NDArray[np.float64]:
        """(len,) p(target) of the input with the content tokens of each set only; one call for those that are new."""
        keys = [np.packbits(one).tobytes() for one in kept]
        if new := {key: one for key, one in zip(keys, kept, strict=True) if key not in self._known}:
            output = np.asarray(self._predict([self._input(one) for one in new.values()]), dtype=np.float64)  # (len, C)
            self._known |= dict(zip(new, output[:, self.target].tolist(), strict=True))
        return np.array([self._known[key] for key in keys])

    def _input(self, kept: Set) -> Ids:
        gone = self.places[~kept]
        if self.mask_id is None:
            return np.delete(self.ids, gone)
        ids = self.ids.copy()
        ids[gone] = self.mask_id
        return ids

    @property
    def whole(self) -> Set:
        return np.ones(self.n_content, dtype=bool)

    def rows(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores of its content tokens, (S, n_c)."""
        rows = np.asarray(scores, dtype=np.float64)
        if rows.shape[1:] != (self.n_content,) or not np.isfinite(rows).all():
            raise ArgumentError(f"scores: got shape {rows.shape}, must be (rows, {self.n_content} tokens) and finite")
        return rows

    def generator(self, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, zlib.crc32(self.ids.tobytes()), *more])

    def tie_order(self, words: ArrayLike | None) -> NDArray[np.int64]:
        """(n_c,) the place of each token among tokens of the same score; tokens of one word stand together."""
        groups = np.arange(self.n_content) if words is None else np.asarray(words)
        _, inverse = np.unique(groups, return_inverse=True)
        shuffled = self.generator().permutation(int(inverse.max()) + 1)
        return np.argsort(np.lexsort((np.arange(self.n_content), shuffled[inverse])))


def best_sets(
    scores: NDArray[np.float64], order: NDArray[np.int64], settings: FaithfulnessSettings
) -> list[Set | None]:
    """The tokens of each bin (n_c,), and at last of the density; None for a set that does not count."""
    n = len(scores)
    ranking = np.argsort(np.lexsort((order, -scores)))  # 0: the best
    usable = int((scores > 0).sum()) if settings.positive_only else n
    sizes = bin_sizes(n, settings, usable=usable)
    sizes.append(None if settings.density is None else min(usable, pl.density_size(settings.density, n)))
    return [ranking < size if size else None for size in sizes]


def bin_sizes(n_content: int, settings: FaithfulnessSettings, *, usable: int | None = None) -> list[int | None]:
    """Number of tokens in each bin of n_c tokens, at most `usable`; None for a bin that does not count."""
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


# ---------------------------------------------------------------- the metrics of one document


def faithfulness_rows(
    versions: Versions, scores: ArrayLike, *, words: ArrayLike | None = None
) -> list[dict[str, float]]:
    """comprehensiveness_X and sufficiency_X of every bin X and of "at_density", and both AOPCs, of rows of scores
    (S, n_c) of one document, as methods or layers, in one call of the model. All NaN without content tokens.

    words: (n_c,) the number of each token's word, where tokens have their word's score: the tokens of one word then
        stay together in the random order of equal scores.
    """
    rows, settings = versions.rows(scores), versions.settings
    if versions.n_content == 0:
        return [dict.fromkeys(settings.names, math.nan) for _ in rows]
    order = versions.tie_order(words)
    chosen = [best_sets(row, order, settings) for row in rows]
    asked = [kept for sets in chosen for best in sets if best is not None for kept in (~best, best)]
    whole = float(versions.p([versions.whole, *asked])[0])
    results = []
    for sets in chosen:
        lost = [math.nan if best is None else comprehensiveness(whole, float(versions.p([~best])[0])) for best in sets]
        missing = [math.nan if best is None else sufficiency(whole, float(versions.p([best])[0])) for best in sets]
        drops = [*lost, *missing, aopc(lost[:-1]), aopc(missing[:-1])]  # the last set is that of the density
        results.append(dict(zip(settings.names, drops, strict=True)))
    return results


def leave_one_out(versions: Versions) -> NDArray[np.float64]:
    """(n_c,) p(x) - p(x without token i), of every content token; the same for all methods and layers."""
    p = versions.p([versions.whole, *~np.eye(versions.n_content, dtype=bool)]) if versions.n_content else np.zeros(1)
    return np.asarray(p[0] - p[1:])


def soft_rows(
    versions: Versions, scores: ArrayLike, *, chances: Callable[[ArrayLike], NDArray[np.float64]] | None = None
) -> list[dict[str, float]]:
    """Both of SOFT for several rows of scores (S, n_c) of one document, by the same draws, in one call of the model.
    chances: scores (n_c,) -> the probability to stay of each token; default: `keep_chances`."""
    rows = versions.rows(scores)
    if versions.n_content == 0:
        return [dict.fromkeys(SOFT, math.nan) for _ in rows]
    draws = versions.generator(DRAWS).random((DRAWS, versions.n_content))
    kept = np.array([draws < (chances or keep_chances)(row) for row in rows])  # (S, DRAWS, n_c)
    both = np.stack([~kept, kept], axis=2).reshape(-1, versions.n_content)
    whole, nothing, *p = versions.p([versions.whole, ~versions.whole, *both])
    found = np.reshape(p, (len(rows), DRAWS, 2))
    return [
        {
            SOFT[0]: float(np.mean([soft_comprehensiveness(whole, without, nothing) for without, _ in row])),
            SOFT[1]: float(np.mean([soft_sufficiency(whole, only, nothing) for _, only in row])),
        }
        for row in found
    ]


def keep_chances(scores: ArrayLike) -> NDArray[np.float64]:
    """(n_c,) q of each token: the scores moved to 0..1."""
    values = pl.as_scores(scores)
    spread = np.ptp(values)
    return np.full(len(values), 0.5) if spread == 0 else np.asarray((values - values.min()) / spread)


def aopc_bounds(versions: Versions, kind: str, *, usable: int | None = None) -> tuple[float, float]:
    """(lower, upper) AOPC of one document, NaN both without content tokens or percentages that count. kind:
    "comprehensiveness" or "sufficiency"; usable: tokens that may be taken at most, default all."""
    n = versions.n_content
    sizes = [size for size in bin_sizes(n, versions.settings, usable=usable) if size]
    if not sizes:
        return math.nan, math.nan

    def drops(sets: Sequence[Set]) -> NDArray[np.float64]:
        p = versions.p([versions.whole, *(~one if kind == "comprehensiveness" else one for one in sets)])
        return np.asarray(p[0] - p[1:])

    search = _beam if n <= max(EXACT, SINGLE_STEPS) else _in_blocks
    low, high = -search(drops, n, sizes, -1), search(drops, n, sizes, 1)
    return low / len(sizes), high / len(sizes)


Drops = Callable[[Sequence[Set]], NDArray[np.float64]]  # p(x) - p(x without the tokens, or with them alone)


def _beam(drops: Drops, n: int, sizes: Sequence[int], sign: int) -> float:
    """The highest sum over the sizes of sign * drop along sets that hold each other: one token at a time, with all sets
    of a short text, else the WIDTH sets that promise most."""
    beam: dict[frozenset[int], float] = {frozenset(): 0.0}  # set -> sum so far
    for size in range(1, max(sizes) + 1):
        children: dict[frozenset[int], float] = {}
        for one, done in beam.items():
            for child in (one | {token} for token in range(n) if token not in one):
                children[child] = max(done, children.get(child, -math.inf))
        values = sign * drops([np.isin(np.arange(n), list(child)) for child in children])
        due, left = sizes.count(size), sum(later > size for later in sizes)
        ranked = sorted(zip(children.items(), values, strict=True), key=lambda x: -(x[0][1] + (due + left) * x[1]))
        width = len(ranked) if n <= EXACT else WIDTH
        beam = {child: done + due * float(value) for (child, done), value in ranked[:width]}
    return max(beam.values())


def _in_blocks(drops: Drops, n: int, sizes: Sequence[int], sign: int) -> float:
    """As `_beam`, all tokens of one percentage at once."""
    taken, total = np.zeros(n, dtype=bool), 0.0
    for size in sorted(set(sizes)):
        rest = np.flatnonzero(~taken)
        order = np.argsort(-sign * drops([taken | (np.arange(n) == token) for token in rest]), kind="stable")
        taken[rest[order[: size - int(taken.sum())]]] = True
        total += sign * sizes.count(size) * float(drops([taken])[0])
    return total


# ---------------------------------------------------------------- the metrics by name


def _perturbed(kind: str, short: str, up: bool, source: Callable[..., Any]) -> list[Metric]:
    """Comprehensiveness or sufficiency at every percentage, at the density, and their mean."""
    each = [(str(percent), f"{short} {percent} %", pl.PERCENT) for percent in BINS]
    rows = [Metric(f"{kind}_{mark}", title, "faithfulness", up, level, source)
            for mark, title, level in (*each, (pl.AT_DENSITY, f"{short}@density", pl.DENSITY))]  # fmt: skip
    return [*rows, Metric(f"aopc_{kind}", f"{short} AOPC", "faithfulness", up, pl.PERCENT, aopc)]


# fmt: off
METRICS |= {metric.name: metric for metric in (
    *_perturbed("comprehensiveness", "Comp.", True, comprehensiveness),
    *_perturbed("sufficiency", "Suff.", False, sufficiency),
    Metric("loo_kendall", "LOO tau", "faithfulness", True, pl.LEAVE_ONE_OUT, loo_kendall),
    Metric("soft_comprehensiveness", "Soft comp.", "soft", True, pl.BY_CHANCE, soft_comprehensiveness),
    Metric("soft_sufficiency", "Soft suff.", "soft", True, pl.BY_CHANCE, soft_sufficiency),
    Metric("naopc_comprehensiveness", "Comp. NAOPC", "normalised", True, pl.PERCENT, normalised_aopc),
    Metric("naopc_sufficiency", "Suff. NAOPC", "normalised", False, pl.PERCENT, normalised_aopc),
)}
# fmt: on
