"""SmoothGrad; through captum."""

from __future__ import annotations

from typing import Annotated, Any

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.noise import noisy_gradients
from analysis.scores.shared.targets import Target
from analysis.scores.specs import AtLeast


@scoring_method(
    "smoothgrad",
    paper="https://arxiv.org/abs/1706.03825",
    needs="gradient",
    title="SmoothGrad",
    cost="n_samples forwards + backwards",
    reads="seed",
    scope=AT_INPUT,
)
def smoothgrad(
    model: Any,
    batch: Batch,
    *,
    n_samples: Annotated[int, AtLeast(2)] = 50,
    noise: Annotated[float, AtLeast(0)] = 0.1,
    target: Target = "predicted",
) -> LayerScores:
    """SmoothGrad: the gradient at the input, as a mean over inputs with noise on them.

    Formula: score_i = || mean over s of dF/de_i (e + z_s) ||_2, divided by the sum over the real
        tokens. e: the word embeddings; z_s: n_samples draws from a normal distribution, its
        deviation noise * (largest - smallest entry of e).
    Layer: at the input. There is one score a token.
    Cost: n_samples forwards + backwards.
    Misleads: noise on an embedding is no other word: what is averaged is the neighbourhood of the vectors, not of
        the texts. Like every plain gradient it is a sensitivity: it is not multiplied by the input and has no sign.
    Reference: Smilkov, Thorat, Kim, Viegas and Wattenberg (2017), SmoothGrad, https://arxiv.org/abs/1706.03825
    """
    return noisy_gradients(model, batch, "smoothgrad", n_samples=n_samples, noise=noise, target=target)
