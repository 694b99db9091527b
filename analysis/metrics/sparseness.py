"""How unevenly scores are spread over the tokens, whatever the rationale says."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from analysis.metrics.plausibility import as_scores


def gini(scores: ArrayLike) -> float:
    """Sparseness: the Gini coefficient of the absolute scores of the content tokens.

    Formula: sum over k = 1..n of (2 k - n - 1) · a_(k) / (n · sum of a), a_(1) <= ... <= a_(n) the absolute scores
    Selection: none. No n of a threshold enters.
    Range: 0 (all the same) to 1 - 1/n (one token has everything). NaN without tokens, or when all scores are 0.
    Misleads: it says how easy an explanation is to read, not how right it is: a method that points at one wrong token
        has the best value. Values of long and short texts are not alike, as the highest possible one depends on n.
    Reference: Hurley and Rickard (2009), Comparing Measures of Sparsity, https://arxiv.org/abs/0811.4706; for
        explanations: Chalasani et al. (2020), https://arxiv.org/abs/1810.06583

    >>> gini([1, 1, 1, 1]), gini([0, 0, 0, -2])
    (0.0, 0.75)
    """
    sizes = np.sort(np.abs(as_scores(scores)))
    n, total = len(sizes), float(sizes.sum())
    if not n or total == 0:
        return math.nan
    return float(((2 * np.arange(1, n + 1) - n - 1) * sizes).sum() / (n * total))
