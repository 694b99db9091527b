"""Explanations compared with a truth without annotation: edits, planted words, exact Shapley values, sanity checks.

    n tokens (or words) of one text; scores (n,) float, of the class that the model predicts

Edited and planted words are labels like a human rationale: `average_precision` and `f1_at_k` judge them, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, spearmanr

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import as_pair, as_scores, average_precision

MOST_EXACT = 10  # tokens of a text whose subsets are all evaluated
RETENTION = 0.5


def edited_words(words: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) bool: the words of a text that its edited version does not have in the same place (difflib).

    Words that were only moved count as edited; a text that was only added to has no edited word.

    >>> edited_words("a dull film".split(), "a moving film".split()).tolist()
    [False, True, False]
    """
    edited = np.ones(len(words), dtype=bool)
    for block in SequenceMatcher(a=list(words), b=list(others), autojunk=False).get_matching_blocks():
        edited[block.a : block.a + block.size] = False
    return edited


def precision_at_1(labels: ArrayLike, scores: ArrayLike) -> float:
    """Precision at 1: whether the token with the highest score is one that decides.

    Formula: share of the labelled tokens among those that have the highest score (one, unless they tie)
    Selection: the best token.
    Range: 0 to 1, higher is better. Random scores give the density. NaN without a labelled token.
    Misleads: it looks at one token. Where several decide, the others are not seen.
    Reference: Bastings, Ebert, Zablotskaia, Sandholm and Filippova (2022), "Will You Find These Shortcuts?",
        https://aclanthology.org/2022.emnlp-main.64

    >>> precision_at_1([False, True], [0.5, 0.5])
    0.5
    """
    truth, values = as_pair(labels, scores)
    return float(truth[values == values.max()].mean()) if truth.any() else math.nan


def soft_average_precision(annotators: ArrayLike, scores: ArrayLike) -> float:
    """Soft average precision: how well scores rank what each of several annotators marked.

    Formula: mean of AP(labels_a, s) over the annotators a, labels_a (n,) the tokens that a marked
    Selection: none. Only the order of the content tokens counts, and no n enters.
    Range: 0 to 1, higher is better; below 1 for every ranking when annotators disagree. NaN when nobody marked a token;
        annotators who marked none are left out.
    Misleads: an annotator with long rationales has a high AP by chance, and weighs as much as any other.
    Reference: Plank (2022), The "Problem" of Human Label Variation, https://aclanthology.org/2022.emnlp-main.731

    >>> soft_average_precision([[True, False], [False, True]], [0.9, 0.1])
    0.75
    """
    labels = [one for one in np.asarray(annotators, dtype=bool) if one.any()]
    return float(np.mean([average_precision(one, scores) for one in labels])) if labels else math.nan


def shapley_values(worth: ArrayLike) -> NDArray[np.float64]:
    """(n,) exact Shapley values of n tokens, from the value of all their subsets.

    worth: (2^n,); entry k is the value of the tokens whose bits are set in k (token 0 is bit 0).

        phi_i = sum over subsets S without i of |S|! (n - |S| - 1)! / n! * (v(S and i) - v(S))

    Raises ArgumentError for a number of values that is no power of two.

    >>> shapley_values([0, 1, 2, 5]).tolist()
    [2.0, 3.0]
    """
    values = as_scores(worth)
    n = len(values).bit_length() - 1
    if len(values) != 1 << n:
        raise ArgumentError(f"worth: got {len(values)} values, must be one for each subset of the tokens")
    subsets = np.arange(len(values))
    sizes = np.array([int(one).bit_count() for one in subsets])
    weights = np.array([math.factorial(s) * math.factorial(n - s - 1) / math.factorial(n) for s in range(n)] + [0.0])
    found = np.empty(n)
    for i in range(n):
        without = subsets[(subsets >> i) & 1 == 0]
        found[i] = (weights[sizes[without]] * (values[without | 1 << i] - values[without])).sum()
    return found


def all_subsets(n: int) -> NDArray[np.bool_]:
    """(2^n, n) bool, in the order of `shapley_values`."""
    bits: NDArray[np.bool_] = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1 == 1
    return bits


def shapley_correlation(exact: ArrayLike, scores: ArrayLike) -> float:
    """Correlation with Shapley values: whether scores rank tokens as their exact Shapley values do.

    Formula: Spearman's rank correlation of s_i and phi_i over the content tokens; phi_i is exact, from the logit of the
        predicted class of all 2^n subsets of the tokens (others are masked). Scores without a sign are compared with
        the absolute values.
    Selection: none. Texts of at most 10 content tokens.
    Range: -1 to 1, higher is better. NaN for longer texts, for fewer than two tokens, or when either is constant.
    Misleads: the Shapley value is one of several answers to what a token is worth, and most of its subsets are texts
        such as the model never saw. KernelSHAP and Shapley sampling estimate it, and have to do well.
    Reference: Shapley (1953), A value for n-person games; Lundberg and Lee (2017), https://arxiv.org/abs/1705.07874

    >>> shapley_correlation([0.1, 0.2, 0.3], [1, 2, 3])
    1.0
    """
    return rank_correlation(exact, scores)


def randomisation(scores: ArrayLike, randomised: ArrayLike) -> float:
    """Randomisation: how alike scores are when the model's weights are drawn anew.

    Formula: |Spearman's rank correlation| of the scores of the model and of the same model with its head and its last
        half of the layers, or all layers, initialised anew
    Selection: none.
    Range: 0 to 1, LOWER is better: an explanation that stays the same is not one of this model. NaN when either is
        constant.
    Misleads: a method may depend on the weights and still be wrong. Scores that depend mostly on the embeddings, which
        stay, change little; random scores have about 0.
    Reference: Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim (2018), Sanity Checks for Saliency Maps,
        https://arxiv.org/abs/1810.03292

    >>> randomisation([1, 2, 3], [3, 2, 1])
    1.0
    """
    return abs(rank_correlation(scores, randomised))


def stability(scores: ArrayLike, changed: ArrayLike) -> float:
    """Stability: how alike the scores of a text's words are when nothing that matters is changed.

    Formula: Spearman's rank correlation of the scores of the words that both texts have; the second text has other
        punctuation (its last mark gone or added) or a synonym, and the model predicts the same class
    Selection: none.
    Range: -1 to 1, higher is better. NaN when either is constant, or when the model predicts another class.
    Misleads: the model's own reasons may change with a comma. Scores that do not depend on the model are most stable.
    Reference: Alvarez-Melis and Jaakkola (2018), On the Robustness of Interpretability Methods,
        https://arxiv.org/abs/1806.08049

    >>> stability([1, 2, 3], [1, 2, 3])
    1.0
    """
    return rank_correlation(scores, changed)


def equal_chances(scores: ArrayLike, retention: float = RETENTION) -> NDArray[np.float64]:
    """Soft metrics at equal retention: soft comprehensiveness and sufficiency that keep as much for every method.

    Formula: that of `soft_comprehensiveness` and `soft_sufficiency`, where token i is kept (or goes) with probability
        q_i = clip(s~_i + b, 0, 1), s~ the scores moved to 0..1 and b such that the mean of q is 1/2; this gives q, (n,)
    Selection: none: every token is drawn by its own score, half of them on average.
    Range: as of the soft metrics: 0 and up for comprehensiveness, 0 to 1 for sufficiency, higher is better for both.
    Misleads: without equal retention a method with large shares keeps more, and does well for that. With it, the order
        and the spacing of the scores are left.
    Reference: Huang and Chan (2026), Faithfulness Evaluation for Decoder-only LLM Attributions with Controlled Retained
        Information, https://arxiv.org/abs/2601.03089; how q is brought to one mean (a shift) is ours.

    >>> equal_chances([1, 3, 2]).tolist(), equal_chances([0, 0, 0, 1]).round(3).tolist()
    ([0.0, 1.0, 0.5], [0.333, 0.333, 0.333, 1.0])
    """
    values = as_scores(scores)
    spread = np.ptp(values) if len(values) else 0.0
    if spread == 0:
        return np.full(len(values), retention)
    unit = (values - values.min()) / spread
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if np.clip(unit + middle, 0, 1).mean() > retention else (middle, high)
    return np.asarray(np.clip(unit + (low + high) / 2, 0, 1).round(12))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's; NaN with fewer than two values, or when either is constant."""
    a, b = as_scores(first), as_scores(second)
    if len(a) != len(b):
        raise ArgumentError(f"scores: {len(a)} and {len(b)} tokens")
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(round(spearmanr(rankdata(a), rankdata(b)).statistic, 12))
