"""Layer-wise saliency, || (d logit / d h_i^l) ⊙ h_i^l ||_2: gradient x input at the input of every layer.

Simonyan et al. (2014), https://arxiv.org/abs/1312.6034; Kindermans et al. (2016), https://arxiv.org/abs/1611.07270.
The gradients of all layers come from one backward pass (`adapler.saliency.layer_saliency`).
"""

from __future__ import annotations

from typing import Any

from adapler.saliency import Target, layer_saliency
from analysis.scores.base import Batch, LayerScores, normalise, scoring_method
from analysis.scores.forward import as_found

PAPER = "https://arxiv.org/abs/1611.07270"


def _saliency(model: Any, batch: Batch, target: Target) -> LayerScores:
    with as_found(model):
        values = layer_saliency(model, batch.model_inputs(), target=target)  # (B, L, N)
    return LayerScores(normalise(values.detach(), batch.attention_mask))


@scoring_method("saliency", paper=PAPER, needs="gradient", title="Saliency")
def saliency(model: Any, batch: Batch) -> LayerScores:
    """Saliency of the predicted class."""
    return _saliency(model, batch, "predicted")


@scoring_method("saliency_gold", paper=PAPER, needs=("gradient", "labels"), title="Saliency (gold)")
def saliency_gold(model: Any, batch: Batch) -> LayerScores:
    """Saliency of the gold class."""
    return _saliency(model, batch, batch.gold())
