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
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

from adapler.errors import ArgumentError
from analysis.metrics.perturbation.document import (
    AT_DENSITY,
    BINS,
    VARIANTS,
    FaithfulnessSettings,
    PerturbedDocument,
    Predict,
    best_sets,
    key_of,
)
from analysis.metrics.plausibility import as_scores

__all__ = [
    "AT_DENSITY",
    "BINS",
    "VARIANTS",
    "FaithfulnessSettings",
    "Predict",
    "aopc",
    "comprehensiveness",
    "faithfulness",
    "faithfulness_rows",
    "leave_one_out",
    "loo_kendall",
    "sufficiency",
]


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
    document = PerturbedDocument(window_ids, content, settings.variant, mask_id)
    rows = np.asarray(scores, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != document.n_content:
        raise ArgumentError(f"scores: got shape {rows.shape}, must be (rows, {document.n_content} content tokens)")
    if document.n_content == 0:
        return [dict.fromkeys(settings.names, math.nan) for _ in rows]
    order = document.tie_order(settings.seed, words)
    chosen = [best_sets(as_scores(row), order, settings) for row in rows]
    probability = document.probabilities(
        predict, [kept for sets in chosen for best in sets if best is not None for kept in (~best, best)], target
    )
    whole = probability[document.everything]
    results = []
    for sets in chosen:
        lost = [math.nan if best is None else comprehensiveness(whole, probability[key_of(~best)]) for best in sets]
        missing = [math.nan if best is None else sufficiency(whole, probability[key_of(best)]) for best in sets]
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
    document = PerturbedDocument(window_ids, content, FaithfulnessSettings(variant).variant, mask_id)
    if document.n_content == 0:
        return np.zeros(0)
    without = [np.arange(document.n_content) != i for i in range(document.n_content)]
    probability = document.probabilities(predict, without, target)
    whole = probability[document.everything]
    return np.array([whole - probability[key_of(kept)] for kept in without], dtype=np.float64)


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
