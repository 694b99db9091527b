"""Scores of AdapLeR's Contribution Predictors."""

from __future__ import annotations

from typing import Any

import torch

from adapler.errors import ArgumentError
from adapler.policies import ContributionPolicy
from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import IN_LAYER, scoring_method
from analysis.scores.shared.forward import answering
from analysis.scores.shared.precision import full_precision


def adapler_pass(model: Any, batch: Batch) -> Any:
    """The AdapLeR model's output in hard mode, in the format of its weights; computed once per batch."""

    def compute() -> Any:
        ready = answering(model)
        with torch.no_grad(), full_precision(batch):
            return ready(**batch.model_inputs(), removal="hard", threshold_scale=batch.threshold_scale)

    return batch.shared(model, "adapler_pass", compute)


@scoring_method(
    "cp",
    paper="https://aclanthology.org/2022.acl-long.1",
    needs="adapler",
    title="AdapLeR CP",
    cost="1 AdapLeR forward",
    reads="threshold_scale",
    scope=IN_LAYER,
)
def cp(model: Any, batch: Batch) -> LayerScores:
    """Contribution scores: what AdapLeR's predictor of layer l gives to each token that is still there.

    Formula: score_i^l = S~_i^l = softmax over the tokens present of CP_l(h_i^l); 0 once a token is dropped.
    Layer: in the layer. The tokens present in layer 0 are all real ones, in layer l those that entered layer l - 1.
    Cost: 1 AdapLeR forward.
    Misleads: a dropped token scores 0 in all later layers, and most tokens are dropped early: ties at 0 decide
        rankings, and FPR at 1/n depends on which n - that of the input, or that of the tokens present, which the
        thresholds use. The predictors are trained to imitate saliency; they do not read the prediction.
    Reference: Modarressi, Mohebbi and Pilehvar (2022), AdapLeR, https://aclanthology.org/2022.acl-long.1
    """
    if model.config.policy != ContributionPolicy.name:
        raise ArgumentError(f"method 'cp': this model's policy is {model.config.policy!r}; its scores are 'policy'")
    output = adapler_pass(model, batch)
    real = batch.attention_mask.bool()[:, None, :]  # (B, 1, N)
    present = torch.cat([real, output.retention_mask[:, :-1].bool()], dim=1)  # (B, L, N)
    return LayerScores(output.contribution_scores.float() * real, present)
