from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from adapler.errors import ArgumentError
from analysis.metrics import plausibility as pl


def slow_average_precision(labels: list[bool], scores: list[float]) -> float:
    """sum over thresholds of (gain in recall) x precision, counted one token at a time."""
    total, before, positives = 0.0, 0.0, sum(labels)
    for threshold in sorted(set(scores), reverse=True):
        chosen = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        recall, precision = sum(chosen) / positives, sum(chosen) / len(chosen)
        total += (recall - before) * precision
        before = recall
    return total


# few distinct scores, so that ties are the rule
tokens = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.5])), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(tokens)
def test_average_precision_equals_sklearn_and_a_slow_reference(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = [p[0] for p in pairs], [p[1] for p in pairs]
    value = pl.average_precision(labels, scores)
    if not any(labels):
        assert math.isnan(value)
        return
    assert value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert value == pytest.approx(slow_average_precision(labels, scores), abs=1e-12)


def test_average_precision_by_hand() -> None:
    assert pl.average_precision([1, 1, 0, 0], [0.4, 0.3, 0.2, 0.1]) == 1
    assert pl.average_precision([0, 0, 1], [0.4, 0.3, 0.2]) == pytest.approx(1 / 3)
    # constant scores say nothing: the density, not ERASER's trapezoid
    assert pl.average_precision([1] + [0] * 9, [0.1] * 10) == pytest.approx(0.1)
    # a hit, then a tie of three with one hit: 1/2 * 1 + 1/2 * 2/4
    assert pl.average_precision([1, 1, 0, 0], [0.9, 0.2, 0.2, 0.2]) == pytest.approx(0.75)


@pytest.mark.parametrize(("positives", "total"), [(1, 4), (2, 5), (3, 3), (1, 1)])
def test_expected_average_precision_equals_the_mean_over_all_rankings(positives: int, total: int) -> None:
    from itertools import permutations

    labels = [True] * positives + [False] * (total - positives)
    scores = [float(k) for k in range(total)]
    every = [pl.average_precision(labels, list(order)) for order in permutations(scores)]
    assert pl.expected_average_precision(positives, total) == pytest.approx(np.mean(every))


def test_rates_by_hand() -> None:
    labels = [1, 1, 1, 0, 0, 0, 0, 0]
    selected = [1, 1, 0, 1, 0, 0, 0, 0]
    assert pl.false_positive_rate(labels, selected) == pytest.approx(1 / 5)
    assert pl.true_positive_rate(labels, selected) == pytest.approx(2 / 3)
    assert pl.youden_j(labels, selected) == pytest.approx(2 / 3 - 1 / 5)
    assert pl.density(labels) == pytest.approx(3 / 8)
    # selecting nothing has a perfect FPR, and a J of 0 that says so
    assert (pl.false_positive_rate(labels, [0] * 8), pl.youden_j(labels, [0] * 8)) == (0, 0)


def test_undefined_metrics_are_nan() -> None:
    assert math.isnan(pl.false_positive_rate([1, 1], [1, 0]))
    assert math.isnan(pl.true_positive_rate([0, 0], [1, 0]))
    assert math.isnan(pl.youden_j([1, 1], [1, 0]))
    assert math.isnan(pl.youden_j([0, 0], [1, 0]))
    assert math.isnan(pl.average_precision([0, 0], [0.1, 0.2]))
    assert math.isnan(pl.expected_average_precision(0, 3))
    assert math.isnan(pl.density([]))


def test_uniform_selection() -> None:
    assert pl.select_uniform([0.4, 0.2, 0.19, 0.0], 5).tolist() == [True, True, False, False]
    for n in range(1, 600):  # exactly uniform float32 scores are at the level, whatever they were rounded to
        assert pl.select_uniform(np.full(n, 1 / n, dtype=np.float32), n).all()


def test_content_selection_renormalises() -> None:
    # [CLS] and [SEP] had .9 of the mass: none of these reaches 1/5, two reach their own mean
    scores = [0.06, 0.03, 0.01]
    assert not pl.select_uniform(scores, 5).any()
    assert pl.select_content(scores).tolist() == [True, False, False]
    assert pl.select_content([0.0, 0.0]).tolist() == [False, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pl.average_precision([1, 0], [0.1]), "scores: 1 tokens, labels have 2"),
        (lambda: pl.average_precision([1, 0], [0.1, math.nan]), "scores: must be finite"),
        (lambda: pl.average_precision([1, 2], [0.1, 0.2]), "labels: must be 0 or 1, got 2"),
        (lambda: pl.average_precision([[1]], [[0.1]]), "labels: must be one-dimensional"),
        (lambda: pl.select_uniform([0.1, -0.2], 2), "must not be negative, the lowest is -0.2"),
        (lambda: pl.select_uniform([0.1], 0), "n: got 0, must be at least 1"),
        (lambda: pl.false_positive_rate([1, 0], [1]), "selected: 1 tokens, labels have 2"),
        (lambda: pl.expected_average_precision(3, 2), "got 3 of 2"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()  # type: ignore[operator]
