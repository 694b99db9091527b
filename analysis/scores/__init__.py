"""Scoring methods: functions `(model, batch) -> LayerScores`, found by name in a registry.

`python -m analysis.scores` prints them. A method of one's own takes one decorator: see `analysis.scores.base`.
"""

from analysis.scores import contribution, random
from analysis.scores.attention import attention_gradient, globenc, raw_attention, rollout, value_zeroing
from analysis.scores.base import (
    Batch,
    LayerScores,
    ScoringMethod,
    get_method,
    method_names,
    normalise,
    scoring_method,
)
from analysis.scores.gradient import deeplift, gradient_shap, integrated_gradients, saliency
from analysis.scores.perturbation import occlusion, surrogates

__all__ = [
    "Batch",
    "LayerScores",
    "ScoringMethod",
    "attention_gradient",
    "contribution",
    "deeplift",
    "get_method",
    "globenc",
    "gradient_shap",
    "integrated_gradients",
    "method_names",
    "normalise",
    "occlusion",
    "random",
    "raw_attention",
    "rollout",
    "saliency",
    "scoring_method",
    "surrogates",
    "value_zeroing",
]
