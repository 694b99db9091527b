"""The path integral of integrated gradients, through captum.

B batch, N padded length, D width of what is integrated over
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from analysis.scores.shared.inputs import PASS_TOKENS


def integrate(
    function: Callable[..., Tensor],
    inputs: Tensor,
    reference: Tensor,
    *,
    arguments: tuple[Tensor, ...],
    real: Tensor,
    n_steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attributions (B, N, D), their sums (B,) and F(x) - F(baseline) (B,), by Gauss-Legendre in `n_steps` points."""
    n_batch, n_tokens = inputs.shape[:2]
    values: Tensor = IntegratedGradients(function).attribute(
        inputs,
        baselines=reference,
        additional_forward_args=arguments,
        n_steps=n_steps,
        internal_batch_size=max(n_batch, PASS_TOKENS // n_tokens),
    )
    values = values.detach() * real[..., None].to(values.device)
    with torch.no_grad():
        expected = function(inputs, *arguments) - function(reference, *arguments)
    return values, values.float().sum((1, 2)), expected
