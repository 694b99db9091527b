"""VarGrad; through captum."""

from __future__ import annotations

from typing import Annotated, Any

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.noise import noisy_gradients
from analysis.scores.shared.targets import Target
from analysis.scores.specs import AtLeast


@scoring_method(
    "vargrad",
    paper="https://arxiv.org/abs/1810.03292",
    needs="gradient",
    title="VarGrad",
    cost="n_samples forwards + backwards",
    reads="seed",
    scope=AT_INPUT,
)
def vargrad(
    model: Any,
    batch: Batch,
    *,
    n_samples: Annotated[int, AtLeast(2)] = 50,
    noise: Annotated[float, AtLeast(0)] = 0.1,
    target: Target = "predicted",
) -> LayerScores:
    """VarGrad: the variance of the gradient at the input over inputs with noise on them.

    Formula: score_i = || variance over s of dF/de_i (e + z_s) ||_2, divided by the sum over the real
        tokens. e: the word embeddings; z_s: n_samples draws from a normal distribution, its
        deviation noise * (largest - smallest entry of e).
    Layer: at the input. There is one score a token.
    Cost: n_samples forwards + backwards.
    Misleads: it says where the gradient changes, not where it is large: a token with a large and steady gradient scores
        low. With few samples a variance is known badly. Noise on an embedding is no other word.
    Reference: Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim (2018), Sanity Checks for Saliency Maps, https://arxiv.org/abs/1810.03292
    """
    return noisy_gradients(model, batch, "vargrad", n_samples=n_samples, noise=noise, target=target)
