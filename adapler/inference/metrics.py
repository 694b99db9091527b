"""Scores of a classifier's predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, f1_score

from adapler.errors import ArgumentError


def score_predictions(predictions: ArrayLike, labels: ArrayLike, *, metric: str = "accuracy") -> float:
    """Accuracy, or F1 of class 1 (MRPC's), of (n,) predicted and true class indices.

    "agreement" is counted as accuracy is; `labels` are then what another classifier predicts.

    Raises:
        ArgumentError: no such metric, or no rows.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if len(labels) == 0:
        raise ArgumentError("labels: no rows to score")
    if metric in ("accuracy", "agreement"):
        return float(accuracy_score(labels, predictions))
    if metric == "f1":
        return float(f1_score(labels, predictions, zero_division=0.0))
    raise ArgumentError(f"metric: {metric!r} is not 'accuracy' or 'f1'")
