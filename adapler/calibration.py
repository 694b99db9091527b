"""The measured curve of a model over threshold scales, and the scale that a target asks for.

`adapler calibrate` writes it as calibration.json next to the model. Between measured scales everything is interpolated
linearly; of the speedup, its logarithm is. Speedup and drop of the score grow with the scale and the time falls, up to
noise, so each is made monotone first (isotonic regression), which also keeps a value from being picked that was high
by chance.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapler.errors import ArgumentError, CheckpointError
from adapler.options import is_number
from adapler.system import replacing
from adapler.text import reading

CALIBRATION = "calibration.json"
ROUNDING = 1e-3  # an end of the curve can be requested as printed, with four digits

TIMES = ("milliseconds", "milliseconds_single")

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The model without removal. Intervals are bootstrap intervals over examples."""

    score: float  # accuracy or F1
    score_interval: Interval
    milliseconds: float  # of one text, in batches
    milliseconds_single: float  # one by one


@dataclass(frozen=True, kw_only=True)
class Point(Baseline):
    """One threshold scale, with hard removal."""

    threshold_scale: float  # factor on every eta
    drop: float  # score without removal minus score, of the same draws of examples
    drop_interval: Interval
    speedup: float  # FLOPs of the backbone over the split / FLOPs of AdapLeR
    speedup_interval: Interval


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Result of `adapler.evaluation.measure`."""

    examples: int  # in the split
    timed_single: int  # texts that were timed one by one
    slower_texts: float  # share of (text, step from one scale to the next) where the text's FLOPs grew
    none: Baseline  # without removal
    points: tuple[Point, ...]  # by growing scale; the first is 0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Hardware of a time measurement: processor or GPU, dtype of the layers, number of PyTorch threads."""

    device: str
    dtype: str
    threads: int

    def __str__(self) -> str:
        return f"{self.device}, {self.dtype}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    @classmethod
    def of(cls, model: Any) -> Machine:
        """The machine on which a model runs now, under the current autocast."""
        import torch

        from adapler.backbones.families import view
        from adapler.system import device_name

        kind = model.device.type
        layer = next(view(model.backbone).layers.parameters())
        dtype = str(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else layer.dtype)
        threads = torch.get_num_threads()
        return cls(device=device_name(model.device), dtype=dtype.removeprefix("torch."), threads=threads)


@dataclass(frozen=True, kw_only=True)
class Calibration(Measured):
    """A model's curve over threshold scales on one split."""

    model_checksum: str  # `weights_checksum` of the model that was measured
    task: str
    split: str
    data_checksum: str
    encoding: dict[str, Any]
    metric: str  # accuracy or f1
    machine: Machine
    token_budget: int  # padded tokens of a batch
    level: float  # of the intervals
    resamples: int
    versions: dict[str, str]  # of the packages

    def choose(self, **targets: float | None) -> Choice:
        """The threshold scale for one target: that of a `speedup` in FLOPs; the fastest one that loses at most
        `max_drop` of the score without removal; or the smallest one within the time limit for a text in batches
        (`milliseconds`). ArgumentError where no scale of the curve reaches it."""
        target = one_target(**targets)
        if target is None:
            raise ArgumentError("speedup, max_drop or milliseconds: one of them is needed")
        name, value = target
        scales, curve = self._scales, self._curves("drop" if name == "max_drop" else name)[0]
        low, high = min(curve), max(curve)
        # A drop or a time that every scale satisfies is allowed too.
        if value < low - ROUNDING * abs(low) or (name == "speedup" and value > high + ROUNDING * abs(high)):
            raise ArgumentError(
                f"{name}: {value:g} is outside the measured curve, which goes from {low:.4g} to {high:.4g} "
                f"({self.split} of {self.task})"
            )
        value = min(max(value, low), high)
        growing: Any = {"speedup": math.log, "max_drop": float, "milliseconds": operator.neg}[name]
        scale = _where([growing(x) for x in curve], scales, growing(value), last=name == "max_drop")
        return Choice(target=name, value=target[1], expected=self.at(scale), calibration=self)

    def at(self, scale: float) -> Point:
        """The point expected at a threshold scale between measured ones."""
        if not self._scales[0] <= scale <= self._scales[-1]:
            raise ArgumentError(f"threshold_scale: {scale:g} is outside the measured curve, 0 to {self._scales[-1]:g}")

        def between(name: str) -> tuple[float, ...]:
            """The field, or both ends of an interval; of the speedup, its logarithm is interpolated."""
            curves = [np.log(curve) if name.startswith("speedup") else curve for curve in self._curves(name)]
            found = [float(np.interp(scale, self._scales, curve)) for curve in curves]
            return tuple(math.exp(value) if name.startswith("speedup") else value for value in found)

        found: dict[str, Any] = {name: between(name)[0] for name in ("drop", "speedup", *TIMES)}
        found["score"] = self.none.score - found["drop"]
        for name in ("score", "drop", "speedup"):  # around the estimate
            low, high = between(f"{name}_interval")
            found[f"{name}_interval"] = (min(low, found[name]), max(high, found[name]))
        return Point(threshold_scale=scale, **found)

    @property
    def _scales(self) -> list[float]:
        return [point.threshold_scale for point in self.points]

    def _curves(self, name: str) -> list[list[float]]:
        """A field at the measured scales, or both ends of an interval, monotone."""
        values = np.array([getattr(point, name) for point in self.points], dtype=float)  # (S,) or (S, 2)
        falls = name.startswith(("milliseconds", "score"))
        return [_monotone(one, grows=not falls) for one in values.reshape(len(values), -1).T]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A threshold scale that was picked for a target; `str` says what to expect of it."""

    target: str
    value: float
    expected: Point
    calibration: Calibration

    @property
    def threshold_scale(self) -> float:
        return self.expected.threshold_scale

    def __str__(self) -> str:
        point, curve = self.expected, self.calibration

        def span(interval: Interval, digits: int) -> str:
            return " to ".join(f"{end:.{digits}f}" for end in interval)

        return (
            f"{self.target} {self.value:g}: threshold_scale {point.threshold_scale:.4g}; expected: "
            f"{point.speedup:.2f}x fewer FLOPs ({span(point.speedup_interval, 2)}), "
            f"{curve.metric} {point.score:.3f} ({span(point.score_interval, 3)}), "
            f"{abs(point.drop):.3f} {'below' if point.drop >= 0 else 'above'} that without removal "
            f"({span(point.drop_interval, 3)}), "
            f"{point.milliseconds:.3g} ms a text in batches, {point.milliseconds_single:.3g} ms one by one; "
            f"{100 * curve.level:g} % intervals, measured on {curve.examples} examples of {curve.task}, {curve.split} "
            f"({curve.machine})"
        )

    def other_machine(self, here: Machine) -> str | None:
        """A note if a time limit was given and times were measured on another machine than `here`."""
        there = self.calibration.machine
        if self.target != "milliseconds" or here == there:
            return None
        return f"the times were measured on another machine or in another way ({there}) than this ({here})"

    def other_reading(self, here: str | None) -> str | None:
        """A note where another part of long texts was measured than `here`, see `adapler.text.reading`."""
        there = reading(self.calibration.encoding)
        if here is None or there is None or here == there:
            return None
        return f"the curve was measured with {there}; with {here}, as here, speed and score are others"


def one_target(**targets: float | None) -> tuple[str, float] | None:
    """The one target that is given, by name, or None; ArgumentError for several, or a value that no curve has."""
    given = [(name, value) for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(name for name, _ in given)}: only one of them can be given")
    for name, value in given:
        if name == "max_drop" and not (is_number(value) and 0 <= value <= 1):  # 5 would allow any loss
            raise ArgumentError(f"{name}: {value!r} is not a number from 0 to 1 (a drop of one point is 0.01)")
        if name != "max_drop" and not (is_number(value) and value > 0):
            raise ArgumentError(f"{name}: {value!r} is not a number above 0")
    return given[0] if given else None


def write_calibration(path: Path, calibration: Calibration) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(asdict(calibration), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_calibration(path: Path) -> Calibration:
    """Read what `write_calibration` wrote; CheckpointError where it is damaged, or no curve."""
    from pydantic import TypeAdapter, ValidationError

    try:
        curve = TypeAdapter(Calibration).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointError(f"{path}: {where}: {first['msg']}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    scales = [point.threshold_scale for point in curve.points]
    if len(scales) < 2 or scales[0] != 0 or sorted(set(scales)) != scales or min(p.speedup for p in curve.points) <= 0:
        raise CheckpointError(f"{path}: 'points' are no curve by growing threshold_scale, the first at 0")
    return curve


def _monotone(values: Any, *, grows: bool) -> list[float]:
    """The nearest monotone values, in least squares; all values of a flat part are equal."""
    from scipy.optimize import isotonic_regression

    found: list[float] = isotonic_regression(np.asarray(values, dtype=float), increasing=grows).x.tolist()
    for index in range(1, len(found)):  # the mean of a part may come out with other last bits
        if math.isclose(found[index], found[index - 1], rel_tol=1e-9, abs_tol=1e-12):
            found[index] = found[index - 1]
    return found


def _where(curve: Sequence[float], scales: Sequence[float], value: float, *, last: bool) -> float:
    """The scale at which a growing curve has a value; where it is flat, the first such scale, or the last one."""
    index = int(np.searchsorted(curve, value, side="right" if last else "left"))
    if index == 0 or index == len(curve):
        return scales[0] if index == 0 else scales[-1]
    return float(np.interp(value, curve[index - 1 : index + 1], scales[index - 1 : index + 1]))
