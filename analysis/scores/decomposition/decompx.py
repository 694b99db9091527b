"""DecompX in its detached form: the logit as a sum over the tokens and the biases, at every layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import TO_OUTPUT, scoring_method
from analysis.scores.shared.detached import detached_pass
from analysis.scores.shared.inputs import Sign, reduced, with_gap
from analysis.scores.shared.targets import Target


@scoring_method(
    "decompx",
    paper="https://aclanthology.org/2023.acl-long.149",
    needs="gradient",
    title="DecompX",
    cost="1 forward + backward",
    reads=(),
    scope=TO_OUTPUT,
)
def decompx(model: Any, batch: Batch, *, reduction: Sign = "signed", target: Target = "predicted") -> LayerScores:
    """DecompX: the part of the target that each position's state adds, with all non-linear parts held constant.

    Formula: score_i^l = h_i^l . dF/dh_i^l in the network whose attention probabilities, layer-norm deviations and
        ratios f(u) / u of the activations are constants. sum over i of score_i^l + part of the biases = F(x).
        reduction=positive or absolute: that part of the scores, divided by its sum.
    Layer: from the layer to the output. Layer 0 decomposes the target into the tokens' embeddings (with position and
        segment); in the layers above, into the states that enter the layer.
    Cost: 1 forward + backward for all layers, with the slower eager attention.
    Misleads: the constants come from the whole text: what a token does by changing who attends to whom is not in its
        score. The biases' part has no token; `bias_share` is its size. `completeness_gap` says how far the sum is
        from the target: rounding, unless the model has a part that the rules do not know. Scores have a sign by
        default: for FPR, TPR and the headline figure take reduction=positive or absolute.
    Reference: Modarressi, Fayyaz, Aghazadeh, Yaghoobzadeh and Pilehvar (2023), DecompX,
        https://aclanthology.org/2023.acl-long.149, without its rule for biases ("NoBias"). They carry a
        vector for each pair of tokens through the network; holding the same parts constant, one backward pass gives
        the same numbers. A product of two states (a gate) is not in their paper: here each has half of it.
    """
    found = detached_pass(model, batch, target, softmax=False)
    total = found.relevance.sum(-1) + found.bias  # (B, L)
    value = found.value[:, None].expand_as(total)
    scores = with_gap(reduced(found.relevance, batch, reduction), total, value)
    shares = found.bias.abs() / (found.relevance.abs().sum(-1) + found.bias.abs()).clamp_min(1e-30)
    return replace(scores, diagnostics={**scores.diagnostics, "bias_share": shares})
