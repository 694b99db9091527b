"""DeepLIFT, rescale rule: Shrikumar, Greenside and Kundaje (2017), https://arxiv.org/abs/1704.02685; through captum.

    attribution = (x - b) * multiplier        x: word embeddings, b: those of the baseline input

captum applies the rule to the activations it knows as modules (the tanh of BERT's pooler, for one). Attention's
softmax, GELU and layer norm are no such modules: they pass the ordinary gradient on, and what that costs in
completeness is reported as `completeness_gap`.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from captum.attr import DeepLift

from analysis.scores.base import Batch, LayerScores, scoring_method
from analysis.scores.shared.forward import Target, as_found
from analysis.scores.shared.inputs import (
    Baseline,
    Reduction,
    TargetLogit,
    embeddings,
    forward_arguments,
    input_reference,
    reduced,
    with_gap,
)


@scoring_method(
    "deeplift",
    paper="https://arxiv.org/abs/1704.02685",
    needs="gradient",
    title="DeepLIFT",
    layerwise=False,
    cost="2 forwards + backwards",
    reads=(),
)
def deeplift(
    model: Any,
    batch: Batch,
    *,
    baseline: Baseline = "mask",
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """DeepLIFT attributions of the word embeddings."""
    with as_found(model):
        arguments = forward_arguments(model, batch, target)
        inputs, reference = embeddings(model, batch.input_ids), input_reference(model, batch, baseline)
        function = TargetLogit(model)
        with warnings.catch_warnings():  # that it sets hooks and takes them away: as_found holds it to that
            warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
            values = DeepLift(function).attribute(
                inputs.requires_grad_(), baselines=reference, additional_forward_args=arguments
            )
        with torch.no_grad():
            expected = function(inputs, *arguments) - function(reference, *arguments)  # (B,)
    values = values.detach() * batch.attention_mask[..., None]  # (B, N, D)
    total = values.float().sum((1, 2))
    return with_gap(reduced(values[:, None], batch, reduction), total[:, None], expected[:, None])
