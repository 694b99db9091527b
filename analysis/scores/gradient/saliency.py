"""Saliency: gradient x input at the input of every layer, the training target of AdapLeR."""

from __future__ import annotations

from typing import Any

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import TO_OUTPUT, register_variant, scoring_method
from analysis.scores.shared.gradients import gradient_pass
from analysis.scores.shared.targets import Target


@scoring_method(
    "saliency",
    paper="https://arxiv.org/abs/1611.07270",
    needs="gradient",
    title="Saliency",
    cost="1 forward + backward",
    reads=(),
    scope=TO_OUTPUT,
)
def saliency(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Saliency: norm of gradient x input at the input of every layer.

    Formula: score_i^l = || (d value / d h_i^l) * h_i^l ||_2, divided by the sum over the real tokens.
    Layer: from the layer to the output. Layer 0 has the embeddings' saliency, AdapLeR's training target.
    Cost: 1 forward + backward for all layers, shared with the other gradient methods.
    Misleads: it has no sign: evidence for and against the target score alike. Above layer 0 a position's state
        is a mix of tokens, and its score is the mix's.
    Reference: Kindermans et al. (2016), Investigating the Influence of Noise and Distractors,
        https://arxiv.org/abs/1611.07270; as AdapLeR's target: Modarressi et al. (2022), section 3.3, https://aclanthology.org/2022.acl-long.1
    """
    return LayerScores(normalise(gradient_pass(model, batch, target).product_norm, batch.attention_mask))


register_variant("saliency_gold", "saliency", title="Saliency (gold)", target="gold")
