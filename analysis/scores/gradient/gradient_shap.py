"""GradientSHAP (expected gradients): Lundberg and Lee (2017), https://arxiv.org/abs/1705.07874; through captum.

The mean, over samples, of (x - b) * dF/dx at a random point between x and b, where b is drawn from the zero
vectors and the embeddings of the masked input, and x carries Gaussian noise. The draws depend on the seed and on
the document's id. Attributions add up to F(x) - E F(b) in expectation only; `completeness_gap` says how nearly.
"""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import GradientShap

from analysis.scores.base import Batch, LayerScores, scoring_method
from analysis.scores.shared.forward import Target, as_found
from analysis.scores.shared.inputs import (
    Reduction,
    TargetLogit,
    at_least,
    embeddings,
    forward_arguments,
    input_reference,
    reduced,
    seeded,
    singles,
    with_gap,
)


@scoring_method(
    "gradient_shap",
    paper="https://arxiv.org/abs/1705.07874",
    needs="gradient",
    title="GradientSHAP",
    layerwise=False,
    cost="n_samples forwards + backwards",
    reads="seed",
)
def gradient_shap(
    model: Any,
    batch: Batch,
    *,
    n_samples: int = 20,
    noise: float = 0.1,
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Expected gradients of the word embeddings; `noise` in standard deviations of the document's embeddings."""
    at_least("n_samples", n_samples, 1)
    at_least("noise", noise, 0)
    values, gaps = None, []
    for row, single in singles(batch):
        with as_found(model), seeded(batch, row):
            arguments = forward_arguments(model, single, target)
            inputs = embeddings(model, single.input_ids).requires_grad_()  # (1, n, D)
            references = torch.cat([input_reference(model, single, kind) for kind in ("zero", "mask")])
            function = TargetLogit(model)
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
