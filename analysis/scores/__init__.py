"""Scoring methods: functions `(model, batch) -> LayerScores`, found by name in a registry; one family a file.

attention       raw weights, received, rollout, attention x gradient
gradient        saliency and norms at every layer; noise; integrated gradients, DeepLIFT, GradientSHAP
decomposition   GlobEnc, ALTI, value zeroing, DecompX, AttnLRP
perturbation    occlusion, LIME, KernelSHAP, Shapley sampling
contribution    AdapLeR's own scores, other policies', random and position
base            Batch, LayerScores, normalise; passes that methods share
inputs          changed inputs
registry        names, options, a function of one's own as a method

`python -m analysis.scores` prints them.
"""

from analysis.scores import attention, contribution, decomposition, gradient, perturbation
from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.perturbation import UnstableScoresWarning
from analysis.scores.registry import (
    SCOPES,
    AtLeast,
    MethodSpec,
    ScoringMethod,
    get_method,
    get_methods,
    method_names,
    scoring_method,
)

__all__ = [
    "SCOPES",
    "AtLeast",
    "Batch",
    "LayerScores",
    "MethodSpec",
    "ScoringMethod",
    "UnstableScoresWarning",
    "attention",
    "contribution",
    "decomposition",
    "get_method",
    "get_methods",
    "gradient",
    "method_names",
    "normalise",
    "perturbation",
    "scoring_method",
]
