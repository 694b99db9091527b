"""Measuring a curve: the points are those of evaluate_rows, intervals are those of a slow bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from adapler import ArgumentError, DataError
from adapler.evaluation import CLOSE, curve_table, evaluate_rows, measure, ratio_of, score_predictions
from adapler.flops import adapler_flops, backbone_flops
from adapler.inference import predict_rows
from adapler.training.config import CalibrateConfig, Inference, TaskOptions
from tests.adapler.inference.test_evaluation import rows
from tests.conftest import random_batch, tiny_adapler


def many(number: int, *, examples: int | None = None) -> list[dict[str, Any]]:
    lengths = [3 + (7 * k) % 30 for k in range(number)]
    batch = random_batch(lengths, seed=3)
    return [
        {
            "example_id": f"e{k % (examples or number)}",
            "input_ids": batch["input_ids"][k, :n].tolist(),
            "attention_mask": [1] * n,
            "labels": (k % (examples or number)) % 3,
        }
        for k, n in enumerate(lengths)
    ]


def quick(model: Any, data: Any, **options: Any) -> Any:
    how = {name: options.pop(name) for name in ("metric", "say") if name in options}
    inference = Inference(seed=options.pop("seed", 42))
    options = {"resamples": 200, "timed_single": 3, **options}
    config = CalibrateConfig(model="", task=TaskOptions(task=""), execution=inference, **options)
    return measure(model, data, config, pad_token_id=0, **how)


def test_points_are_those_of_an_evaluation() -> None:
    model, data = tiny_adapler(spread=0.1), rows([0, 2, 1, 0, 2], ["a", "c", "b", "a", "c"])
    found = quick(model, data.to_list(), points=5, most_drop=1.0)
    scales = [point.threshold_scale for point in found.points]
    expected = evaluate_rows(model, data, pad_token_id=0, threshold_scales=scales)
    assert found.examples == 3 and found.none.score == expected["none"]["score"]
    for point, row in zip(found.points, expected["hard"], strict=True):
        assert point.score == pytest.approx(row["score"]) and point.speedup == pytest.approx(row["speedup"])
        assert point.drop == pytest.approx(found.none.score - point.score)


def test_logits_that_are_no_numbers_make_no_curve() -> None:
    model = tiny_adapler()
    with torch.no_grad():
        model.backbone.classifier.weight[0, 0] = torch.nan
    with pytest.raises(ArgumentError, match="^model: its logits are NaN or infinite, so that no label follows"):
        quick(model, many(5))


def test_the_curve_begins_at_nothing_dropped_and_has_no_wide_gap() -> None:
    found = quick(tiny_adapler(spread=0.1, eta=0.3), many(40), most_drop=1.0, most_speedup=4.0, points=30)
    scales, speedups = zip(*((p.threshold_scale, p.speedup) for p in found.points), strict=True)
    assert scales[0] == 0 and list(scales) == sorted(set(scales)) and found.points[0].drop == 0
    assert speedups[0] < 1 < 4 <= speedups[-1], "the predictors cost something where nothing is dropped"
    assert max(high / low for low, high in zip(speedups, speedups[1:], strict=False)) <= CLOSE
    assert len(found.points) < 30 and found.slower_texts < 0.05
    assert all(p.milliseconds > 0 and p.milliseconds_single > 0 for p in (*found.points, found.none))


def test_the_curve_ends_where_the_score_is_lost_or_nothing_is_left() -> None:
    data, model = many(30), tiny_adapler(spread=0.1)
    with torch.no_grad():
        plain = [int(model(torch.tensor([row["input_ids"]]), removal="none").logits.argmax()) for row in data]
    data = [{**row, "labels": label} for row, label in zip(data, plain, strict=True)]
    found = quick(model, data, most_drop=0.1, most_speedup=1e9, points=8)
    beyond = [point.threshold_scale for point in found.points if point.drop >= 0.1]
    assert found.none.score == 1 and beyond
    ended = quick(model, data[:8], most_drop=1.0, most_speedup=1e9, points=30)
    assert ended.points[-1].speedup < 1.2 * ended.points[-2].speedup and len(ended.points) < 30


def test_the_curve_goes_on_where_the_first_scales_drop_nothing() -> None:
    """Low thresholds: that a larger scale is no faster does not mean that nothing is left."""
    found = quick(tiny_adapler(spread=0.1, eta=0.02), many(8), most_drop=1.0, most_speedup=2.0, points=24)
    at = {point.threshold_scale: point.speedup for point in found.points}
    assert at[1.0] == at[0.0] and found.points[-1].speedup >= 2


def test_intervals_are_those_of_a_slow_bootstrap() -> None:
    data, model = many(25), tiny_adapler(spread=0.1)
    found = quick(model, data, resamples=400, seed=7, points=4)
    point = found.points[2]
    with torch.no_grad():
        outputs = [
            [model(torch.tensor([row["input_ids"]]), removal=removal).logits.argmax() for removal in ("none", "hard")]
            for row in data
        ]
    right = np.array([[int(label) == row["labels"] for label in pair] for pair, row in zip(outputs, data, strict=True)])
    random, drops = np.random.default_rng(7), []
    for _ in range(400):
        counts = random.multinomial(25, np.full(25, 1 / 25))
        chosen = np.repeat(right, counts, axis=0)
        drops.append(chosen[:, 0].mean() - chosen[:, 1].mean())
    assert point.threshold_scale == 1
    assert point.drop_interval == pytest.approx(tuple(np.percentile(drops, [2.5, 97.5])))
    assert found.points[0].drop_interval == (0, 0), "paired"


def test_f1_is_a_ratio_of_sums() -> None:
    random = np.random.default_rng(0)
    predicted, gold = random.integers(0, 2, 30), random.integers(0, 2, 30)
    assert score_predictions(predicted, gold, metric="f1") == pytest.approx(f1_score(gold, predicted))
    assert ratio_of(np.zeros(2)) == 0


def test_the_table_has_a_line_for_each_scale() -> None:
    found = quick(tiny_adapler(), many(6), points=4)
    lines = curve_table(found.none, found.points, metric="accuracy").splitlines()
    assert len(lines) == 2 + len(found.points) and "drop" in lines[0] and "none" in lines[1]


def test_every_interval_is_that_of_a_slow_bootstrap() -> None:
    data, model = many(25), tiny_adapler(spread=0.1)
    found = quick(model, data, resamples=400, seed=7, level=0.8, points=4)
    counts = np.random.default_rng(7).multinomial(25, np.full(25, 1 / 25), size=400)  # (R, E)
    gold = np.array([row["labels"] for row in data])

    def interval(values: Any) -> Any:
        return pytest.approx(tuple(np.percentile(values, [10, 90])))

    plain = predict_rows(model, data, pad_token_id=0, removal="none")
    assert found.none.score_interval == interval(counts @ (plain.logits.argmax(-1).numpy() == gold) / 25)
    whole = backbone_flops(model.config, plain.lengths_in).numpy()
    for point in found.points:
        out = predict_rows(model, data, pad_token_id=0, removal="hard", threshold_scale=point.threshold_scale)
        assert point.score_interval == interval(counts @ (out.logits.argmax(-1).numpy() == gold) / 25)
        spent = adapler_flops(model.config, out.lengths_in, out.lengths).numpy()
        assert point.speedup_interval == interval(counts @ whole / (counts @ spent))


def test_times_are_of_a_text_and_not_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = iter(range(10_000))  # each part of a pass takes a second
    monkeypatch.setattr("adapler.evaluation.time.perf_counter", lambda: float(next(reads)))
    found = quick(tiny_adapler(spread=0.1), many(12, examples=3), timed_single=2, points=4)
    for one in (found.none, *found.points):
        assert one.milliseconds == pytest.approx(1000 / 3) and one.milliseconds_single == pytest.approx(1000 / 2)


def test_errors() -> None:
    with pytest.raises(DataError, match="^labels: 9 found, but the model has 3 labels"):
        quick(tiny_adapler(), [{**many(1)[0], "labels": 9}])
