"""What `adapler calibrate` measured of a model, and the threshold scale that a target asks for.

Between measured scales everything is interpolated on a straight line; of the speedup, its logarithm is. The speedup and
the drop of the score grow with the scale and the time falls, up to noise, so each is made monotone first (isotonic
regression). That also keeps a point from being picked for a value that was high by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapler.errors import ArgumentError, check_drop, counted, is_number
from adapler.text import reading

Interval = tuple[float, float]
ROUNDING = 1e-3  # of an end of the curve: it is shown with four digits


@dataclass(frozen=True, kw_only=True)
class Point:
    """One threshold scale. Intervals are bootstrap intervals over examples.

    Attributes:
        threshold_scale: factor on every eta.
        score, score_interval: accuracy or F1 with hard removal.
        drop, drop_interval: how far that is below the score without removal; the same examples are drawn for both.
        speedup, speedup_interval: FLOPs of the backbone over the split / FLOPs of AdapLeR.
        milliseconds: of one text, in batches.
        milliseconds_single: of one text, one by one.
    """

    threshold_scale: float
    score: float
    score_interval: Interval
    drop: float
    drop_interval: Interval
    speedup: float
    speedup_interval: Interval
    milliseconds: float
    milliseconds_single: float


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The same model without removal; see Point."""

    score: float
    score_interval: Interval
    milliseconds: float
    milliseconds_single: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a model runs on.

    Attributes:
        device: the processor's or the GPU's name.
        dtype: what the backbone computes in.
        threads: PyTorch's, on a CPU.
    """

    device: str
    dtype: str
    threads: int

    def __str__(self) -> str:
        return f"{self.device}, {self.dtype}, {counted(self.threads, 'thread')}"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A model's curve over threshold scales on one split.

    Attributes:
        model_checksum: of the weights that were measured.
        task, split, data_checksum, encoding: what it was measured on.
        metric: "accuracy" or "f1".
        examples: in the split.
        machine: for the times.
        token_budget: padded tokens in a batch, for the times.
        timed_single: texts that were timed one by one.
        level, resamples: of the intervals.
        slower_texts: share of (text, step from one scale to the next) where the text's FLOPs grew.
        versions: of the packages.
        none: without removal.
        points: by growing scale; the first is 0.
    """

    model_checksum: str
    task: str
    split: str
    data_checksum: str
    encoding: dict[str, Any]
    metric: str
    examples: int
    machine: Machine
    token_budget: int
    timed_single: int
    level: float
    resamples: int
    slower_texts: float
    versions: dict[str, str]
    none: Baseline
    points: tuple[Point, ...]

    def choose(
        self, *, speedup: float | None = None, max_drop: float | None = None, milliseconds: float | None = None
    ) -> Choice:
        """The threshold scale for a target, and what is to be expected there.

        Args:
            speedup: FLOPs of the backbone / FLOPs of AdapLeR.
            max_drop: the fastest scale of the curve whose score is this much below the score without removal, at most.
            milliseconds: of one text in batches, at most: the smallest scale that is as fast.

        Raises:
            ArgumentError: none or several targets, or one that no scale of the curve reaches.
        """
        target = one_target(speedup=speedup, max_drop=max_drop, milliseconds=milliseconds)
        if target is None:
            raise ArgumentError("speedup, max_drop or milliseconds: one of them is needed")
        name, value = target
        scales = [point.threshold_scale for point in self.points]
        curve = self._curve(name)
        low, high = min(curve), max(curve)
        at_most = name != "speedup"  # what every scale of the curve satisfies can be asked for, too
        # The ends as they are shown can be asked for.
        if value < low - ROUNDING * abs(low) or (value > high + ROUNDING * abs(high) and not at_most):
            raise ArgumentError(
                f"{name}: {value:g} is outside the measured curve, which goes from {low:.4g} to {high:.4g} "
                f"({self.split} of {self.task})"
            )
        within = min(max(value, low), high)
        if name == "speedup":
            scale = _where([math.log(x) for x in curve], scales, math.log(within), last=False)
        elif name == "max_drop":
            scale = _where(curve, scales, within, last=True)
        else:
            scale = _where([-x for x in curve], scales, -within, last=False)
        return Choice(target=name, value=value, expected=self.at(scale), calibration=self)

    def at(self, scale: float) -> Point:
        """What is to be expected at a threshold scale between those that were measured."""
        scales = [point.threshold_scale for point in self.points]
        if not scales[0] <= scale <= scales[-1]:
            raise ArgumentError(f"threshold_scale: {scale:g} is outside the measured curve, 0 to {scales[-1]:g}")

        def line(values: Sequence[float]) -> float:
            return float(np.interp(scale, scales, values))

        def growth(values: Sequence[float]) -> float:
            return math.exp(line([math.log(value) for value in values]))

        def interval(
            name: str, estimate: float, *, grows: bool, between: Callable[[Sequence[float]], float] = line
        ) -> Interval:
            """Its ends are made monotone as the estimate is, and hold it."""
            ends = zip(*(getattr(point, name) for point in self.points), strict=True)
            low, high = (between(_monotone(end, grows=grows)) for end in ends)
            return min(low, estimate), max(high, estimate)

        drop, speedup = line(self._curve("max_drop")), growth(self._curve("speedup"))
        score = self.none.score - drop
        return Point(
            threshold_scale=scale,
            score=score,
            score_interval=interval("score_interval", score, grows=False),
            drop=drop,
            drop_interval=interval("drop_interval", drop, grows=True),
            speedup=speedup,
            speedup_interval=interval("speedup_interval", speedup, grows=True, between=growth),
            milliseconds=line(self._curve("milliseconds")),
            milliseconds_single=line(_monotone([point.milliseconds_single for point in self.points], grows=False)),
        )

    def _curve(self, target: str) -> list[float]:
        """The values of a target at the measured scales, monotone."""
        field = {"max_drop": "drop"}.get(target, target)
        return _monotone([getattr(point, field) for point in self.points], grows=target != "milliseconds")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A threshold scale that was picked for a target; `str` says what is to be expected of it."""

    target: str
    value: float
    expected: Point
    calibration: Calibration

    @property
    def threshold_scale(self) -> float:
        """Factor on every eta."""
        return self.expected.threshold_scale

    def __str__(self) -> str:
        point, curve = self.expected, self.calibration
        percent = f"{100 * curve.level:g} %"
        return (
            f"{self.target} {self.value:g}: threshold_scale {point.threshold_scale:.4g}; expected: "
            f"{point.speedup:.2f}x fewer FLOPs ({_span(point.speedup_interval, 2)}), "
            f"{curve.metric} {point.score:.3f} ({_span(point.score_interval, 3)}), "
            f"{_signed(point.drop)} without removal ({_span(point.drop_interval, 3)}), "
            f"{point.milliseconds:.3g} ms a text in batches, {point.milliseconds_single:.3g} ms one by one; "
            f"{percent} intervals, measured on {curve.examples} examples of {curve.task}, {curve.split} "
            f"({curve.machine})"
        )

    def other_machine(self, here: Machine) -> str | None:
        """What is to be said when times were asked for and were measured elsewhere; None when there is nothing."""
        there = self.calibration.machine
        if self.target != "milliseconds" or here == there:
            return None
        return f"the times were measured on another machine or in another way ({there}) than this ({here})"

    def other_reading(self, here: str | None) -> str | None:
        """What is to be said when another part of long texts was measured than `here`, which is what
        `adapler.text.reading` says; None when there is nothing."""
        there = reading(self.calibration.encoding)
        if here is None or there is None or here == there:
            return None
        return f"the curve was measured with {there}; with {here}, as here, speed and score are others"


def one_target(**targets: float | None) -> tuple[str, float] | None:
    """The one target that is given, by name; None when there is none.

    Raises:
        ArgumentError: several, or a value that no curve can have.
    """
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(given)}: only one of them can be asked for")
    for name, value in given.items():
        if name == "max_drop":
            check_drop(name, value)
        elif not (is_number(value) and value > 0):
            raise ArgumentError(f"{name}: {value!r} is not a number above 0")
        return name, value
    return None


def refuse_beside_target(target: str, options: Mapping[str, Any]) -> None:
    """Raises ArgumentError for options that say themselves what a target decides."""
    if options.get("threshold_scale") is not None:
        raise ArgumentError(f"{target} and threshold_scale: only one of them can be given")
    if options.get("removal", "hard") != "hard":
        raise ArgumentError(f"{target}: removal={options['removal']!r} drops no tokens")


def _monotone(values: Sequence[float], *, grows: bool) -> list[float]:
    """The nearest monotone values, in least squares (isotonic regression); of a flat part all are the same number."""
    from scipy.optimize import isotonic_regression

    found = [float(value) for value in isotonic_regression(np.asarray(values, dtype=float), increasing=grows).x]
    for index in range(1, len(found)):  # the mean of a part may come out with other last bits
        if math.isclose(found[index], found[index - 1], rel_tol=1e-9, abs_tol=1e-12):
            found[index] = found[index - 1]
    return found


def _where(curve: Sequence[float], scales: Sequence[float], value: float, *, last: bool) -> float:
    """The scale at which a growing curve has a value; where it is flat, the first such scale, or the last one."""
    number = int(np.searchsorted(curve, value, side="right" if last else "left"))
    if last and number == len(curve):
        return scales[-1]
    if number == 0:
        return scales[0]
    number = min(number, len(curve) - 1)
    low, high = curve[number - 1], curve[number]
    share = 0.0 if high == low else min(max((value - low) / (high - low), 0.0), 1.0)
    return scales[number - 1] + share * (scales[number] - scales[number - 1])


def _span(interval: Interval, digits: int) -> str:
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _signed(drop: float) -> str:
    return f"{abs(drop):.3f} {'below' if drop >= 0 else 'above'} that"
