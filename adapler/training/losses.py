"""The two losses that AdapLeR adds to cross-entropy, and two of distillation (ours).

Dimensions: B batch, L layers, N tokens, C labels, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def contribution_target(saliency: Tensor, log_presence: Tensor, theta: Tensor) -> Tensor:
    """Target distribution of each layer's contribution scores (AdapLeR, section 3.3), a constant for autograd.

        S^^l = saliency * m^(l-1), [CLS]'s entry times theta^l (l >= 1), renormalised over present tokens

    Args:
        saliency: (B, N), or (B, L, N) where each layer has its own; >= 0, 0 at padding, [CLS] in column 0.
        log_presence: (B, L, N), accumulated soft mask of the layers before l.
        theta: (L - 1,).

    Returns:
        (B, L, N), rows sum to 1 (to 0 where the saliency is 0 everywhere).
    """
    by_layer = saliency if saliency.dim() == 3 else saliency[:, None, :]  # (B, L or 1, N)
    target = by_layer * log_presence.detach().exp()  # (B, L, N)
    share = torch.cat([theta.new_ones(1), theta.detach()])  # (L,): layer 0 has no theta
    target[:, :, 0] = target[:, :, 0] * share
    return target / target.sum(-1, keepdim=True).clamp(min=1e-12)


def contribution_loss(log_scores: Tensor, target: Tensor) -> Tensor:
    """L_CP = sum_l (L - l) * mean_batch KL(target^l || scores^l) (AdapLeR, eq. 4), scalar; (B, L, N) each."""
    divergence = (torch.xlogy(target, target) - target * log_scores).sum(-1)  # (B, L)
    layers = divergence.shape[1]
    weight = torch.arange(layers, 0, -1, device=divergence.device)  # L, L - 1, ..., 1
    return (divergence.mean(0) * weight).sum()


def length_loss(lengths: Tensor) -> Tensor:
    """L_len = mean_batch sum_l (soft length of layer l) (AdapLeR, eq. 7), scalar; lengths (B, L)."""
    return lengths.sum(-1).mean()


def logit_distillation(logits: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """t^2 * mean_batch KL(softmax(teacher / t) || softmax(logits / t)) (Hinton et al., 2015), scalar; (B, C) each."""
    goal = (teacher.float() / temperature).softmax(-1)
    divergence = torch.xlogy(goal, goal) - goal * (logits.float() / temperature).log_softmax(-1)  # (B, C)
    return temperature**2 * divergence.sum(-1).mean()


def state_distillation(states: Tensor, teacher: Tensor) -> Tensor:
    """Mean over batch and units of the squared distance of [CLS]'s last hidden states, scalar; (B, D) each."""
    return (states.float() - teacher.float()).square().mean()
