"""Scoring methods: functions `(model, batch) -> LayerScores`, found by name in a registry; one family a file.

attention       raw weights, received, rollout, attention x gradient
gradient        saliency and norms at every layer; noise; integrated gradients, DeepLIFT, GradientSHAP
decomposition   GlobEnc, ALTI, value zeroing, DecompX, AttnLRP
perturbation    occlusion, LIME, KernelSHAP, Shapley sampling
contribution    AdapLeR's own scores, other policies', random and position
base            Batch, LayerScores, normalise; passes that methods share; methods by name, and one's own
inputs          changed inputs

`python -m analysis.scores` prints them.
"""

from analysis.scores import attention, contribution, decomposition, gradient, perturbation
from analysis.scores.base import (
    SCOPES,
    AtLeast,
    Batch,
    LayerScores,
    MethodSpec,
    ScoringMethod,
    get_method,
    get_methods,
    method_names,
    normalise,
    scoring_method,
)
from analysis.scores.perturbation import UnstableScoresWarning

__all__ = ["SCOPES", "AtLeast", "Batch", "LayerScores", "MethodSpec", "ScoringMethod", "UnstableScoresWarning"]
__all__ += ["attention", "contribution", "decomposition", "gradient", "perturbation"]
__all__ += ["get_method", "get_methods", "method_names", "normalise", "scoring_method"]
