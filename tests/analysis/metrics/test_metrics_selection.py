from __future__ import annotations

import math
from itertools import permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score as sklearn_f1
from sklearn.metrics import jaccard_score, precision_score, recall_score

from adapler.errors import ArgumentError
from analysis.metrics import selection as sel

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20)
tied = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.2])), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_precision_f1_and_iou_equal_sklearn(rows: list[tuple[bool, bool]]) -> None:
    labels, chosen = [r[0] for r in rows], [r[1] for r in rows]
    precision, recall, f1 = sel.precision_recall_f1(labels, chosen)
    if any(chosen):
        assert precision == sel.precision(labels, chosen) == pytest.approx(precision_score(labels, chosen))
    else:
        assert math.isnan(precision)
    if any(labels):
        assert recall == pytest.approx(recall_score(labels, chosen))
        assert f1 == sel.f1_score(labels, chosen) == pytest.approx(sklearn_f1(labels, chosen))
        assert sel.token_iou(labels, chosen) == pytest.approx(jaccard_score(labels, chosen))
    else:
        assert math.isnan(recall) and math.isnan(f1) and math.isnan(sel.token_iou(labels, chosen))


def test_by_hand() -> None:
    labels = [1, 1, 1, 0, 0, 0, 0, 0]
    chosen = [1, 1, 0, 1, 1, 0, 0, 0]
    assert sel.precision_recall_f1(labels, chosen) == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    assert sel.token_iou(labels, chosen) == pytest.approx(2 / 5)
    # nothing selected: no precision to speak of, but an F1 of 0
    assert math.isnan(sel.precision(labels, [0] * 8)) and sel.f1_score(labels, [0] * 8) == 0


@settings(max_examples=60, deadline=None)
@given(tied, st.integers(1, 7))
def test_top_k_is_the_mean_over_every_breaking_of_the_ties(rows: list[tuple[bool, float]], k: int) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    n, size = len(rows), min(k, len(rows))
    every = []
    for order in permutations(range(n)):
        ranked = sorted(order, key=lambda i: -scores[i])[:size]  # a stable sort of each order of the tokens
        hits = int(labels[ranked].sum())
        every.append((hits / size, hits / labels.sum() if labels.any() else math.nan))
    result = sel.top_k_scores(labels, scores, k)
    assert result[:2] == pytest.approx(np.mean(every, axis=0), nan_ok=True)
    if labels.any():
        assert result.f1 == pytest.approx(2 * result.precision * size / (size + labels.sum()))


def test_top_k_does_not_depend_on_the_order_of_the_document() -> None:
    labels, scores = [1, 0, 0, 1, 0, 0], [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]
    forward = sel.top_k_scores(labels, scores, 2)
    assert forward == sel.top_k_scores(labels[::-1], scores[::-1], 2)
    assert forward.precision == pytest.approx((1 + 1 / 5) / 2)  # one sure hit, one of five with one hit among them


def test_k_of_the_rationale_makes_all_three_one_number() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.random(30) < 0.3, rng.random(30)
    precision, recall, f1 = sel.top_k_scores(labels, scores, int(labels.sum()))
    assert precision == pytest.approx(recall) and recall == pytest.approx(f1)


@settings(max_examples=60, deadline=None)
@given(tied, st.integers(1, 7), st.booleans())
def test_top_k_iou_is_the_mean_over_every_breaking_of_the_ties(
    rows: list[tuple[bool, float]], k: int, positive_only: bool
) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    ious, f1s = [], []
    for order in permutations(range(len(rows))):
        chosen = np.zeros(len(rows), dtype=bool)
        chosen[sorted(order, key=lambda i: -scores[i])[:k]] = True
        if positive_only:
            chosen &= scores > 0
        ious.append(sel.token_iou(labels, chosen))
        f1s.append(sel.f1_score(labels, chosen))
    assert sel.top_k_iou(labels, scores, k, positive_only=positive_only) == pytest.approx(np.mean(ious), nan_ok=True)
    found = sel.top_k_scores(labels, scores, k, positive_only=positive_only).f1
    assert found == pytest.approx(np.mean(f1s), nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(tied, st.integers(1, 7), st.randoms(use_true_random=False))
def test_moving_tokens_about_changes_no_expectation(rows: list[tuple[bool, float]], k: int, random: Random) -> None:
    moved = random.sample(rows, len(rows))
    (labels, scores), (others, theirs) = zip(*rows, strict=True), zip(*moved, strict=True)
    assert sel.top_k_scores(labels, scores, k) == pytest.approx(sel.top_k_scores(others, theirs, k), nan_ok=True)
    assert sel.top_k_iou(labels, scores, k) == pytest.approx(sel.top_k_iou(others, theirs, k), nan_ok=True)


def test_select_top_k_breaks_ties_by_the_seed_alone() -> None:
    scores = [0.0, 0.3, 0.0, 0.0, 0.5]
    every = np.array([sel.select_top_k(scores, 3, seed=seed) for seed in range(300)])
    assert every.sum(1).tolist() == [3] * 300 and every[:, [1, 4]].all()
    assert 70 < every[:, 0].sum() < 130 and 70 < every[:, 3].sum() < 130  # of 300: no position is preferred
    assert (sel.select_top_k(scores, 3, seed=5) == sel.select_top_k(scores, 3, seed=5)).all()
    assert sel.has_tie_at(scores, 3) and not sel.has_tie_at(scores, 2) and not sel.has_tie_at(scores, 9)
    assert sel.select_top_k([-1.0, -3.0], 1).tolist() == [True, False]
    assert sel.select_top_k([0.1, 0.2], 9).all()
    assert sel.select_top_k([], 2).tolist() == []
    assert math.isnan(sel.top_k_scores([], [], 2).f1)


@pytest.mark.parametrize(("density", "n", "k"), [(0.1, 30, 3), (0.31, 100, 31), (0.07, 10, 1), (0, 5, 1), (1, 5, 5)])
def test_density_size_rounds_up(density: float, n: int, k: int) -> None:
    assert sel.density_size(density, n) == k


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="k: got 0, must be at least 1"):
        sel.select_top_k([0.1], 0)
    with pytest.raises(ArgumentError, match="density: got 1.5, must be between 0 and 1"):
        sel.density_size(1.5, 10)
    with pytest.raises(ArgumentError, match="density: got nan"):
        sel.density_size(math.nan, 10)
    with pytest.raises(ArgumentError, match="selected: 1 tokens, labels have 2"):
        sel.precision([1, 0], [1])
    with pytest.raises(ArgumentError, match="scores: 1 tokens, labels have 2"):
        sel.top_k_scores([1, 0], [0.1], 1)
