"""TPR at equal FPR: by hand, as scikit-learn's ROC curve, and as the mean over every order of ties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import tpr_at_fpr
from analysis.metrics.registry import compute
from analysis.metrics.unit import Unit

LEVELS = (0.0, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.8, 1.0)
# few distinct scores, so that ties are the rule
tied = st.lists(st.tuples(st.booleans(), st.sampled_from([-0.1, 0.0, 0.2, 0.5])), min_size=1, max_size=40)


def on_the_curve(labels: list[bool], scores: list[float], levels: Sequence[float]) -> list[float]:
    """Interpolated between scikit-learn's points; where the curve is vertical, its upper end."""
    x, y, _ = roc_curve(labels, scores, drop_intermediate=False)
    return [float(one) for one in np.interp(levels, x, y)]


def test_by_hand() -> None:
    labels, scores = [1, 0, 1, 0, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    # 5 others at ranks 2, 4, 5, 7, 8; the rationale at 1, 3, 6
    expected = {0.0: 1 / 3, 0.1: 1 / 3, 0.2: 2 / 3, 0.39: 2 / 3, 0.4: 2 / 3, 0.6: 1, 1.0: 1}
    assert {level: tpr_at_fpr(labels, scores, level) for level in expected} == pytest.approx(expected)
    assert tpr_at_fpr([0, 0, 1], [0.4, 0.3, 0.2], 0.5) == 0 and tpr_at_fpr([0, 0, 1], [0.4, 0.3, 0.2], 1) == 1


def test_ties_by_hand() -> None:
    # a rationale token, then a tie of two rationale tokens and one other, then another one
    labels, scores = [1, 1, 1, 0, 0], [0.9, 0.5, 0.5, 0.5, 0.1]
    assert tpr_at_fpr(labels, scores, 0) == pytest.approx((1 + 2 * 1 / 2) / 3)  # half of the two come before the other
    assert tpr_at_fpr(labels, scores, 0.5) == 1
    constant = [1, 1] + [0] * 9  # of 9 others none may come at 10 %, one at 20 %
    assert [tpr_at_fpr(constant, [0.1] * 11, one) for one in (0.1, 0.2)] == pytest.approx([1 / 10, 2 / 10])


def test_a_multiple_of_a_token_is_met_whatever_a_float_makes_of_it() -> None:
    labels = [False] * 3 + [True] + [False] * 27  # three others come first, and .1 · 30 is 3
    assert tpr_at_fpr(labels, np.arange(31.0)[::-1], 0.1) == 1


def test_undefined_and_refused() -> None:
    assert math.isnan(tpr_at_fpr([0, 0], [0.2, 0.1], 0.1)) and math.isnan(tpr_at_fpr([1, 1], [0.2, 0.1], 0.1))
    assert math.isnan(tpr_at_fpr([], [], 0.1))
    for level in (-0.1, 1.1, math.nan):
        with pytest.raises(ArgumentError, match="fpr: got .*, must be between 0 and 1"):
            tpr_at_fpr([1, 0], [0.2, 0.1], level)
    with pytest.raises(ArgumentError, match="scores: 1 tokens, labels have 2"):
        tpr_at_fpr([1, 0], [0.2], 0.1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda some: 0 < sum(some) < len(some)), st.data())
def test_without_ties_it_is_the_roc_curve(labels: list[bool], data: st.DataObject) -> None:
    scores = [float(score) for score in data.draw(st.permutations(range(len(labels))))]
    found = [tpr_at_fpr(labels, scores, level) for level in LEVELS]
    assert found == pytest.approx(on_the_curve(labels, scores, LEVELS))


@settings(max_examples=20, deadline=None)
@given(tied.filter(lambda some: len(some) <= 6))
def test_ties_are_the_mean_over_every_order(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = [p[0] for p in pairs], [p[1] for p in pairs]
    if not 0 < sum(labels) < len(labels):
        return
    orders = [
        [s + 1e-3 * place for s, place in zip(scores, order, strict=True)] for order in permutations(range(len(pairs)))
    ]
    levels = (0.0, 0.2, 0.5, 0.7)
    every = [on_the_curve(labels, order, levels) for order in orders]
    assert [tpr_at_fpr(labels, scores, level) for level in levels] == pytest.approx(np.mean(every, axis=0))


@settings(max_examples=100, deadline=None)
@given(tied, st.randoms(use_true_random=False))
def test_it_rises_with_the_fpr_and_only_the_order_counts(pairs: list[tuple[bool, float]], random: Random) -> None:
    labels, scores = [p[0] for p in pairs], np.array([p[1] for p in pairs])
    values = [tpr_at_fpr(labels, scores, level) for level in LEVELS]
    if not 0 < sum(labels) < len(labels):
        assert np.isnan(values).all()
        return
    assert (np.diff(values) >= 0).all() and 0 <= values[0] and values[-1] == 1
    assert values == [tpr_at_fpr(labels, np.exp(3 * scores) - 7, level) for level in LEVELS]
    moved = random.sample(pairs, len(pairs))
    assert values == [tpr_at_fpr(*zip(*moved, strict=True), level) for level in LEVELS]


@pytest.mark.parametrize("percent", [5, 10, 20])
def test_random_scores_reach_the_fpr(percent: int) -> None:
    rng, labels = np.random.default_rng(0), np.arange(500) < 100
    drawn = [tpr_at_fpr(labels, rng.random(500), percent / 100) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx((4 * percent + 1) / 401, abs=0.006)
    assert tpr_at_fpr(labels, np.zeros(500), percent / 100) == pytest.approx((4 * percent + 1) / 401)


def test_how_much_is_selected_decides_nothing() -> None:
    """Two methods of one order, of which one gives all its mass to one token: the same, where TPR at 1/n differs."""
    labels = np.array([1, 0, 1, 0, 0, 0], dtype=bool)
    flat, steep = np.array([6, 5, 4, 3, 2, 1]) / 21, np.array([100, 5, 4, 3, 2, 1]) / 115
    names = ["tpr", "tpr_at_fpr_5", "tpr_at_fpr_10", "tpr_at_fpr_20"]
    one, other = (compute(names, Unit(labels, s, n_input=6, n_present=6, density=0.3)) for s in (flat, steep))
    assert one[0] == 1 and other[0] == 0.5 and one[1:] == other[1:] == [0.5, 0.5, 0.5]
    signed = compute(names, Unit(labels, -flat[::-1], n_input=6, n_present=6, density=0.3, signed=True))
    assert math.isnan(signed[0]) and signed[1:] == [0.5, 0.5, 0.5]
