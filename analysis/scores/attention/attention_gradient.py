"""Attention x gradient relevance, accumulated from a layer to the output.

The paper has one relevance map, R^0. Here every layer has one: R^l starts at layer l, so that its [CLS] row
says how much the token that *enters* layer l weighs in the prediction, as saliency at layer l does, and layer 0
is the paper's map. The row starts as the unit vector of [CLS], which only says that [CLS] is itself; it is taken
off. As with rollout, only rows are multiplied, never two N x N matrices.
"""

from __future__ import annotations

from typing import Any

from adapler.backbones.attribution.attention import accumulated
from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import TO_OUTPUT, scoring_method
from analysis.scores.shared.attention_gradients import attention_gradient_maps
from analysis.scores.shared.targets import Target


@scoring_method(
    "attention_gradient",
    paper="https://arxiv.org/abs/2103.15679",
    needs=("attention", "gradient"),
    title="Attention x gradient",
    cost="1 forward + backward",
    reads=(),
    scope=TO_OUTPUT,
)
def attention_gradient(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Attention x gradient: attention weighted by its gradient, multiplied from layer l up to the output.

    Formula: Abar^l = mean over heads of max(d value / d A^l * A^l, 0)     (equation 5 of the paper)
        R^l = (I + Abar^(L-1)) ... (I + Abar^l)     (equation 6); score^l is the [CLS] row of R^l - I.
    Layer: from the layer to the output. Layer 0 is the paper's map.
    Cost: 1 forward + backward, with the slower eager attention.
    Misleads: one strong layer, mostly the last, fills the rows of all layers below it: nearly equal scores in
        every layer say nothing about each of them. `attention_gradient_local` has each layer alone. Evidence against
        the target is cut off at 0.
    Reference: Chefer, Gur and Wolf (2021), Generic Attention-model Explainability, https://arxiv.org/abs/2103.15679
    """
    relevance = accumulated(attention_gradient_maps(model, batch, target))  # (B, L, N)
    return LayerScores(normalise(relevance.clamp_min(0), batch.attention_mask))
