"""DeepLIFT; through captum."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from captum.attr import DeepLift

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import (
    Baseline,
    Reduction,
    TargetValue,
    embeddings,
    forward_arguments,
    input_reference,
    reduced,
    with_gap,
)
from analysis.scores.shared.targets import Target


@scoring_method(
    "deeplift",
    paper="https://arxiv.org/abs/1704.02685",
    needs="gradient",
    title="DeepLIFT",
    cost="2 forwards + backwards",
    reads=(),
    scope=AT_INPUT,
)
def deeplift(
    model: Any,
    batch: Batch,
    *,
    baseline: Baseline = "mask",
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """DeepLIFT, rescale rule: differences from a masked text, passed back through the network.

    Formula: score = (x - b) * multiplier, summed over the width. x: the word embeddings, b: those of the baseline;
        the multiplier of a non-linear unit is its difference in output over its difference in input.
    Layer: at the input. There is one score a token.
    Cost: 2 forwards + backwards.
    Misleads: captum applies the rule to the activations that it knows as modules (the tanh of BERT's pooler, for
        one). Attention's softmax, GELU and layer norm are no such modules and pass the plain gradient on; what that
        costs is `completeness_gap`. Scores have a sign by default: for FPR, TPR and the headline figure take
        reduction=absolute, positive or l2.
    Reference: Shrikumar, Greenside and Kundaje (2017), Learning Important Features Through Propagating Activation
        Differences, https://arxiv.org/abs/1704.02685
    """
    twin = working_copy(model)
    arguments = forward_arguments(model, batch, target)
    inputs, reference = embeddings(twin, batch.input_ids), input_reference(twin, batch, baseline)
    function = TargetValue(twin)
    with warnings.catch_warnings():  # that it sets hooks and takes them away: they are on the working copy
        warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
        values = DeepLift(function).attribute(
            inputs.requires_grad_(), baselines=reference, additional_forward_args=arguments
        )
    with torch.no_grad():
        expected = function(inputs, *arguments) - function(reference, *arguments)  # (B,)
    values = values.detach() * batch.attention_mask[..., None]  # (B, N, D)
    total = values.float().sum((1, 2))
    return with_gap(reduced(values[:, None], batch, reduction), total[:, None], expected[:, None])
