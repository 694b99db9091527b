"""Exact Shapley values against all permutations; chances of equal mean."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis.metrics import truth


def test_shapley_values_are_the_mean_over_all_orders() -> None:
    n, worth = 4, np.random.default_rng(0).normal(size=16)
    expected = np.zeros(n)
    for order in (every := list(permutations(range(n)))):
        there = 0
        for token in order:
            expected[token] += (worth[there | 1 << token] - worth[there]) / len(every)
            there |= 1 << token
    found = truth.shapley_values(worth)
    assert found == pytest.approx(expected) and found.sum() == pytest.approx(worth[-1] - worth[0])
    assert truth.all_subsets(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]
    with pytest.raises(ArgumentError, match="worth: got 3 values"):
        truth.shapley_values([0, 1, 2])


def test_every_method_keeps_as_much_in_its_own_order() -> None:
    scores = np.random.default_rng(1).normal(size=30) ** 3
    chances = truth.equal_chances(scores, 0.3)
    assert chances.mean() == pytest.approx(0.3) and (np.diff(chances[np.argsort(scores)]) >= 0).all()


def test_edited_words_of_both_texts() -> None:
    one, two = "not a good film".split(), "a very good film".split()
    assert truth.edited_words(one, two).tolist() == [True, False, False, False]
    assert truth.edited_words(two, one).tolist() == [False, True, False, False]
