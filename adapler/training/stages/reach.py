"""The last step of a training with a target speedup: one factor on all thresholds, measured on validation."""

from __future__ import annotations

import math
from typing import Any

import datasets
import torch

from adapler.configuration import ETA_MAX, ETA_MIN
from adapler.flops import speedup
from adapler.inference.predict import predict_dataset
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.training.selection import CLOSE

MOST_PASSES = 12  # over the validation rows


def reach_target(
    model: AdapLeRForSequenceClassification, rows: datasets.Dataset, *, pad_token_id: int, target: float
) -> dict[str, Any]:
    """Multiply every eta by the factor with which the speedup on these rows is the target's, in place.

    The speedup grows with the factor, so the factor is found by bisection of its logarithm. It stays 1 where the target
    is met already. eta stays in its bounds, so a target may be out of reach: then the nearest speedup found is kept.

    Args:
        model: a trained model.
        rows: encoded validation rows.
        pad_token_id: the tokenizer's.
        target: speedup in FLOPs.

    Returns:
        For the record: `target`, the `factor`, the speedup `before` it and with it (`speedup`), and the `passes`.
    """
    trained = model.eta.detach().clone()  # (L,)
    measured: dict[float, float] = {}

    def set_eta(exponent: float) -> None:
        with torch.no_grad():
            model.eta.copy_((trained * math.exp(exponent)).clamp(ETA_MIN, ETA_MAX))

    def at(exponent: float) -> float:
        set_eta(exponent)
        found = predict_rows(model, rows, pad_token_id=pad_token_id, removal="hard")
        measured[exponent] = speedup(model.config, found.lengths_in, found.lengths)
        return measured[exponent]

    def is_close(gain: float) -> bool:
        return abs(gain - target) <= CLOSE * target

    before = gain = at(0.0)
    low, high = math.log(ETA_MIN), math.log(ETA_MAX / ETA_MIN)
    low, high = (0.0, high) if gain < target else (low, 0.0)
    # No room is left where the first guess lay at a bound and was not enough.
    while not is_close(gain) and len(measured) < MOST_PASSES and low < high:
        # The first guess: a threshold that is twice as high is about twice as fast.
        middle = (low + high) / 2 if len(measured) > 1 else max(low, min(high, math.log(target / gain)))
        gain = at(middle)
        low, high = (middle, high) if gain < target else (low, middle)
    best = min(measured, key=lambda exponent: abs(math.log(measured[exponent] / target)))
    set_eta(best)
    return {
        "target": target,
        "factor": math.exp(best),
        "before": before,
        "speedup": measured[best],
        "passes": len(measured),
    }
