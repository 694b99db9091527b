"""KernelSHAP; through captum."""

from __future__ import annotations

from typing import Any

from captum.attr import KernelShap
from sklearn.linear_model import LinearRegression

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.inputs import Presence, Sign, Token
from analysis.scores.shared.surrogates import Halves, Samples, surrogate_scores
from analysis.scores.shared.targets import Target


@scoring_method(
    "kernel_shap",
    paper="https://arxiv.org/abs/1705.07874",
    title="KernelSHAP",
    cost="n_samples forwards",
    reads="seed",
    scope=AT_INPUT,
)
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

    Formula: score_i = weight of token i in a linear regression of F on samples of which tokens are there, drawn with
        p(k) = (M - 1) / (k (M - k)) for k tokens kept; the whole and the empty text are met exactly.
        n_samples=auto is min(2 M + 2048, 32 * 2^M) for M content tokens. Special tokens stay and score 0.
    Layer: at the input. There is one score a token.
    Cost: n_samples forwards: about 3,000 for a text of 510 tokens.
    Misleads: with few samples a token it is noise: two seeds of 128 samples for 128 tokens do not agree at all.
        `stability` is the rank correlation of the scores from the two halves of the samples; a warning is given below
        0.5. Scores have a sign by default: for FPR, TPR and the headline figure take reduction=absolute or positive.
    Reference: Lundberg and Lee (2017), A Unified Approach to Interpreting Model Predictions,
        https://arxiv.org/abs/1705.07874
    """

    def explainer(document: Presence, regression: Halves) -> Any:
        method = KernelShap(document.value)
        method.interpretable_model = regression
        return method

    return surrogate_scores(
        "kernel_shap",
        model,
        batch,
        explainer,
        make=LinearRegression,
        n_samples=n_samples,
        replacement=replacement,
        reduction=reduction,
        target=target,
    )
