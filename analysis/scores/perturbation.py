"""Perturbation methods: the model is run again without some of the tokens; by captum.

M content tokens of one document, B batch, N padded length
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from captum.attr import KernelShap, Lime, Occlusion, ShapleyValueSampling
from captum.attr._core.lime import get_exp_kernel_similarity_function
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression, Ridge
from torch import Tensor
from torch.utils.data import DataLoader

from adapler.backbones.families import Target
from adapler.inference import working_copy
from analysis.scores.base import AtLeast, Batch, LayerScores, scoring_method
from analysis.scores.inputs import Presence, Sign, Token, reduced, seeded

Samples = Annotated[int, AtLeast(4)] | Literal["auto"]
Explainer = Callable[[Presence, Tensor], tuple[Tensor, float]]  # see `_by_document`
UNSTABLE = 0.5  # rank correlation of the two halves of the samples, below which a warning is given
_ANCHOR = 1e5  # KernelSHAP's weight of the whole and the empty text is above this: they belong to both halves


class UnstableScoresWarning(UserWarning):
    """The scores of a method that samples would be others with other samples."""


@scoring_method("occlusion", reads=())
def occlusion(
    model: Any,
    batch: Batch,
    *,
    window: Annotated[int, AtLeast(1)] = 1,
    replacement: Token = "mask",
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Occlusion: what the target loses when a token is replaced.

    Formula: score_i = F(x) - F(x without token i). With window = w the w tokens from i on go out together, and a
        token's score is the mean over the windows that hold it. Special tokens stay and score 0.
    Layer: at the input.
    Cost: n forwards.
    Misleads: a token that says what another one says as well loses nothing alone; the mask token is a word
        of its own to the model.
    Reference: Zeiler and Fergus (2014), Visualizing and Understanding Convolutional Networks,
        https://arxiv.org/abs/1311.2901
    """

    def explain(document: Presence, whole: Tensor) -> tuple[Tensor, float]:
        found = Occlusion(document.value).attribute(
            whole,
            sliding_window_shapes=(min(window, whole.shape[1]),),
            baselines=0.0,
            perturbations_per_eval=document.per_pass,
        )
        return found[0], 1.0

    return replace(_by_document("occlusion", explain, model, batch, replacement, reduction, target), diagnostics={})


@scoring_method("lime", reads="seed")
def lime(
    model: Any,
    batch: Batch,
    *,
    n_samples: Samples = "auto",
    kernel_width: Annotated[float, AtLeast(1e-6)] = 0.25,
    replacement: Token = "mask",
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """LIME: a linear model of the target over which tokens are there, fitted close to the whole text.

    Formula: score_i = weight of token i in a ridge regression (penalty 1) of F on samples that keep each content token
        with probability 1/2, weighted by the square root of exp(-d^2 / kernel_width^2), d the cosine distance to the
        whole text. n_samples=auto is min(2 M + 2048, 32 * 2^M) for M content tokens. Special tokens stay and score 0.
    Layer: at the input.
    Cost: n_samples forwards: about 3,000 for a text of 510 tokens.
    Misleads: with few samples it is mostly noise: `stability` is the rank correlation of the scores from the two halves
        of the samples, and a warning is given below 0.5. Samples that keep few or many tokens are rare.
    Reference: Ribeiro, Singh and Guestrin (2016), "Why Should I Trust You?", https://arxiv.org/abs/1602.04938
    """
    kernel = get_exp_kernel_similarity_function("cosine", kernel_width)

    def explainer(document: Presence, regression: Halves) -> Any:
        return Lime(document.value, interpretable_model=regression, similarity_func=kernel)

    explain = _surrogate(explainer, lambda: Ridge(alpha=1.0), n_samples)
    return _by_document("lime", explain, model, batch, replacement, reduction, target)


@scoring_method("kernel_shap", reads="seed")
def kernel_shap(
    model: Any,
    batch: Batch,
    *,
    n_samples: Samples = "auto",
    replacement: Token = "mask",
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """KernelSHAP: Shapley values of the tokens, estimated from samples that the Shapley kernel draws.

    Formula: score_i = weight of token i in a linear regression of F on samples of which tokens are present, drawn with
        p(k) = (M - 1) / (k (M - k)) for k of M content tokens kept; the whole and the empty text are met exactly.
        n_samples and special tokens are as in LIME.
    Layer: at the input.
    Cost: n_samples forwards: about 3,000 for a text of 510 tokens.
    Misleads: with few samples a token it is noise; `stability` and its warning are those of LIME.
    Reference: Lundberg and Lee (2017), A Unified Approach to Interpreting Model Predictions,
        https://arxiv.org/abs/1705.07874
    """

    def explainer(document: Presence, regression: Halves) -> Any:
        method = KernelShap(document.value)
        method.interpretable_model = regression
        return method

    explain = _surrogate(explainer, LinearRegression, n_samples)
    return _by_document("kernel_shap", explain, model, batch, replacement, reduction, target)


@scoring_method("shapley_sampling", reads="seed")
def shapley_sampling(
    model: Any,
    batch: Batch,
    *,
    n_samples: Annotated[int, AtLeast(2)] = 25,
    replacement: Token = "mask",
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Shapley sampling: what a token adds when tokens come in one by one, as a mean over random orders.

    Formula: score_i = mean over n_samples permutations of F(the tokens before i, and i) - F(the tokens before i).
        The scores add up to F(x) - F(no content token), whatever n_samples is. Special tokens stay and score 0.
    Layer: at the input.
    Cost: n_samples x n forwards.
    Misleads: most of the texts that it asks about are fragments such as the model never saw; `stability` is as of LIME.
    Reference: Castro, Gomez and Tejada (2009), Polynomial calculation of the Shapley value based on sampling,
        https://doi.org/10.1016/j.cor.2008.04.004
    """
    shares = (n_samples - n_samples // 2, n_samples // 2)  # permutations of each half

    def explain(document: Presence, whole: Tensor) -> tuple[Tensor, float]:
        sample = partial(ShapleyValueSampling(document.value).attribute, perturbations_per_eval=document.per_pass)
        first, second = (sample(whole, n_samples=share)[0] for share in shares)
        found = (shares[0] * first + shares[1] * second) / n_samples
        return found, 1.0 if len(found) == 1 else _correlation(first.cpu().numpy(), second.cpu().numpy())

    return _by_document("shapley_sampling", explain, model, batch, replacement, reduction, target)


def _by_document(
    name: str, explain: Explainer, model: Any, batch: Batch, replacement: Token, reduction: Sign, target: Target
) -> LayerScores:
    """`explain` gets a document and the input (1, M) with all of its tokens, and gives scores (M,) and their stability,
    which is the diagnostic `stability` (B, 1); a warning where the two halves of the samples disagree."""
    twin = working_copy(model)
    values = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)  # (B, N)
    stability = torch.ones(len(values), 1, device=values.device)
    for row, single in enumerate(batch.singles()):
        with seeded(batch, row):
            document = Presence(twin, single, target, replacement)
            if not len(document.positions):
                continue
            found, stability[row] = explain(document, torch.ones(1, len(document.positions), device=values.device))
            values[row, document.positions] = found.to(values)
    if bool((stability < UNSTABLE).any()):
        warnings.warn(
            f"{name}: the two halves of the samples rank the tokens of a text differently (rank correlation below "
            f"{UNSTABLE}, see the diagnostic 'stability'); ask for more with n_samples",
            UnstableScoresWarning,
            stacklevel=3,
        )
    return replace(reduced(values[:, None], batch, reduction), diagnostics={"stability": stability})


def _correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    return 0.0 if min(np.ptp(first), np.ptp(second)) == 0 else float(spearmanr(first, second).statistic)


def samples_for(n_samples: Samples, n_content: int) -> int:
    """Samples of a document: "auto" is 2 M + 2048 as in the authors' shap package, since a regression with M unknowns
    needs several samples for each. A short text has 2^M different samples; 32 of each are plenty."""
    if not isinstance(n_samples, str):
        return n_samples
    return min(2 * n_content + 2048, 1 << (5 + min(n_content, 32)))


class Halves:
    """A linear model for captum that is fitted on all samples, and on each half of them.

    weights: (M,) of all samples; stability: Spearman's rank correlation of the two halves' weights.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.weights, self.stability = np.zeros(0), 1.0

    def fit(self, data: DataLoader[Any]) -> None:
        columns = [torch.cat(parts).cpu().double().numpy() for parts in zip(*data, strict=True)]
        there, values, closeness = columns
        even = np.arange(len(values)) % 2 == 0
        anchors = closeness > _ANCHOR
        parts = (slice(None), even | anchors, ~even | anchors)
        fits = (self.make().fit(there[part], values[part], sample_weight=closeness[part]) for part in parts)
        self.weights, *halves = (np.asarray(fit.coef_, dtype=np.float64) for fit in fits)
        self.stability = _correlation(*halves)

    def representation(self) -> Tensor:
        """(1, M), as captum wants it."""
        return torch.from_numpy(self.weights)[None]


def _surrogate(explainer: Callable[[Presence, Halves], Any], make: Callable[[], Any], n_samples: Samples) -> Explainer:
    """Weights of a linear model of the target's value over which tokens are there, and their stability."""

    def explain(document: Presence, whole: Tensor) -> tuple[Tensor, float]:
        n_content = whole.shape[1]
        if n_content == 1:  # nothing to sample: there are two inputs, and their difference is exact
            return document.value(whole) - document.value(1 - whole), 1.0
        regression = Halves(make)
        options = {"n_samples": samples_for(n_samples, n_content), "perturbations_per_eval": document.per_pass}
        return explainer(document, regression).attribute(whole, **options)[0], regression.stability

    return explain
