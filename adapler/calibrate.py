"""Measuring a model's curve over threshold scales: score, FLOPs and time on the rows of a split.

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

from adapler.calibration import Baseline, Interval, Measured, Point
from adapler.errors import ArgumentError
from adapler.evaluation import by_example, check_labels
from adapler.flops import adapler_flops, backbone_flops
from adapler.inference import predict_rows
from adapler.passes import check_finite
from adapler.training.config import CalibrateConfig

FIRST_SCALES = (0.0, 0.5, 1.0)
GROWTH = 1.5  # from one scale to the next, while the end of the curve is looked for
EVERYTHING = 1e6  # a scale at which all that can be dropped is
CLOSE = 1.2  # two neighbouring speedups are no further apart, or another scale is measured between them
SLOWER = 1.1  # times a smaller scale, which drops less: then something else slowed the pass, and it is timed again

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pass:
    """One run over the rows: (E, 2) numerator and denominator of the score, (E,) FLOPs, milliseconds of a text."""

    parts: Array
    flops: Array
    milliseconds: float
    milliseconds_single: float

    @property
    def score(self) -> float:
        return float(ratio_of(self.parts.sum(0)))

    @property
    def times(self) -> dict[str, float]:
        return {"milliseconds": self.milliseconds, "milliseconds_single": self.milliseconds_single}

    def quicker(self, other: Pass) -> Pass:
        """The same pass with the shorter of both times."""
        shorter: dict[str, Any] = {name: min(time, other.times[name]) for name, time in self.times.items()}
        return replace(self, **shorter)

    def slowed(self, smaller: Sequence[Pass]) -> bool:
        """Whether it took longer than a pass that drops less."""
        return any(time > SLOWER * one.times[name] for one in smaller for name, time in self.times.items())


def measure(
    model: Any,
    rows: Sequence[dict[str, Any]],
    config: CalibrateConfig,
    *,
    pad_token_id: int,
    metric: str = "accuracy",
    say: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Measure a model at threshold scales from 0 to where it is fast enough or has lost its score.

    Where the speedup changes fast, more scales are measured. Intervals are percentile bootstrap intervals. All scales
    and the model without removal get the same draws of examples, so that drops are paired. Examples that are timed one
    by one, with all their windows, are drawn with the seed.

    Args:
        model: AdapLeR.
        rows: encoded, with example_id and labels; the logits of an example's windows are averaged.
        config: options.
        pad_token_id: the tokenizer's.
        metric: "accuracy" or "f1".
        say: is called with a line for each scale.

    Raises:
        ArgumentError: no rows, or another metric.
        DataError: labels outside the model's.
    """
    if not rows:
        raise ArgumentError("rows: nothing to calibrate on")
    if metric not in ("accuracy", "f1"):
        raise ArgumentError(f"metric: {metric!r} is not 'accuracy' or 'f1'")
    check_labels([row["labels"] for row in rows], model.config.num_labels)
    owners = [str(row["example_id"]) for row in rows]
    labels = dict(zip(owners, (int(row["labels"]) for row in rows), strict=True))
    names, gold = list(labels), np.array(list(labels.values()))  # (E,) in order of appearance
    windows = np.array(list(Counter(owners).values()))  # (E,)
    seed, points = config.execution.seed, config.points
    drawn = {names[i] for i in np.random.default_rng(seed).permutation(len(names))[: config.timed_single]}
    single = [row for row, owner in zip(rows, owners, strict=True) if owner in drawn]
    options: dict[str, Any] = {"pad_token_id": pad_token_id, "token_budget": config.token_budget}

    def run(**how: Any) -> Pass:
        start = time.perf_counter()
        found = predict_rows(model, rows, **options, **how)
        middle = time.perf_counter()
        predict_rows(model, single, **options | {"token_budget": 1}, **how)
        end = time.perf_counter()
        check_finite(found.logits)
        _, logits = by_example(found.logits, owners)  # (E, C)
        spent = backbone_flops(model.config, found.lengths_in)
        if how["removal"] == "hard":
            spent = adapler_flops(model.config, found.lengths_in, found.lengths)
        _, mean = by_example(spent[:, None], owners)
        return Pass(
            parts=score_parts(logits.argmax(-1).numpy(), gold, metric=metric),
            flops=mean[:, 0].numpy() * windows,
            milliseconds=1000 * (middle - start) / len(names),
            milliseconds_single=1000 * (end - middle) / len(drawn),
        )

    passes: dict[float, Pass] = {}

    def speedup(scale: float) -> float:
        return float(none.flops.sum() / passes[scale].flops.sum())

    def add(scale: float) -> None:
        passes[scale] = one = run(removal="hard", threshold_scale=scale)
        say(
            f"threshold_scale {scale:g}: {metric} {one.score:.4f}, {speedup(scale):.2f}x fewer FLOPs, "
            f"{one.milliseconds:.1f} ms a text"
        )

    predict_rows(model, single[:1], **options, removal="hard")  # the first call also sets things up
    none = run(removal="none")
    say(f"removal none: {metric} {none.score:.4f}, {none.milliseconds:.1f} ms a text")
    for scale in FIRST_SCALES:
        add(scale)
    last, fastest = FIRST_SCALES[-1], 0.0  # fastest: not known yet
    # Ever larger scales until the curve ends, or nothing is left to drop.
    while len(passes) < points:
        if speedup(last) >= config.most_speedup or none.score - passes[last].score >= config.most_drop:
            break
        before, last = last, float(f"{last * GROWTH:.4g}")
        add(last)
        if speedup(last) < 1.01 * speedup(before):
            if not fastest:
                found = predict_rows(model, rows, **options, removal="hard", threshold_scale=EVERYTHING)
                fastest = float(none.flops.sum() / adapler_flops(model.config, found.lengths_in, found.lengths).sum())
            if speedup(last) > fastest / 1.01:
                break
    while len(passes) < points:  # scales between neighbours whose speedups are far apart, the furthest first
        scales = sorted(passes)
        gaps = [speedup(high) / speedup(low) for low, high in zip(scales, scales[1:], strict=False)]
        widest = int(np.argmax(gaps))
        middle = float(f"{(scales[widest] + scales[widest + 1]) / 2:.4g}")
        if gaps[widest] <= CLOSE or middle in passes:
            break
        add(middle)
    none = none.quicker(run(removal="none"))  # it may also be slow because it was the first
    scales = sorted(passes)
    for index, scale in enumerate(scales):
        for _ in range(2):
            if not passes[scale].slowed([none, *(passes[one] for one in scales[:index])]):
                break
            passes[scale] = passes[scale].quicker(run(removal="hard", threshold_scale=scale))
            say(f"threshold_scale {scale:g}, timed again: {passes[scale].milliseconds:.1f} ms a text")
    return _summarised(none, passes, config, timed_single=len(drawn))


def score_parts(predicted: NDArray[Any], gold: NDArray[Any], *, metric: str) -> Array:
    """(E, 2): summed over examples, the ratio of the two is the score, accuracy or F1 of label 1."""
    if metric == "accuracy":
        return np.stack([predicted == gold, np.ones(len(gold))], axis=1).astype(float)
    hit, said, true = (predicted == 1) & (gold == 1), predicted == 1, gold == 1
    return np.stack([2.0 * hit, said.astype(float) + true], axis=1)  # F1 = 2 tp / (2 tp + fp + fn)


def ratio_of(sums: Array) -> Array:
    """(..., 2) -> (...); 0 where nothing is counted, as the F1 of no positives."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] != 0)


def resampled(passes: Sequence[Pass], *, resamples: int, seed: int) -> Array:
    """(R, K, 3): numerator and denominator of the score, and FLOPs, of K passes over the same draws of examples."""
    examples = len(passes[0].flops)
    columns = np.concatenate([np.concatenate([one.parts, one.flops[:, None]], axis=1) for one in passes], axis=1)
    random = np.random.default_rng(seed)
    block = max(1, min(resamples, (1 << 24) // examples))  # resamples in memory at a time
    counts = (
        random.multinomial(examples, np.full(examples, 1 / examples), size=min(block, resamples - begin))
        for begin in range(0, resamples, block)
    )
    return np.concatenate([drawn @ columns for drawn in counts]).reshape(resamples, len(passes), 3)


def _summarised(none: Pass, passes: dict[float, Pass], config: CalibrateConfig, *, timed_single: int) -> Measured:
    ordered = sorted(passes.items())
    every = [none, *(one for _, one in ordered)]
    drawn = resampled(every, resamples=config.resamples, seed=config.execution.seed)  # (R, 1 + S, 3)
    scores, flops = ratio_of(drawn[..., :2]), drawn[..., 2]  # (R, 1 + S)
    tail = 100 * (1 - config.level) / 2

    def interval(values: Array) -> Interval:
        low, high = np.percentile(values, [tail, 100 - tail])
        return float(low), float(high)

    points = tuple(
        Point(
            threshold_scale=scale,
            score=one.score,
            score_interval=interval(scores[:, index]),
            drop=none.score - one.score,
            drop_interval=interval(scores[:, 0] - scores[:, index]),
            speedup=float(none.flops.sum() / one.flops.sum()),
            speedup_interval=interval(flops[:, 0] / flops[:, index]),
            **one.times,
        )
        for index, (scale, one) in enumerate(ordered, start=1)
    )
    by_scale = np.stack([one.flops for _, one in ordered])  # (S, E)
    return Measured(
        none=Baseline(score=none.score, score_interval=interval(scores[:, 0]), **none.times),
        points=points,
        examples=len(none.flops),
        timed_single=timed_single,
        slower_texts=float((np.diff(by_scale, axis=0) > 0).mean()),
    )


def curve_table(none: Baseline, points: Sequence[Point], *, metric: str) -> str:
    """The curve as text; intervals in brackets."""
    import pandas as pd

    def cell(value: float, interval: Interval, digits: int = 3) -> str:
        return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"

    rows = []
    for one in (none, *points):
        row = dict.fromkeys(("scale", metric, "drop", "speedup"), "") | {"scale": "none"}
        if isinstance(one, Point):
            row |= {"scale": f"{one.threshold_scale:.4g}", "drop": cell(one.drop, one.drop_interval)}
            row["speedup"] = cell(one.speedup, one.speedup_interval, 2)
        row[metric] = cell(one.score, one.score_interval)
        rows.append(
            row | {"ms in batches": f"{one.milliseconds:.2f}", "ms one by one": f"{one.milliseconds_single:.2f}"}
        )
    return pd.DataFrame(rows).to_string(index=False)
