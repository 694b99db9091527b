"""Scoring methods, one a file: functions `(model, batch) -> LayerScores`, found by name in a registry."""

from analysis.scores import contribution, random, raw_attention, rollout, saliency
from analysis.scores.base import (
    Batch,
    LayerScores,
    ScoringMethod,
    get_method,
    method_names,
    normalise,
    scoring_method,
)

__all__ = [
    "Batch",
    "LayerScores",
    "ScoringMethod",
    "contribution",
    "get_method",
    "method_names",
    "normalise",
    "random",
    "raw_attention",
    "rollout",
    "saliency",
    "scoring_method",
]
