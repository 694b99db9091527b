"""Scoring methods: functions `(model, batch) -> LayerScores`, found by name in a registry; one method a file.

`python -m analysis.scores` prints them. A method of one's own is a function: see `analysis.scores.registry`.
"""

from analysis.scores import contribution, policy, position, random
from analysis.scores.attention import (
    attention_gradient,
    attention_gradient_local,
    attention_received,
    cls_attention,
    rollout,
    value_zeroing,
)
from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.decomposition import alti, attnlrp, decompx, globenc
from analysis.scores.gradient import (
    deeplift,
    gradient_l1,
    gradient_l2,
    gradient_shap,
    integrated_gradients,
    layer_integrated_gradients,
    saliency,
    saliency_signed,
    smoothgrad,
    vargrad,
)
from analysis.scores.perturbation import kernel_shap, lime, occlusion, shapley_sampling
from analysis.scores.registry import (
    SCOPES,
    MethodSpec,
    ScoringMethod,
    get_method,
    get_methods,
    method_names,
    scoring_method,
)
from analysis.scores.shared.surrogates import UnstableScoresWarning
from analysis.scores.specs import AtLeast

__all__ = [
    "SCOPES",
    "AtLeast",
    "Batch",
    "LayerScores",
    "MethodSpec",
    "ScoringMethod",
    "UnstableScoresWarning",
    "alti",
    "attention_gradient",
    "attention_gradient_local",
    "attention_received",
    "attnlrp",
    "cls_attention",
    "contribution",
    "decompx",
    "deeplift",
    "get_method",
    "get_methods",
    "globenc",
    "gradient_l1",
    "gradient_l2",
    "gradient_shap",
    "integrated_gradients",
    "kernel_shap",
    "layer_integrated_gradients",
    "lime",
    "method_names",
    "normalise",
    "occlusion",
    "policy",
    "position",
    "random",
    "rollout",
    "saliency",
    "saliency_signed",
    "scoring_method",
    "shapley_sampling",
    "smoothgrad",
    "value_zeroing",
    "vargrad",
]
