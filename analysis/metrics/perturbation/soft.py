"""Soft comprehensiveness and sufficiency: each token goes, or stays, with a chance that its score decides.

n wordpieces of the input, n_c of them content; S rows of scores
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapler.errors import ArgumentError
from analysis.metrics.perturbation.document import FaithfulnessSettings, PerturbedDocument, Predict, key_of
from analysis.metrics.plausibility import as_scores

DRAWS = 20
NAMES = ("soft_comprehensiveness", "soft_sufficiency")


def soft_comprehensiveness(whole: float, without: float, nothing: float) -> float:
    """Soft comprehensiveness: what the predicted class loses when each token goes with a chance of its score.

    whole, nothing: p of the input as it is, and without any content token; without: p of one draw.

    Formula: mean over 20 draws of max(0, p(x) - p(x')) / max(0, p(x) - p(no content token)), where x' loses token i
        with probability q_i = (s_i - min s) / (max s - min s); 1/2 each where all scores are the same
    Selection: none: no percentage is chosen, every token is drawn by its own score.
    Range: 0 and up, higher is better (what has high scores was needed). Above 1: the text with holes was less
        convincing than no text. NaN where the model is as sure without any text.
    Misleads: q depends on the spread of the scores, not only on their order: even scores remove half of the text,
        one very high score removes one token. The authors drop entries of embeddings; here whole tokens go, as all
        other metrics here do it.
    Reference: Zhao and Aletras (2023), Incorporating Attribution Importance for Improving Faithfulness Metrics,
        https://aclanthology.org/2023.acl-long.261

    >>> soft_comprehensiveness(0.9, 0.7, 0.5)
    0.5
    """
    scale = max(0.0, whole - nothing)
    return math.nan if scale < 1e-9 else round(max(0.0, whole - without) / scale, 12)


def soft_sufficiency(whole: float, only: float, nothing: float) -> float:
    """Soft sufficiency: how much of the predicted class is kept when each token stays with a chance of its score.

    whole, nothing: p of the input as it is, and without any content token; only: p of one draw.

    Formula: with S(x') = 1 - max(0, p(x) - p(x')): mean over 20 draws of
        max(0, S(x') - S(no content token)) / (1 - S(no content token)), where x' keeps token i with probability
        q_i = (s_i - min s) / (max s - min s); 1/2 each where all scores are the same
    Selection: none: no percentage is chosen, every token is drawn by its own score.
    Range: 0 to 1, HIGHER is better (what has high scores is enough), unlike `sufficiency`. NaN where the model is as
        sure without any text.
    Misleads: even scores keep half of the text and do well for that. See `soft_comprehensiveness`; read both.
    Reference: Zhao and Aletras (2023), Incorporating Attribution Importance for Improving Faithfulness Metrics,
        https://aclanthology.org/2023.acl-long.261

    >>> soft_sufficiency(0.9, 0.7, 0.5)
    0.5
    """
    scale = max(0.0, whole - nothing)
    return math.nan if scale < 1e-9 else round(max(0.0, scale - max(0.0, whole - only)) / scale, 12)


def keep_chances(scores: ArrayLike) -> NDArray[np.float64]:
    """(n_c,) q of each token: the scores moved to 0..1."""
    values = as_scores(scores)
    spread = np.ptp(values)
    return np.full(len(values), 0.5) if spread == 0 else np.asarray((values - values.min()) / spread)


def soft_rows(
    predict: Predict,
    window_ids: ArrayLike,
    content: ArrayLike,
    scores: ArrayLike,
    *,
    target: int,
    settings: FaithfulnessSettings,
    mask_id: int | None = None,
) -> list[dict[str, float]]:
    """Both of NAMES for several rows of scores (S, n_c) of one document, in one `predict`.

    The draws depend on the seed and on the ids of the input; all rows share them. See `faithfulness_rows`.
    """
    document = PerturbedDocument(window_ids, content, settings.variant, mask_id)
    rows = np.asarray(scores, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != document.n_content:
        raise ArgumentError(f"scores: got shape {rows.shape}, must be (rows, {document.n_content} content tokens)")
    if document.n_content == 0:
        return [dict.fromkeys(NAMES, math.nan) for _ in rows]
    generator = np.random.default_rng([settings.seed, zlib.crc32(document.ids.tobytes()), DRAWS])
    draws = generator.random((DRAWS, document.n_content))
    kept = [draws < keep_chances(row) for row in rows]  # S times (DRAWS, n_c)
    empty = np.zeros(document.n_content, dtype=bool)
    versions = [empty, *(version for each in kept for one in each for version in (one, ~one))]
    found = document.probabilities(predict, versions, target)
    whole, nothing = found[document.everything], found[key_of(empty)]
    return [
        {
            NAMES[0]: float(np.mean([soft_comprehensiveness(whole, found[key_of(~one)], nothing) for one in each])),
            NAMES[1]: float(np.mean([soft_sufficiency(whole, found[key_of(one)], nothing) for one in each])),
        }
        for each in kept
    ]
