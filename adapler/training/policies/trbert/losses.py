"""What TR-BERT's policy learns from: rewards of drawn decisions (Ye et al., NAACL 2021).

Dimensions: K samples of each text, B texts, P points, C labels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reward(losses: Tensor, kept: Tensor, *, alpha: float) -> Tensor:
    """R_k = -loss_k - alpha * mean over the points of (tokens kept / length), (K, B), without a gradient.

    Args:
        losses: (K, B) of the classifier on what is left of each text.
        kept: (P, K, B) shares of the text's own tokens that stay at each point, [CLS] among them.
        alpha: what a text that is kept whole costs.
    """
    return (-losses - alpha * kept.mean(0)).detach()


def policy_loss(rewards: Tensor, nll: Tensor) -> Tensor:
    """1 / (K B) sum (R_k - mean_k R) NLL_k, scalar: REINFORCE with the mean of a text's samples as its baseline.

    Each sample is part of its own baseline, so the expected gradient is (K - 1) / K of the reward's. There is no
    division by the rewards' standard deviation.

    Args:
        rewards: (K, B).
        nll: (K, B) negative log-likelihood of the decisions, with a gradient.
    """
    advantage = (rewards - rewards.mean(0)).detach()
    return (advantage * nll).mean()


def soft_cross_entropy(logits: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """-sum_c softmax(teacher / t) log softmax(logits / t) of each text; (..., C) each -> (...)."""
    goal = (teacher.float() / temperature).softmax(-1)
    return -(goal * (logits.float() / temperature).log_softmax(-1)).sum(-1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """(K, B) cross-entropy of logits (K, B, C) with labels (B,)."""
    return -logits.float().log_softmax(-1).gather(-1, labels.expand(len(logits), -1)[..., None])[..., 0]


def repeated(values: Tensor, samples: int) -> Tensor:
    """(B, ...) -> (K B, ...): the texts one after the other, K times."""
    return torch.cat([values] * samples)
