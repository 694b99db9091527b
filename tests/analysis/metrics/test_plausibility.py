from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    auc,
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_recall_curve,
    precision_score,
    roc_auc_score,
    roc_curve,
)

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
few_tokens = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.2])), min_size=1, max_size=6)
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


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.2])), min_size=1, max_size=12))
def test_soft_average_precision_is_that_of_all_annotators_tokens_together(pairs: list[tuple[int, float]]) -> None:
    marked, scores = [p[0] for p in pairs], [p[1] for p in pairs]
    value = pl.soft_average_precision(np.array(marked) / 3, scores)
    if not any(marked):
        assert math.isnan(value)
        return
    together = [person < count for count in marked for person in range(3)]
    assert value == pytest.approx(average_precision_score(together, np.repeat(scores, 3)), abs=1e-12)


def test_average_precision_by_hand() -> None:
    assert pl.average_precision([1, 1, 0, 0], [0.4, 0.3, 0.2, 0.1]) == 1
    assert pl.average_precision([0, 0, 1], [0.4, 0.3, 0.2]) == pytest.approx(1 / 3)
    # constant scores say nothing: the density, not ERASER's trapezoid
    assert pl.average_precision([1] + [0] * 9, [0.1] * 10) == pytest.approx(0.1)
    # a hit, then a tie of three with one hit: 1/2 * 1 + 1/2 * 2/4
    assert pl.average_precision([1, 1, 0, 0], [0.9, 0.2, 0.2, 0.2]) == pytest.approx(0.75)


@pytest.mark.parametrize(("positives", "total"), [(1, 4), (2, 5), (3, 3), (1, 1)])
def test_expected_average_precision_equals_the_mean_over_all_rankings(positives: int, total: int) -> None:
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
    # selecting nothing has a perfect FPR, and a J of 0 that says so
    assert (pl.false_positive_rate(labels, [0] * 8), pl.youden_j(labels, [0] * 8)) == (0, 0)


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


@settings(max_examples=60, deadline=None)
@given(few_tokens, st.integers(1, 7), st.booleans())
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
        ious.append(pl.token_iou(labels, chosen))
        f1s.append(pl.f1_score(labels, chosen))
    assert pl.top_k_iou(labels, scores, k, positive_only=positive_only) == pytest.approx(np.mean(ious), nan_ok=True)
    found = pl.top_k_f1(labels, scores, k, positive_only=positive_only)
    assert found == pytest.approx(np.mean(f1s), nan_ok=True)


def test_the_size_of_a_mean_density_by_hand() -> None:
    assert [pl.density_size(*one) for one in ((0.1, 20), (0.1, 21), (0.0, 21), (0.1, 30))] == [2, 3, 1, 3]


def test_select_top_k_breaks_ties_by_the_seed_alone() -> None:
    scores = [0.0, 0.3, 0.0, 0.0, 0.5]
    every = np.array([pl.select_top_k(scores, 3, seed=seed) for seed in range(300)])
    assert every.sum(1).tolist() == [3] * 300 and every[:, [1, 4]].all()
    assert 70 < every[:, 0].sum() < 130 and 70 < every[:, 3].sum() < 130  # of 300: no position is preferred
    assert (pl.select_top_k(scores, 3, seed=5) == pl.select_top_k(scores, 3, seed=5)).all()
    assert pl.select_top_k([-1.0, -3.0], 1).tolist() == [True, False]
    assert pl.select_top_k([0.1, 0.2], 9).all()
    assert pl.select_top_k([], 2).tolist() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_precision_f1_and_iou_equal_sklearn(rows: list[tuple[bool, bool]]) -> None:
    labels, chosen = [r[0] for r in rows], [r[1] for r in rows]
    if any(chosen):
        assert pl.precision(labels, chosen) == pytest.approx(precision_score(labels, chosen))
    if any(labels):
        assert pl.f1_score(labels, chosen) == pytest.approx(f1_score(labels, chosen))
        assert pl.token_iou(labels, chosen) == pytest.approx(jaccard_score(labels, chosen))
    else:
        assert math.isnan(pl.f1_score(labels, chosen)) and math.isnan(pl.token_iou(labels, chosen))


@settings(max_examples=100, deadline=None)
@given(tokens)
def test_auprc_and_roc_auc_equal_sklearn(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = [p[0] for p in pairs], [p[1] for p in pairs]
    if any(labels):
        precision, recall, _ = precision_recall_curve(labels, scores)
        assert pl.auprc(labels, scores) == pytest.approx(auc(recall, precision), abs=1e-12)
    if any(labels) and not all(labels):
        assert pl.roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    else:
        assert math.isnan(pl.roc_auc(labels, scores))


def test_auprc_by_hand() -> None:
    # constant scores at 10 %: from (0, 1) straight to (1, .1)
    assert pl.auprc([1] + [0] * 9, [0.1] * 10) == pytest.approx(0.55)
    assert pl.auprc([0, 0, 0], [0.1, 0.2, 0.3]) == 0.5
    assert pl.auprc([1, 1], [0.1, 0.2]) == 1
    # (0, 1), (0, 0), (1/2, 1/2), (1, 2/3)
    assert pl.auprc([0, 1, 1], [0.9, 0.5, 0.1]) == pytest.approx(0.5 * 0.25 + 0.5 * 7 / 12)


def test_iou_f1_by_hand() -> None:
    gold = [0, 1, 1, 1, 1, 0, 0, 1, 1, 0]
    assert pl.iou_f1(gold, gold) == 1
    assert pl.iou_f1(gold, [0] * 10) == 0
    # [1, 3) has 2 of 4 (IOU 1/2, enough); [6, 10) has 2 of 4 with [7, 9); [5, 6) nothing is touching them
    assert pl.iou_f1(gold, [0, 1, 1, 0, 0, 0, 1, 1, 1, 1]) == 1
    # one token of four is 1/4: not enough, unless the threshold says so; precision 1/1, recall 1/2
    assert pl.iou_f1(gold, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]) == 0
    assert pl.iou_f1(gold, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0], threshold=0.25) == pytest.approx(2 / 3)
    # everything selected: one run of ten against [1, 5), 4/10
    assert pl.iou_f1(gold, [1] * 10) == 0
    assert pl.iou_f1([1] * 4, [1] * 4) == 1
    assert math.isnan(pl.iou_f1([0, 0], [1, 0]))


@settings(max_examples=60, deadline=None)
@given(tokens)
def test_precision_at_recall_equals_a_slow_reference(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = [p[0] for p in pairs], [p[1] for p in pairs]
    result = pl.precision_at_recall(labels, scores)
    assert result.shape == (len(pl.RECALL_GRID),)
    if not any(labels):
        assert np.isnan(result).all()
        return
    points = []
    for threshold in set(scores):
        chosen = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        points.append((sum(chosen), sum(chosen) / len(chosen)))
    expected = [max(p for hits, p in points if hits * 100 >= g * sum(labels)) for g in range(101)]
    assert result == pytest.approx(expected)
    assert (np.diff(result) <= 0).all()


def test_tpr_at_fpr_by_hand() -> None:
    labels, scores = [1, 0, 1, 0, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    # 5 others at ranks 2, 4, 5, 7, 8; the rationale at 1, 3, 6
    expected = {0.0: 1 / 3, 0.1: 1 / 3, 0.2: 2 / 3, 0.39: 2 / 3, 0.4: 2 / 3, 0.6: 1, 1.0: 1}
    assert {level: pl.tpr_at_fpr(labels, scores, level) for level in expected} == pytest.approx(expected)
    assert pl.tpr_at_fpr([0, 0, 1], [0.4, 0.3, 0.2], 0.5) == 0 and pl.tpr_at_fpr([0, 0, 1], [0.4, 0.3, 0.2], 1) == 1


def test_tpr_at_fpr_with_ties_by_hand() -> None:
    # a rationale token, then a tie of two rationale tokens and one other, then another one
    labels, scores = [1, 1, 1, 0, 0], [0.9, 0.5, 0.5, 0.5, 0.1]
    assert pl.tpr_at_fpr(labels, scores, 0) == pytest.approx((1 + 2 * 1 / 2) / 3)  # half of them come first
    assert pl.tpr_at_fpr(labels, scores, 0.5) == 1
    constant = [1, 1] + [0] * 9  # of 9 others none may come at 10 %, one at 20 %
    assert [pl.tpr_at_fpr(constant, [0.1] * 11, one) for one in (0.1, 0.2)] == pytest.approx([1 / 10, 2 / 10])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda some: 0 < sum(some) < len(some)), st.data())
def test_tpr_at_fpr_without_ties_is_the_roc_curve(labels: list[bool], data: st.DataObject) -> None:
    scores = [float(score) for score in data.draw(st.permutations(range(len(labels))))]
    x, y, _ = roc_curve(labels, scores, drop_intermediate=False)
    levels = (0.0, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.8, 1.0)
    found = [pl.tpr_at_fpr(labels, scores, level) for level in levels]
    assert found == pytest.approx([float(one) for one in np.interp(levels, x, y)])


def test_gini_is_the_mean_difference() -> None:
    sizes = np.abs(np.random.default_rng(0).normal(size=30))
    assert pl.gini(sizes) == pytest.approx(np.abs(sizes[:, None] - sizes[None]).mean() / (2 * sizes.mean()))
    assert math.isnan(pl.gini([0, 0])) and math.isnan(pl.gini([]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pl.average_precision([1, 0], [0.1]), "scores: 1 tokens, labels have 2"),
        (lambda: pl.average_precision([1, 0], [0.1, math.nan]), "scores: must be finite"),
        (lambda: pl.average_precision([1, 2], [0.1, 0.2]), "labels: must be 0 or 1, got 2"),
        (lambda: pl.average_precision([[1]], [[0.1]]), "labels: must be one-dimensional"),
        (lambda: pl.select_uniform([0.1, -0.2], 2), "must not be negative, the lowest is -0.2"),
        (lambda: pl.false_positive_rate([1, 0], [1]), "selected: 1 tokens, labels have 2"),
        (lambda: pl.select_top_k([0.1], 0), "k: got 0, must be at least 1"),
        (lambda: pl.density_size(math.nan, 10), "density: got nan"),
        (lambda: pl.tpr_at_fpr([1, 0], [0.2, 0.1], 1.1), "fpr: got 1.1, must be between 0 and 1"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()  # type: ignore[operator]
