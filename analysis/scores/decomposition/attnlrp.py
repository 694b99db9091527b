"""AttnLRP: relevance passed back through attention's softmax too."""

from __future__ import annotations

from typing import Any

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import TO_OUTPUT, scoring_method
from analysis.scores.shared.detached import detached_pass
from analysis.scores.shared.inputs import Sign, reduced
from analysis.scores.shared.targets import Target


@scoring_method(
    "attnlrp",
    paper="https://arxiv.org/abs/2402.05602",
    needs="gradient",
    title="AttnLRP",
    cost="1 forward + backward",
    reads=(),
    scope=TO_OUTPUT,
)
def attnlrp(model: Any, batch: Batch, *, reduction: Sign = "signed", target: Target = "predicted") -> LayerScores:
    """AttnLRP: layer-wise relevance propagation with rules for attention, as a gradient with changed parts.

    Formula: score_i^l = h_i^l . dF/dh_i^l, where the ratios f(u) / u of the activations and the layer-norm deviations
        are constants, the softmax passes its ordinary gradient on, and a product of two states (query times key,
        attention times value) passes half of the gradient to each. Each rule has epsilon 0.
        reduction=positive or absolute: that part of the scores, divided by its sum.
    Layer: from the layer to the output.
    Cost: 1 forward + backward for all layers, with the slower eager attention.
    Misleads: the halves at products make scores of different layers differ in size. They do not add up to the
        target: softmax and biases keep a part. Scores have a sign by default: for FPR, TPR and the headline figure take
        reduction=positive or absolute. The authors' software (LRP-eXplains-Transformers) says in its licence that
        the method is patented technology, free for personal and scientific use; this is written from the paper's
        equations, and whoever wants to use it in a product should ask them.
    Reference: Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin and Samek (2024), AttnLRP,
        https://arxiv.org/abs/2402.05602
    """
    return reduced(detached_pass(model, batch, target, softmax=True).relevance, batch, reduction)
