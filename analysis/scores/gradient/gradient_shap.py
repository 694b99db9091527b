"""GradientSHAP (expected gradients); through captum."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from captum.attr import GradientShap

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import (
    Reduction,
    TargetValue,
    embeddings,
    forward_arguments,
    input_reference,
    reduced,
    seeded,
    singles,
    with_gap,
)
from analysis.scores.shared.targets import Target
from analysis.scores.specs import AtLeast


@scoring_method(
    "gradient_shap",
    paper="https://arxiv.org/abs/1705.07874",
    needs="gradient",
    title="GradientSHAP",
    cost="n_samples forwards + backwards",
    reads="seed",
    scope=AT_INPUT,
)
def gradient_shap(
    model: Any,
    batch: Batch,
    *,
    n_samples: Annotated[int, AtLeast(1)] = 20,
    noise: Annotated[float, AtLeast(0)] = 0.1,
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """GradientSHAP: expected gradients of the word embeddings over random baselines and random points on the way.

    Formula: score = mean over samples of (x - b) * dF(b + a (x - b)) / dx, summed over the width; a drawn evenly from
        [0, 1], b from the zero vectors and the embeddings of the masked text, and x carries Gaussian noise of
        `noise` standard deviations of the document's embeddings.
    Layer: at the input. There is one score a token.
    Cost: n_samples forwards + backwards.
    Misleads: scores add up to F(x) - E F(b) in expectation only; `completeness_gap` says how nearly. The draws depend
        on the seed and the document's id. Scores have a sign by default: for FPR, TPR and the headline figure take
        reduction=absolute, positive or l2.
    Reference: Lundberg and Lee (2017), A Unified Approach to Interpreting Model Predictions,
        https://arxiv.org/abs/1705.07874
    """
    twin = working_copy(model)
    values, gaps = None, []
    for row, single in singles(batch):
        with seeded(batch, row):
            arguments = forward_arguments(twin, single, target)
            inputs = embeddings(twin, single.input_ids).requires_grad_()  # (1, n, D)
            references = torch.cat([input_reference(twin, single, kind) for kind in ("zero", "mask")])
            function = TargetValue(twin)
            drawn = GradientShap(function).attribute(
                inputs,
                references,
                n_samples=n_samples,
                stdevs=noise * float(inputs.detach().std()),
                additional_forward_args=arguments,
            )
            with torch.no_grad():
                pairs = tuple(argument.expand(2, *argument.shape[1:]) for argument in arguments)
                expected = function(inputs, *arguments) - function(references, *pairs).mean()  # (1,)
        if values is None:
            values = drawn.new_zeros(*batch.input_ids.shape, drawn.shape[-1])  # (B, N, D)
        values[row, : drawn.shape[1]] = drawn[0].detach()
        gaps.append((drawn.detach().float().sum(), expected[0]))
    total, expected = (torch.stack(column)[:, None] for column in zip(*gaps, strict=True))  # (B, 1)
    return with_gap(reduced(values[:, None], batch, reduction), total, expected)  # type: ignore[index]
