"""The L2 norm of the gradient."""

from __future__ import annotations

from typing import Any

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import TO_OUTPUT, scoring_method
from analysis.scores.shared.gradients import gradient_pass
from analysis.scores.shared.targets import Target


@scoring_method(
    "gradient_l2",
    paper="https://arxiv.org/abs/1312.6034",
    needs="gradient",
    title="Gradient (L2)",
    cost="1 forward + backward",
    reads=(),
    scope=TO_OUTPUT,
)
def gradient_l2(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Gradient, L2 norm: how strongly the target reacts to a small change of a token's state.

    Formula: score_i^l = || d value / d h_i^l ||_2, divided by the sum over the real tokens.
    Layer: from the layer to the output.
    Cost: 1 forward + backward for all layers, shared with the other gradient methods.
    Misleads: it says how sensitive the target is, not what the token gave to it; it has no sign.
    Reference: Simonyan, Vedaldi and Zisserman (2014), Deep Inside Convolutional Networks, https://arxiv.org/abs/1312.6034
    """
    return LayerScores(normalise(gradient_pass(model, batch, target).norm_2, batch.attention_mask))
