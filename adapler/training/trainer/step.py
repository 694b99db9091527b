"""The losses of a training batch, and the gradients of the thresholds.

Dimensions: B batch, N tokens, L layers, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapler.training.losses import (
    contribution_loss,
    contribution_target,
    length_loss,
    logit_distillation,
    state_distillation,
)
from adapler.training.settings import Objectives


def losses_of(
    output: Any,
    saliency: Tensor,
    *,
    theta: Tensor,
    teacher: tuple[Tensor, Tensor] | None = None,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """The losses of a batch, scalars, by the names that the log gives them.

    Args:
        output: AdapLeROutput of a forward pass in soft mode, with labels.
        saliency: (B, N) or (B, L, N) targets.
        theta: (L - 1,).
        teacher: logits (B, C) and last hidden states (B, D) of the classifier to distil from; None: no such losses.
        temperature: of the logits' distributions.
    """
    target = contribution_target(saliency, output.log_presence, theta)  # (B, L, N)
    found = {
        "cross_entropy": output.loss.float(),
        "contribution_loss": contribution_loss(output.log_scores, target),
        "soft_length": length_loss(output.lengths.float()),
    }
    if teacher is not None:
        found["logit_distillation"] = logit_distillation(output.logits, teacher[0], temperature=temperature)
        if teacher[1].shape == output.head_states.shape:  # logits may be of a classifier of another width
            found["state_distillation"] = state_distillation(output.head_states, teacher[1])
    return found


def task_loss(losses: Mapping[str, Tensor], objectives: Objectives) -> Tensor:
    """Cross-entropy and, with a teacher, the weighted losses of distillation: a part of both objectives, scalar."""
    loss = losses["cross_entropy"]
    for name in ("logit_distillation", "state_distillation"):
        weight = getattr(objectives, name)
        if weight:
            loss = loss + weight * losses[name]
    return loss


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
    add_theta_gradient(theta, probe_gradient)


def add_theta_gradient(theta: nn.Parameter, probe_gradient: Tensor) -> None:
    """Add theta's gradient (L - 1,), from that of the factors on [CLS]'s scores, (L,)."""
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
