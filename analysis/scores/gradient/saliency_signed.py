"""Saliency with its sign."""

from __future__ import annotations

from typing import Any

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import TO_OUTPUT, scoring_method
from analysis.scores.shared.gradients import gradient_pass
from analysis.scores.shared.targets import Target


@scoring_method(
    "saliency_signed",
    paper="https://arxiv.org/abs/1611.07270",
    needs="gradient",
    title="Saliency (signed)",
    cost="1 forward + backward",
    reads=(),
    scope=TO_OUTPUT,
)
def saliency_signed(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Signed saliency: gradient times input, summed over the width, at the input of every layer.

    Formula: score_i^l = (d value / d h_i^l) . h_i^l. Not normalised: above 0 speaks for the target, below against it.
    Layer: from the layer to the output.
    Cost: 1 forward + backward for all layers, shared with the other gradient methods.
    Misleads: positive and negative parts of one token cancel. Scores with a sign have no selection at 1/n, hence
        no FPR and TPR; use `saliency` for those.
    Reference: Kindermans et al. (2016), Investigating the Influence of Noise and Distractors,
        https://arxiv.org/abs/1611.07270
    """
    return LayerScores(gradient_pass(model, batch, target).product_sum, signed=True)
