"""A model's curve over threshold scales: score, FLOPs and time, measured on the rows of a split.

Dimensions: E examples, R resamples, S threshold scales.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.budgets.curve import Baseline, Interval, Point
from adapler.errors import ArgumentError, DataError
from adapler.inference.evaluation import by_example
from adapler.inference.predict import predict_rows
from adapler.model.batching import TOKEN_BUDGET
from adapler.model.flops import adapler_flops, backbone_flops

FIRST_SCALES = (0.0, 0.5, 1.0)
GROWTH = 1.5  # from one scale to the next, while the end of the curve is looked for
EVERYTHING = 1e6  # a scale at which all that can be dropped is
CLOSE = 1.2  # two neighbouring speedups are no further apart, or another scale is measured between them
SLOWER = 1.1  # times a smaller scale, which drops less: then something else slowed the pass, and it is timed again
TIMED_AGAIN = 2  # at most
DRAWN_AT_ONCE = 1 << 24  # numbers of a block of resamples

Array = NDArray[np.float64]


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
class _Pass:
    """One run over the rows: sums for the score, FLOPs of each example, time."""

    parts: Array  # (E, 2) numerator and denominator of the score
    flops: Array  # (E,)
    milliseconds: float
    milliseconds_single: float

    @property
    def score(self) -> float:
        """Accuracy, or F1."""
        return float(ratio_of(self.parts.sum(0)))

    def quicker(self, other: _Pass) -> _Pass:
        """The same pass with the shorter of both times."""
        return replace(
            self,
            milliseconds=min(self.milliseconds, other.milliseconds),
            milliseconds_single=min(self.milliseconds_single, other.milliseconds_single),
        )

    def slowed(self, smaller: Sequence[_Pass]) -> bool:
        """Whether it took longer than a pass that drops less, in batches or one by one."""
        return any(
            self.milliseconds > SLOWER * one.milliseconds or self.milliseconds_single > SLOWER * one.milliseconds_single
            for one in smaller
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
    if not rows:
        raise ArgumentError("rows: nothing to calibrate on")
    if metric not in ("accuracy", "f1"):
        raise ArgumentError(f"metric: {metric!r} is not 'accuracy' or 'f1'")
    classes = model.config.num_labels
    strange = [row["labels"] for row in rows if not 0 <= row["labels"] < classes]
    if strange:
        raise DataError(f"labels: {strange[0]} found, but the model has {classes} labels, 0 to {classes - 1}")
    grid = grid or Grid()
    owners = [str(row["example_id"]) for row in rows]
    gold = dict(zip(owners, (int(row["labels"]) for row in rows), strict=True))
    windows = Counter(owners)  # of each example
    names = list(windows)
    drawn = {names[number] for number in np.random.default_rng(seed).permutation(len(names))[:timed_single]}
    single = [row for row, owner in zip(rows, owners, strict=True) if owner in drawn]  # all windows of those drawn

    def run_over_rows(**options: Any) -> _Pass:
        start = time.perf_counter()
        found = predict_rows(model, rows, pad_token_id=pad_token_id, token_budget=token_budget, **options)
        middle = time.perf_counter()
        predict_rows(model, single, pad_token_id=pad_token_id, token_budget=1, **options)
        end = time.perf_counter()
        examples, logits = by_example(found.logits, owners)  # (E, C)
        spent = backbone_flops(model.config, found.lengths_in)
        if options["removal"] == "hard":
            spent = adapler_flops(model.config, found.lengths_in, found.lengths)
        _, mean = by_example(spent[:, None].double(), owners)
        counts = np.array([windows[one] for one in examples])  # (E,)
        labels = np.array([gold[one] for one in examples])
        return _Pass(
            score_parts(logits.argmax(-1).numpy(), labels, metric=metric),
            mean[:, 0].numpy() * counts,
            1000 * (middle - start) / len(examples),
            1000 * (end - middle) / len(drawn),
        )

    # The first call also sets things up, so it is not timed.
    predict_rows(model, single[:1], pad_token_id=pad_token_id, removal="hard")
    none = run_over_rows(removal="none")
    say(f"removal none: {metric} {none.score:.4f}, {none.milliseconds:.1f} ms a text")
    passes: dict[float, _Pass] = {}

    def speedup(scale: float) -> float:
        return float(none.flops.sum() / passes[scale].flops.sum())

    def add(scale: float) -> None:
        passes[scale] = one = run_over_rows(removal="hard", threshold_scale=scale)
        say(
            f"threshold_scale {scale:g}: {metric} {one.score:.4f}, {speedup(scale):.2f}x fewer FLOPs, "
            f"{one.milliseconds:.1f} ms a text"
        )

    def ended(scale: float) -> bool:
        return speedup(scale) >= grid.most_speedup or none.score - passes[scale].score >= grid.most_drop

    def fastest_speedup() -> float:
        options: dict[str, Any] = {"removal": "hard", "threshold_scale": EVERYTHING, "token_budget": token_budget}
        found = predict_rows(model, rows, pad_token_id=pad_token_id, **options)
        return float(none.flops.sum() / adapler_flops(model.config, found.lengths_in, found.lengths).sum())

    for scale in FIRST_SCALES:
        add(scale)
    last, fastest = FIRST_SCALES[-1], 0.0  # not known yet
    while not ended(last) and len(passes) < grid.points:
        before, last = last, float(f"{last * GROWTH:.4g}")
        add(last)
        if speedup(last) < 1.01 * speedup(before):
            fastest = fastest or fastest_speedup()
            if speedup(last) > fastest / 1.01:
                break  # nothing is left to drop
    while len(passes) < grid.points:
        scales = sorted(passes)
        gaps = [speedup(high) / speedup(low) for low, high in zip(scales, scales[1:], strict=False)]
        widest = int(np.argmax(gaps))
        middle = float(f"{(scales[widest] + scales[widest + 1]) / 2:.4g}")
        if gaps[widest] <= CLOSE or middle in passes:
            break
        add(middle)
    none = none.quicker(run_over_rows(removal="none"))  # the first pass may also be slow because it is the first
    scales = sorted(passes)
    for number, scale in enumerate(scales):
        for _ in range(TIMED_AGAIN):
            if not passes[scale].slowed([none, *(passes[one] for one in scales[:number])]):
                break
            passes[scale] = one = passes[scale].quicker(run_over_rows(removal="hard", threshold_scale=scale))
            say(f"threshold_scale {scale:g}, timed again: {one.milliseconds:.1f} ms a text")
    return _summarised(none, passes, level=level, resamples=resamples, seed=seed, timed_single=len(drawn))


def score_parts(predicted: NDArray[Any], gold: NDArray[Any], *, metric: str) -> Array:
    """(E, 2): what is summed over examples; the ratio of the two sums is the score, accuracy or F1 of label 1."""
    if metric == "accuracy":
        return np.stack([predicted == gold, np.ones(len(gold))], axis=1).astype(float)
    hit, said, true = (predicted == 1) & (gold == 1), predicted == 1, gold == 1
    return np.stack([2.0 * hit, said.astype(float) + true], axis=1)  # F1 = 2 tp / (2 tp + fp + fn)


def ratio_of(sums: Array) -> Array:
    """(..., 2) -> (...); 0 where nothing is counted, as the F1 of no positives."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] != 0)


def _summarised(
    none: _Pass, passes: dict[float, _Pass], *, level: float, resamples: int, seed: int, timed_single: int
) -> Measured:
    scales = sorted(passes)
    everything = [none, *(passes[scale] for scale in scales)]
    examples = len(none.flops)
    columns = np.concatenate([np.concatenate([one.parts, one.flops[:, None]], axis=1) for one in everything], axis=1)
    random = np.random.default_rng(seed)
    block = max(1, min(resamples, DRAWN_AT_ONCE // examples))
    sums = []
    for begin in range(0, resamples, block):
        number = min(block, resamples - begin)
        counts = random.multinomial(examples, np.full(examples, 1 / examples), size=number)  # (R, E)
        sums.append(counts @ columns)
    drawn = np.concatenate(sums).reshape(resamples, len(everything), 3)  # (R, 1 + S, 3)
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
        examples=examples,
        timed_single=timed_single,
        slower_texts=float((np.diff(by_scale, axis=0) > 0).mean()),
    )


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
