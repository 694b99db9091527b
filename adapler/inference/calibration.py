"""A model's curve over threshold scales: score, FLOPs and time, measured on the rows of a split.

Dimensions: C classes, E examples, R resamples, S threshold scales.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.budgets.curve import Baseline, Interval, Point
from adapler.errors import ArgumentError
from adapler.flops import adapler_flops, backbone_flops
from adapler.inference.evaluation import by_example, check_labels
from adapler.inference.passes import Array, Pass, ratio_of, resampled, score_parts
from adapler.inference.predict import Predictions, predict_rows
from adapler.model.batching import TOKEN_BUDGET
from adapler.outputs import check_finite

FIRST_SCALES = (0.0, 0.5, 1.0)
GROWTH = 1.5  # from one scale to the next, while the end of the curve is looked for
EVERYTHING = 1e6  # a scale at which all that can be dropped is
CLOSE = 1.2  # two neighbouring speedups are no further apart, or another scale is measured between them
TIMED_AGAIN = 2  # at most


@dataclass(frozen=True)
class Grid:
    """Where a curve ends, and how many scales it may have.

    Attributes:
        most_speedup: no scale is looked for beyond the first one that is as fast as this.
        most_drop: nor beyond the first one whose score is so much below the score without removal.
        points: how many scales are measured at most.
    """

    most_speedup: float = 12.0
    most_drop: float = 0.15
    points: int = 24


@dataclass(frozen=True)
class Measured:
    """The curve; fields as of `adapler.budgets.curve.Calibration`."""

    none: Baseline
    points: tuple[Point, ...]
    examples: int
    timed_single: int
    slower_texts: float


@dataclass(frozen=True)
class _Rows:
    """What a model is run over: the rows of a split, whose they are, and which are timed one by one."""

    model: Any
    rows: Sequence[dict[str, Any]]
    pad_token_id: int
    token_budget: int
    metric: str
    owners: list[str]  # the example of each row
    gold: NDArray[np.int64]  # (E,) in order of appearance
    windows: NDArray[np.int64]  # (E,)
    single: list[dict[str, Any]]  # all windows of the examples that are timed one by one
    timed_single: int  # how many examples these are

    def predicted(self, rows: Sequence[dict[str, Any]], **options: Any) -> Predictions:
        """What the model says of rows; options as of predict_rows."""
        return predict_rows(self.model, rows, pad_token_id=self.pad_token_id, **options)

    def run(self, **options: Any) -> Pass:
        """One pass, `options` being the model's."""
        start = time.perf_counter()
        found = self.predicted(self.rows, token_budget=self.token_budget, **options)
        middle = time.perf_counter()
        self.predicted(self.single, token_budget=1, **options)
        end = time.perf_counter()
        check_finite(found.logits)
        _, logits = by_example(found.logits, self.owners)  # (E, C)
        spent = backbone_flops(self.model.config, found.lengths_in)
        if options["removal"] == "hard":
            spent = adapler_flops(self.model.config, found.lengths_in, found.lengths)
        _, mean = by_example(spent[:, None], self.owners)
        return Pass(
            parts=score_parts(logits.argmax(-1).numpy(), self.gold, metric=self.metric),
            flops=mean[:, 0].numpy() * self.windows,
            milliseconds=1000 * (middle - start) / len(self.windows),
            milliseconds_single=1000 * (end - middle) / self.timed_single,
        )

    def least_flops(self) -> float:
        """Of a pass that drops all that can be dropped."""
        options: dict[str, Any] = {"removal": "hard", "threshold_scale": EVERYTHING}
        found = self.predicted(self.rows, token_budget=self.token_budget, **options)
        return float(adapler_flops(self.model.config, found.lengths_in, found.lengths).sum())


class _Curve:
    """The pass without removal, and those at the scales that are measured so far."""

    def __init__(self, rows: _Rows, grid: Grid, say: Callable[[str], None]) -> None:
        self._rows, self._grid, self._say = rows, grid, say
        rows.predicted(rows.single[:1], removal="hard")  # the first call also sets things up, so it is not timed
        self.none = rows.run(removal="none")
        self.passes: dict[float, Pass] = {}
        say(f"removal none: {rows.metric} {self.none.score:.4f}, {self.none.milliseconds:.1f} ms a text")

    def speedup(self, scale: float) -> float:
        return float(self.none.flops.sum() / self.passes[scale].flops.sum())

    def add(self, scale: float) -> None:
        self.passes[scale] = one = self._rows.run(removal="hard", threshold_scale=scale)
        self._say(
            f"threshold_scale {scale:g}: {self._rows.metric} {one.score:.4f}, {self.speedup(scale):.2f}x fewer FLOPs, "
            f"{one.milliseconds:.1f} ms a text"
        )

    @property
    def has_room(self) -> bool:
        return len(self.passes) < self._grid.points

    def _ended(self, scale: float) -> bool:
        drop = self.none.score - self.passes[scale].score
        return self.speedup(scale) >= self._grid.most_speedup or drop >= self._grid.most_drop

    def find_end(self) -> None:
        """Add the first scales, and ever larger ones until the curve ends, or nothing is left to drop."""
        for scale in FIRST_SCALES:
            self.add(scale)
        last, fastest = FIRST_SCALES[-1], 0.0  # not known yet
        while not self._ended(last) and self.has_room:
            before, last = last, float(f"{last * GROWTH:.4g}")
            self.add(last)
            if self.speedup(last) < 1.01 * self.speedup(before):
                fastest = fastest or float(self.none.flops.sum() / self._rows.least_flops())
                if self.speedup(last) > fastest / 1.01:
                    break

    def fill_gaps(self) -> None:
        """Add scales between neighbours whose speedups are far apart, the furthest first."""
        while self.has_room:
            scales = sorted(self.passes)
            gaps = [self.speedup(high) / self.speedup(low) for low, high in zip(scales, scales[1:], strict=False)]
            widest = int(np.argmax(gaps))
            middle = float(f"{(scales[widest] + scales[widest + 1]) / 2:.4g}")
            if gaps[widest] <= CLOSE or middle in self.passes:
                break
            self.add(middle)

    def time_again(self) -> None:
        """Repeat the passes that something else has slowed."""
        self.none = self.none.quicker(self._rows.run(removal="none"))  # it may also be slow because it was the first
        scales = sorted(self.passes)
        for number, scale in enumerate(scales):
            for _ in range(TIMED_AGAIN):
                if not self.passes[scale].slowed([self.none, *(self.passes[one] for one in scales[:number])]):
                    break
                repeated = self._rows.run(removal="hard", threshold_scale=scale)
                self.passes[scale] = one = self.passes[scale].quicker(repeated)
                self._say(f"threshold_scale {scale:g}, timed again: {one.milliseconds:.1f} ms a text")


def _summarised(
    none: Pass, passes: dict[float, Pass], *, level: float, resamples: int, seed: int, timed_single: int
) -> Measured:
    scales = sorted(passes)
    drawn = resampled([none, *(passes[scale] for scale in scales)], resamples=resamples, seed=seed)  # (R, 1 + S, 3)
    scores, flops = ratio_of(drawn[..., :2]), drawn[..., 2]  # (R, 1 + S)
    tail = 100 * (1 - level) / 2

    def interval(values: Array) -> Interval:
        low, high = np.percentile(values, [tail, 100 - tail])
        return float(low), float(high)

    points = tuple(
        Point(
            threshold_scale=scale,
            score=passes[scale].score,
            score_interval=interval(scores[:, number]),
            drop=none.score - passes[scale].score,
            drop_interval=interval(scores[:, 0] - scores[:, number]),
            speedup=float(none.flops.sum() / passes[scale].flops.sum()),
            speedup_interval=interval(flops[:, 0] / flops[:, number]),
            milliseconds=passes[scale].milliseconds,
            milliseconds_single=passes[scale].milliseconds_single,
        )
        for number, scale in enumerate(scales, start=1)
    )
    by_scale = np.stack([passes[scale].flops for scale in scales])  # (S, E)
    return Measured(
        none=Baseline(
            score=none.score,
            score_interval=interval(scores[:, 0]),
            milliseconds=none.milliseconds,
            milliseconds_single=none.milliseconds_single,
        ),
        points=points,
        examples=len(none.flops),
        timed_single=timed_single,
        slower_texts=float((np.diff(by_scale, axis=0) > 0).mean()),
    )


def measure(
    model: Any,
    rows: Sequence[dict[str, Any]],
    *,
    pad_token_id: int,
    metric: str = "accuracy",
    grid: Grid | None = None,
    token_budget: int = TOKEN_BUDGET,
    timed_single: int = 20,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 42,
    say: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Measure a model at threshold scales from 0 to where it is fast enough or has lost its score.

    Where the speedup changes fast, more scales are measured. Intervals are percentile bootstrap intervals. All scales
    and the model without removal get the same draws of examples, so that drops are paired.

    Args:
        model: AdapLeR.
        rows: encoded, with example_id and labels; the logits of an example's windows are averaged.
        pad_token_id: the tokenizer's.
        metric: "accuracy" or "f1".
        grid: where the curve ends; default Grid().
        token_budget: padded tokens in a batch.
        timed_single: examples, drawn with the seed, that are timed one by one, each with all its windows.
        level, resamples: of the intervals.
        seed: of all draws.
        say: is called with a line for each scale.

    Raises:
        ArgumentError: no rows, or another metric.
        DataError: labels outside the model's.
    """
    _check(model, rows, metric=metric)
    owners = [str(row["example_id"]) for row in rows]
    gold = dict(zip(owners, (int(row["labels"]) for row in rows), strict=True))
    names = list(gold)
    drawn = {names[number] for number in np.random.default_rng(seed).permutation(len(names))[:timed_single]}
    windows = Counter(owners)
    curve = _Curve(
        _Rows(
            model=model,
            rows=rows,
            pad_token_id=pad_token_id,
            token_budget=token_budget,
            metric=metric,
            owners=owners,
            gold=np.array(list(gold.values())),
            windows=np.array([windows[name] for name in names]),
            single=[row for row, owner in zip(rows, owners, strict=True) if owner in drawn],
            timed_single=len(drawn),
        ),
        grid or Grid(),
        say,
    )
    curve.find_end()
    curve.fill_gaps()
    curve.time_again()
    return _summarised(curve.none, curve.passes, level=level, resamples=resamples, seed=seed, timed_single=len(drawn))


def _check(model: Any, rows: Sequence[dict[str, Any]], *, metric: str) -> None:
    if not rows:
        raise ArgumentError("rows: nothing to calibrate on")
    if metric not in ("accuracy", "f1"):
        raise ArgumentError(f"metric: {metric!r} is not 'accuracy' or 'f1'")
    check_labels([row["labels"] for row in rows], model.config.num_labels)


def curve_table(none: Baseline, points: Sequence[Point], *, metric: str) -> str:
    """The curve as text; intervals in brackets."""
    lines = [
        f"{'scale':>7}  {metric + ' [interval]':<22}{'drop [interval]':<24}{'speedup [interval]':<22}"
        f"{'ms in batches':>14}{'ms one by one':>14}",
        f"{'none':>7}  {_cell(none.score, none.score_interval, 3):<22}{'':<24}{'':<22}"
        f"{none.milliseconds:>14.2f}{none.milliseconds_single:>14.2f}",
    ]
    for point in points:
        lines.append(
            f"{point.threshold_scale:>7.4g}  {_cell(point.score, point.score_interval, 3):<22}"
            f"{_cell(point.drop, point.drop_interval, 3):<24}{_cell(point.speedup, point.speedup_interval, 2):<22}"
            f"{point.milliseconds:>14.2f}{point.milliseconds_single:>14.2f}"
        )
    return "\n".join(lines)


def _cell(value: float, interval: Interval, digits: int) -> str:
    return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
