"""Thresholds, soft and hard removal: small pure pieces that everything else calls.

Dimensions: B batch, N tokens of a row, L layers, D hidden size. Source: Modarressi, Mohebbi and Pilehvar,
"AdapLeR: Speeding up Inference by Adaptive Length Reduction", ACL 2022, section 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adapler.errors import ArgumentError

# The attention weight of a key with this bias is exactly zero in every floating point format we use.
MASKED = -1e4
# Keeps the slope of soft removal finite when a threshold reaches 1, in inputs of one or two tokens.
MIN_HEADROOM = 1e-2
# Keeps it finite when threshold_scale is 0.
MIN_DELTA = 1e-12


def threshold(eta: Tensor, lengths: Tensor, *, scale: float = 1.0) -> Tensor:
    """Threshold delta = scale * eta / n.

    Args:
        eta: factor of one layer, scalar.
        lengths: tokens present when the layer's Contribution Predictor runs, (B,); soft lengths in soft mode.
        scale: call-time factor on eta; 0 keeps every token.

    Returns:
        (B,) thresholds.
    """
    return scale * eta / lengths


def retention(scores: Tensor, delta: Tensor, *, is_cls: Tensor | None = None) -> Tensor:
    """Hard removal: the keep mask of the present tokens. [CLS] always does (AdapLeR, section 3.2).

    Args:
        scores: contribution scores of present tokens, any shape; compared in float32 or better.
        delta: thresholds, broadcastable to scores.
        is_cls: bool, shape of scores. None: the caller sees to [CLS].

    Returns:
        bool, shape of scores; True = the token enters the layer.
    """
    exact = torch.promote_types(scores.dtype, torch.float32)
    reached = scores.to(exact) >= delta.to(exact)
    return reached if is_cls is None else reached | is_cls


def soft_removal(
    scores: Tensor, delta: Tensor, *, slope: float, beta: float = 0.1, gradient_slope: float = math.inf
) -> Tensor:
    """Soft removal function (AdapLeR, eq. 5): what is added to the attention logits of each key.

        M = clip(min((slope/delta)(S - delta) - beta/slope, (S - 1)(beta/slope)/(1 - delta)), -1e4, 0)

    Steep below the threshold, nearly flat above it; -beta/slope at the threshold and 0 at S = 1.

    At the slopes of the last epochs the few tokens at the threshold have gradients in the hundreds, which drown
    everything else once gradients are clipped. `gradient_slope` bounds that (our choice, not the paper's): M is as
    above, its gradient is that of a slope of at most gradient_slope.

    Args:
        scores: contribution scores S in [0, 1], any shape.
        delta: thresholds in [0, 1], broadcastable to scores; 0 removes nothing.
        slope: lambda > 0; grows by epoch.
        beta: see above, > 0.
        gradient_slope: > 0; the default leaves the gradient as it is.

    Returns:
        M, shape of scores, in [-1e4, 0].

    Raises:
        ArgumentError: slope, beta or gradient_slope is not above 0.
    """
    if not slope > 0:
        raise ArgumentError(f"slope: {slope} is not above 0")
    if not beta > 0:
        raise ArgumentError(f"beta: {beta} is not above 0")
    if not gradient_slope > 0:
        raise ArgumentError(f"gradient_slope: {gradient_slope} is not above 0")
    if slope > gradient_slope:
        steep = soft_removal(scores.detach(), delta.detach(), slope=slope, beta=beta)
        gentle = soft_removal(scores, delta, slope=gradient_slope, beta=beta)
        return steep + (gentle - gentle.detach())  # the value of one, the gradient of the other
    below = slope / delta.clamp(min=MIN_DELTA) * (scores - delta) - beta / slope
    above = (scores - 1) * (beta / slope) / (1 - delta).clamp(min=MIN_HEADROOM)
    return torch.minimum(below, above).clamp(MASKED, 0)
