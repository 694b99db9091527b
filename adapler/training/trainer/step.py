"""The losses of a training batch, and the gradients of the thresholds.

Dimensions: B batch, N tokens, L layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adapler.training.losses import contribution_loss, contribution_target, length_loss


def losses_of(output: Any, saliency: Tensor, *, theta: Tensor) -> dict[str, Tensor]:
    """The three losses of a batch, scalars, by the names that the log gives them.

    Args:
        output: AdapLeROutput of a forward pass in soft mode, with labels.
        saliency: (B, N) or (B, L, N) targets.
        theta: (L - 1,).
    """
    target = contribution_target(saliency, output.log_presence, theta)  # (B, L, N)
    return {
        "cross_entropy": output.loss.float(),
        "contribution_loss": contribution_loss(output.log_scores, target),
        "soft_length": length_loss(output.lengths.float()),
    }


def add_threshold_gradients(loss: Tensor, *, eta: nn.Parameter, theta: nn.Parameter, probe: Tensor) -> None:
    """Add the gradients of eta and theta, and of nothing else; the graph is kept.

    Args:
        loss: the second objective, scalar.
        eta: (L,).
        theta: (L - 1,).
        probe: (L,) factors of 1 that the forward pass had on [CLS]'s scores.
    """
    eta_gradient, probe_gradient = torch.autograd.grad(loss, [eta, probe], retain_graph=True)
    _accumulate(eta, eta_gradient)
    # The factor multiplies theta, so d/d theta = d/d factor / theta; layer 0 has no theta.
    _accumulate(theta, probe_gradient[1:] / theta.detach())


def average_over_processes(*parameters: nn.Parameter, processes: int) -> None:
    """Give every process the mean of all processes' gradients, as DistributedDataParallel does for the others."""
    if processes > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= processes


def _accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
