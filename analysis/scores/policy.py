"""Scores of whatever removal policy a model has."""

from __future__ import annotations

from typing import Any

import torch

from adapler.policies import ContributionPolicy
from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.contribution import adapler_pass, cp
from analysis.scores.registry import IN_LAYER, scoring_method


@scoring_method(
    "policy",
    paper="none",
    needs="adapler",
    title="Removal policy",
    cost="1 AdapLeR forward",
    reads="threshold_scale",
    scope=IN_LAYER,
)
def policy(model: Any, batch: Batch) -> LayerScores:
    """Removal policy: what the model's own policy gives to each token that is still there, whichever policy it is.

    Formula: score_i^l = max(s_i^l, 0), divided by its sum over the tokens present; s_i^l is the policy's score in
        layer l: AdapLeR's contribution score, Transkimmer's probability of keeping, LTP's attention received,
        PoWER-BERT's significance. 0 once a token is dropped, and in a layer where the policy does not decide.
    Layer: in the layer. The tokens present are those that the policy judges there: those that entered layer l - 1 for a
        policy that decides before a layer, those that entered layer l for one that decides after its attention.
    Cost: 1 AdapLeR forward.
    Misleads: scores of two policies are not alike: a probability near 1 for every token is shared out evenly here, and
        the policy's bar, not 1/n, says who stays. Dropped tokens are tied at 0.
    Reference: none
    """
    if model.config.policy == ContributionPolicy.name:
        return cp(model, batch)  # type: ignore[no-any-return]
    output = adapler_pass(model, batch)
    real = batch.attention_mask.bool()[:, None, :]  # (B, 1, N)
    entered = output.retention_mask.bool()  # (B, L, N)
    before = model.removal_policy.place == "before"
    present = torch.cat([real, entered[:, :-1]], dim=1) if before else entered
    scores = (output.contribution_scores.float() * present).clamp(min=0)
    return LayerScores(normalise(scores, batch.attention_mask), present)


def scores_of_removal(adapler: Any) -> str:
    """The method that shows why a model drops tokens: "cp" with AdapLeR's policy, else "policy"."""
    return "cp" if adapler.config.policy == ContributionPolicy.name else "policy"
