"""Shapley value sampling; through captum.

Captum asks for the prefixes of one permutation in their order, many in one pass: an own loop would make the same
passes. With deleted tokens they differ in length by one token each, and run as one packed row where the classifier can
(see `analysis.scores.shared.inputs`): padded to the longest, half of what a short text's pass computes is padding.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Annotated, Any

import torch
from captum.attr import ShapleyValueSampling
from scipy.stats import spearmanr

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import Removal, Sign, presence, reduced, seeded, singles
from analysis.scores.shared.surrogates import UNSTABLE, UnstableScoresWarning
from analysis.scores.shared.targets import Target
from analysis.scores.specs import AtLeast


@scoring_method(
    "shapley_sampling",
    paper="https://doi.org/10.1016/j.cor.2008.04.004",
    title="Shapley sampling",
    cost="n_samples x n forwards",
    reads="seed",
    scope=AT_INPUT,
)
def shapley_sampling(
    model: Any,
    batch: Batch,
    *,
    n_samples: Annotated[int, AtLeast(2)] = 25,
    replacement: Removal = "mask",
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Shapley value sampling: what a token adds when tokens come in one by one, as a mean over random orders.

    Formula: score_i = mean over n_samples permutations of F(the tokens before i, and i) - F(the tokens before i).
        A token that is not there is replaced (mask, pad), or the text is shorter (delete). The scores of the content
        tokens add up to F(x) - F(no content token), whatever n_samples is. Special tokens stay and score 0.
    Layer: at the input. There is one score a token.
    Cost: n_samples x n forwards, on average over half of the text with replacement=delete.
    Misleads: most of the texts that it asks about are fragments such as the model never saw. `stability` is the
        rank correlation of the scores from the two halves of the permutations; a warning is given below 0.5. Scores
        have a sign by default: for FPR, TPR and the headline figure take reduction=absolute or positive.
    Reference: Castro, Gomez and Tejada (2009), Polynomial calculation of the Shapley value based on sampling,
        https://doi.org/10.1016/j.cor.2008.04.004
    """
    twin = working_copy(model)
    values = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)  # (B, N)
    stability = torch.ones(len(values), 1, device=values.device)
    shares = (n_samples - n_samples // 2, n_samples // 2)  # permutations of each half
    for row, single in singles(batch):
        document = presence(twin, single, target, replacement)
        n_content = len(document.positions)
        if not n_content:
            continue
        with seeded(batch, row):
            first, second = (
                ShapleyValueSampling(document.value).attribute(
                    torch.ones(1, n_content, device=values.device),
                    n_samples=share,
                    perturbations_per_eval=document.per_pass,
                )[0]
                for share in shares
            )
        values[row, document.positions] = ((shares[0] * first + shares[1] * second) / n_samples).to(values)
        if n_content > 1:
            constant = min(float(first.max() - first.min()), float(second.max() - second.min())) == 0
            stability[row] = 0.0 if constant else float(spearmanr(first.cpu(), second.cpu()).statistic)
    if bool((stability < UNSTABLE).any()):
        warnings.warn(
            "shapley_sampling: the two halves of the permutations rank the tokens of a text differently (rank "
            f"correlation below {UNSTABLE}, see the diagnostic 'stability'); ask for more with n_samples",
            UnstableScoresWarning,
            stacklevel=2,
        )
    return replace(reduced(values[:, None], batch, reduction), diagnostics={"stability": stability})
