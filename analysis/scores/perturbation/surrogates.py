"""LIME and KernelSHAP: a linear model of the logit over which content tokens are there; through captum.

Ribeiro, Singh and Guestrin (2016), https://arxiv.org/abs/1602.04938; Lundberg and Lee (2017),
https://arxiv.org/abs/1705.07874. A token's score is its weight in the linear model. Special tokens are always there
and score 0. The draws depend on the seed and on the document's id.

LIME as its text explainer has it: tokens kept with probability 1/2 each (captum's sampler; the authors' own draws
the number of removed tokens first), kernel exp(-d^2 / kernel_width^2) with square root, d the cosine distance,
ridge regression with penalty 1. captum's kernel is exp(-d^2 / (2 kernel_width^2)), the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap, Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function
from torch import Tensor

from analysis.scores.base import Batch, LayerScores, scoring_method
from analysis.scores.shared.forward import Target, as_found
from analysis.scores.shared.inputs import (
    Presence,
    Sign,
    at_least,
    presence,
    reduced,
    seeded,
    singles,
)


@scoring_method(
    "lime",
    paper="https://arxiv.org/abs/1602.04938",
    title="LIME",
    layerwise=False,
    cost="n_samples forwards",
    reads="seed",
)
def lime(
    model: Any,
    batch: Batch,
    *,
    n_samples: int = 500,
    kernel_width: float = 0.25,
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Weights of a ridge regression on samples weighted by their closeness to the whole document."""
    at_least("kernel_width", kernel_width, 1e-6)
    kernel = get_exp_kernel_similarity_function("cosine", kernel_width)

    def explain(document: Presence, whole: Tensor) -> Tensor:
        method = Lime(document.logit, interpretable_model=SkLearnRidge(alpha=1.0), similarity_func=kernel)
        return _attribute(method, document, whole, n_samples)

    return _surrogate(model, batch, explain, n_samples=n_samples, reduction=reduction, target=target)


@scoring_method(
    "kernel_shap",
    paper="https://arxiv.org/abs/1705.07874",
    title="KernelSHAP",
    layerwise=False,
    cost="n_samples forwards",
    reads="seed",
)
def kernel_shap(
    model: Any,
    batch: Batch,
    *,
    n_samples: int = 500,
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Shapley values estimated from samples drawn by the Shapley kernel."""

    def explain(document: Presence, whole: Tensor) -> Tensor:
        return _attribute(KernelShap(document.logit), document, whole, n_samples)

    return _surrogate(model, batch, explain, n_samples=n_samples, reduction=reduction, target=target)


def _attribute(method: Any, document: Presence, whole: Tensor, n_samples: int) -> Tensor:
    values: Tensor = method.attribute(whole, n_samples=n_samples, perturbations_per_eval=document.per_pass)
    return values


def _surrogate(
    model: Any,
    batch: Batch,
    explain: Callable[[Presence, Tensor], Tensor],
    *,
    n_samples: int,
    reduction: Sign,
    target: Target,
) -> LayerScores:
    at_least("n_samples", n_samples, 2)
    values = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)  # (B, N)
    for row, single in singles(batch):
        with as_found(model), seeded(batch, row):
            document = presence(model, single, target)
            n_content = len(document.positions)
            whole = torch.ones(1, n_content, device=values.device)
            if n_content == 1:  # nothing to sample: there are two inputs, and their difference is exact
                found = document.logit(whole) - document.logit(1 - whole)
            elif n_content:
                found = explain(document, whole)[0]
            else:
                continue
            values[row, document.positions] = found.to(values)
    return reduced(values[:, None], batch, reduction)
