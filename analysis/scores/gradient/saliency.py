"""Layer-wise gradients and gradient x input, at the input of every layer.

Simonyan et al. (2014), https://arxiv.org/abs/1312.6034 (gradient); Kindermans et al. (2016),
https://arxiv.org/abs/1611.07270 (gradient x input). `saliency` is the training target of AdapLeR
(`adapler.backbones.saliency.layer_saliency`). All of them read one backward pass.
"""

from __future__ import annotations

from typing import Any

from analysis.scores.base import Batch, LayerScores, normalise, scoring_method
from analysis.scores.shared.forward import Target
from analysis.scores.shared.gradients import gradient_pass

GRADIENT = "https://arxiv.org/abs/1312.6034"
GRADIENT_X_INPUT = "https://arxiv.org/abs/1611.07270"
COST = "1 forward + backward"


@scoring_method("saliency", paper=GRADIENT_X_INPUT, needs="gradient", title="Saliency", cost=COST, reads=())
def saliency(model: Any, batch: Batch) -> LayerScores:
    """|| (d logit / d h_i^l) * h_i^l ||_2 of the predicted class."""
    return LayerScores(normalise(gradient_pass(model, batch, "predicted").product_norm, batch.attention_mask))


@scoring_method(
    "saliency_gold",
    paper=GRADIENT_X_INPUT,
    needs=("gradient", "labels"),
    title="Saliency (gold)",
    cost=COST,
    reads="labels",
)
def saliency_gold(model: Any, batch: Batch) -> LayerScores:
    """Saliency of the gold class."""
    return LayerScores(normalise(gradient_pass(model, batch, "gold").product_norm, batch.attention_mask))


@scoring_method(
    "saliency_signed", paper=GRADIENT_X_INPUT, needs="gradient", title="Saliency (signed)", cost=COST, reads=()
)
def saliency_signed(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """(d logit / d h_i^l) . h_i^l: the sum over the width, with its sign."""
    return LayerScores(gradient_pass(model, batch, target).product_sum, signed=True)


@scoring_method("gradient_l1", paper=GRADIENT, needs="gradient", title="Gradient (L1)", cost=COST, reads=())
def gradient_l1(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """|| d logit / d h_i^l ||_1."""
    return LayerScores(normalise(gradient_pass(model, batch, target).norm_1, batch.attention_mask))


@scoring_method("gradient_l2", paper=GRADIENT, needs="gradient", title="Gradient (L2)", cost=COST, reads=())
def gradient_l2(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """|| d logit / d h_i^l ||_2."""
    return LayerScores(normalise(gradient_pass(model, batch, target).norm_2, batch.attention_mask))
