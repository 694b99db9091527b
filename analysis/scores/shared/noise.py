"""Gradients at inputs with noise on them, for SmoothGrad and VarGrad; through captum.

B batch, n tokens of one document, D embedding size
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from captum.attr import NoiseTunnel, Saliency

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import (
    PASS_TOKENS,
    TargetValue,
    embeddings,
    forward_arguments,
    seeded,
    singles,
)
from analysis.scores.shared.targets import Target


def noisy_gradients(
    model: Any,
    batch: Batch,
    statistic: Literal["smoothgrad", "vargrad"],
    *,
    n_samples: int,
    noise: float,
    target: Target,
) -> LayerScores:
    """The norm over the width of the mean, or variance, of the gradients at `n_samples` noisy word embeddings.

    noise: deviation of the noise as a share of (largest - smallest entry) of the document's embeddings.
    """
    twin = working_copy(model)
    function = NoiseTunnel(Saliency(TargetValue(twin)))
    values = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)  # (B, N)
    for row, single in singles(batch):
        vectors = embeddings(twin, single.input_ids)  # (1, n, D)
        deviation = noise * float(vectors.max() - vectors.min())
        with seeded(batch, row):
            found = function.attribute(
                vectors.requires_grad_(),
                nt_type=statistic,
                nt_samples=n_samples,
                nt_samples_batch_size=min(n_samples, max(1, PASS_TOKENS // vectors.shape[1])),
                stdevs=deviation,
                abs=False,
                additional_forward_args=forward_arguments(twin, single, target),
            )
        values[row, : vectors.shape[1]] = found.detach().float().norm(dim=-1)[0]
    return LayerScores(normalise(values[:, None], batch.attention_mask))
