"""LIME; through captum."""

from __future__ import annotations

from typing import Annotated, Any

from captum.attr import Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function
from sklearn.linear_model import Ridge

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.inputs import Presence, Sign, Token
from analysis.scores.shared.surrogates import Halves, Samples, surrogate_scores
from analysis.scores.shared.targets import Target
from analysis.scores.specs import AtLeast


@scoring_method(
    "lime",
    paper="https://arxiv.org/abs/1602.04938",
    title="LIME",
    cost="n_samples forwards",
    reads="seed",
    scope=AT_INPUT,
)
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
    Layer: at the input. There is one score a token.
    Cost: n_samples forwards: about 3,000 for a text of 510 tokens.
    Misleads: with few samples it is mostly noise. `stability` is the rank correlation of the scores from the
        two halves of the samples; a warning is given below 0.5. Kept tokens are few or many only rarely, since each is
        drawn alone. Scores have a sign by default: for FPR, TPR and the headline figure take reduction=absolute or
        positive.
    Reference: Ribeiro, Singh and Guestrin (2016), "Why Should I Trust You?", https://arxiv.org/abs/1602.04938
    """
    kernel = get_exp_kernel_similarity_function("cosine", kernel_width)

    def explainer(document: Presence, regression: Halves) -> Any:
        return Lime(document.value, interpretable_model=regression, similarity_func=kernel)

    return surrogate_scores(
        "lime",
        model,
        batch,
        explainer,
        make=lambda: Ridge(alpha=1.0),
        n_samples=n_samples,
        replacement=replacement,
        reduction=reduction,
        target=target,
    )
