"""A calibration by hand."""

from __future__ import annotations

from typing import Any

from adapler.calibration import Baseline, Calibration, Machine, Point

MACHINE = Machine(device="a processor", dtype="float32", threads=1)


def point(scale: float, *, drop: float, speedup: float, milliseconds: float) -> Point:
    return Point(
        threshold_scale=scale,
        score=0.9 - drop,
        score_interval=(0.85 - drop, 0.95 - drop),
        drop=drop,
        drop_interval=(drop - 0.02, drop + 0.02),
        speedup=speedup,
        speedup_interval=(speedup - 0.1, speedup + 0.1),
        milliseconds=milliseconds,
        milliseconds_single=2 * milliseconds,
    )


def calibration(**changes: Any) -> Calibration:
    """Speedups 1, 2, 4, 8 at scales 0 to 3; the drop at scale 2 is noise, which the smoothing takes away."""
    points = (
        point(0.0, drop=0.0, speedup=1.0, milliseconds=10.0),
        point(1.0, drop=0.02, speedup=2.0, milliseconds=6.0),
        point(2.0, drop=0.0, speedup=4.0, milliseconds=3.0),
        point(3.0, drop=0.05, speedup=8.0, milliseconds=2.0),
    )
    fields: dict[str, Any] = {
        "model_checksum": "0",
        "task": "reviews",
        "split": "validation",
        "data_checksum": "1",
        "encoding": {"max_length": 40},
        "metric": "accuracy",
        "examples": 50,
        "machine": MACHINE,
        "token_budget": 8192,
        "timed_single": 5,
        "level": 0.95,
        "resamples": 100,
        "slower_texts": 0.0,
        "versions": {"torch": "0"},
        "none": Baseline(score=0.9, score_interval=(0.85, 0.95), milliseconds=9.0, milliseconds_single=18.0),
        "points": points,
    }
    return Calibration(**{**fields, **changes})
