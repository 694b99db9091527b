"""LIME's and KernelSHAP's common part: sample which tokens are there, fit a linear model, fit it on each half too.

n samples, M content tokens of one document
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.data import DataLoader

from analysis.scores.base import Batch, LayerScores
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import Presence, Sign, Token, presence, reduced, seeded, singles
from analysis.scores.shared.targets import Target
from analysis.scores.specs import AtLeast

Samples = Annotated[int, AtLeast(4)] | Literal["auto"]
UNSTABLE = 0.5  # rank correlation of the two halves, below which a warning is given
_ANCHOR = 1e5  # KernelSHAP's weight of the whole and the empty text is above this: they belong to both halves


class UnstableScoresWarning(UserWarning):
    """The scores of a method that samples would be others with other samples."""


def samples_for(n_samples: Samples, n_content: int) -> int:
    """How many samples a document gets.

    "auto" grows with the number of tokens as in the authors' shap package, 2 M + 2048: a regression with M unknowns
    needs several samples for each. A short text has no more than 2^M different samples; 32 of each are plenty.

    >>> samples_for("auto", 510), samples_for("auto", 3), samples_for(100, 510)
    (3068, 256, 100)
    """
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
        self.weights = self._solve(there, values, closeness)
        anchors = closeness > _ANCHOR
        even = np.arange(len(values)) % 2 == 0
        halves = [half | anchors for half in (even, ~even)]
        first, second = (self._solve(there[half], values[half], closeness[half]) for half in halves)
        constant = min(np.ptp(first), np.ptp(second)) == 0
        self.stability = 0.0 if constant else float(spearmanr(first, second).statistic)

    def _solve(self, there: NDArray[Any], values: NDArray[Any], closeness: NDArray[Any]) -> NDArray[np.float64]:
        model = self.make().fit(there, values, sample_weight=closeness)
        return np.asarray(model.coef_, dtype=np.float64)

    def representation(self) -> Tensor:
        """(1, M), as captum wants it."""
        return torch.from_numpy(self.weights)[None]


def surrogate_scores(
    name: str,
    model: Any,
    batch: Batch,
    explainer: Callable[[Presence, Halves], Any],
    *,
    make: Callable[[], Any],
    n_samples: Samples,
    replacement: Token,
    reduction: Sign,
    target: Target,
) -> LayerScores:
    """Weights of a linear model of the target's value, and the diagnostic `stability` (B, 1)."""
    twin = working_copy(model)
    values = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)  # (B, N)
    stability = torch.ones(len(values), 1, device=values.device)
    for row, single in singles(batch):
        with seeded(batch, row):
            document = presence(twin, single, target, replacement)
            n_content = len(document.positions)
            whole = torch.ones(1, n_content, device=values.device)
            if n_content == 1:  # nothing to sample: there are two inputs, and their difference is exact
                found = document.value(whole) - document.value(1 - whole)
            elif n_content:
                regression = Halves(make)
                found = explainer(document, regression).attribute(
                    whole, n_samples=samples_for(n_samples, n_content), perturbations_per_eval=document.per_pass
                )[0]
                stability[row] = regression.stability
            else:
                continue
            values[row, document.positions] = found.to(values)
    if bool((stability < UNSTABLE).any()):
        warnings.warn(
            f"{name}: the two halves of the samples rank the tokens of a text differently (rank correlation below "
            f"{UNSTABLE}, see the diagnostic 'stability'); ask for more with n_samples",
            UnstableScoresWarning,
            stacklevel=2,
        )
    return replace(reduced(values[:, None], batch, reduction), diagnostics={"stability": stability})
