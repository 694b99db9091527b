"""What `adapler calibrate` has measured of a checkpoint, as a table and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from adapler.calibration import CALIBRATION, Calibration, Point
from adapler.errors import AdapLeRError
from app.sources.loading import Checkpoint

SAME = 1e-6  # scales that differ by less are one: sliders and files round


@dataclass(frozen=True)
class Curve:
    """calibration: None where there is none of these weights; why: then, in words."""

    calibration: Calibration | None
    why: str = ""

    @property
    def last(self) -> float:
        """The largest scale that was measured; NaN without a calibration."""
        return math.nan if self.calibration is None else self.calibration.points[-1].threshold_scale

    def at(self, scale: float) -> Point | None:
        """What was measured at a scale, or what is to be expected between measured ones; None without a calibration, or
        outside of it."""
        if self.calibration is None or not 0 <= scale <= self.last:
            return None
        measured = (point for point in self.calibration.points if abs(point.threshold_scale - scale) < SAME)
        return next(measured, None) or self.calibration.at(scale)

    def between(self, scale: float) -> tuple[float, float] | None:
        """The measured scales on either side of one that was not measured, of which `at` is interpolated and smoothed;
        None where there is nothing to say."""
        point = self.at(scale)
        if self.calibration is None or point is None or point in self.calibration.points:
            return None
        scales = [one.threshold_scale for one in self.calibration.points]
        return max(one for one in scales if one < scale), min(one for one in scales if one > scale)

    def measured(self) -> str:
        """On what, in words."""
        one = self.calibration
        return "" if one is None else f"{one.task}, {one.split}, {one.examples} documents{self.dtype()} (calibration)"

    def dtype(self) -> str:
        """The number format of the measurement, which the page's model need not have: ", bfloat16"; "" for float32."""
        dtype = "float32" if self.calibration is None else self.calibration.machine.dtype
        return "" if dtype == "float32" else f", {dtype}"

    def frame(self) -> pd.DataFrame:
        """A row for each measured scale: measured, scale, score, low, high, speedup, speedup_low, speedup_high,
        reference (the score without removal)."""
        points = () if self.calibration is None else self.calibration.points
        return pd.DataFrame(
            [
                {
                    "measured": self.measured(),
                    "scale": one.threshold_scale,
                    "score": one.score,
                    "low": one.score_interval[0],
                    "high": one.score_interval[1],
                    "speedup": one.speedup,
                    "speedup_low": one.speedup_interval[0],
                    "speedup_high": one.speedup_interval[1],
                    "reference": self.calibration.none.score if self.calibration else None,
                }
                for one in points
            ],
            columns=[
                "measured",
                "scale",
                "score",
                "low",
                "high",
                "speedup",
                "speedup_low",
                "speedup_high",
                "reference",
            ],
        )

    def table(self) -> pd.DataFrame:
        """`frame`, and what else a measurement in a file says: documents, metric, split, file."""
        one = self.calibration
        if one is None:
            return self.frame()
        return self.frame().assign(documents=one.examples, metric=one.metric, split=one.split, file=CALIBRATION)


def curve(checkpoint: Checkpoint) -> Curve:
    """The calibration that is stored with the checkpoint, if it is one of its weights."""
    try:
        with checkpoint.lock:
            return Curve(checkpoint.exact.calibration)
    except AdapLeRError as error:
        return Curve(None, str(error))
