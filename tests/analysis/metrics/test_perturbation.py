"""Soft metrics, limits of the AOPC and sparseness, against enumeration and by hand."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis import rationale_eval
from analysis.metrics import faithfulness as fa
from analysis.metrics.perturbation import bounds, soft
from analysis.metrics.perturbation.document import FaithfulnessSettings, bin_sizes
from analysis.metrics.sparseness import gini
from tests.analysis.metrics.test_faithfulness import CONTENT, IDS, TRUE_WEIGHTS, WHOLE, BagOfWords


def interacting(inputs: list[np.ndarray]) -> np.ndarray:
    """p(class 1) of a model in which pairs of tokens matter: no order by single tokens is the best one."""
    p = []
    for ids in inputs:
        there = set(ids.tolist())
        p.append(0.5 + 0.2 * ({1, 2} <= there) + 0.1 * ({3, 4} <= there) - 0.15 * (5 in there) + 0.05 * (2 in there))
    return np.stack([1 - np.array(p), np.array(p)], axis=1)


@pytest.mark.parametrize("kind", ["comprehensiveness", "sufficiency"])
def test_exact_limits_are_those_of_all_orders(kind: str) -> None:
    ids, content = np.array([101, 1, 2, 3, 4, 5, 102]), np.array([False, *[True] * 5, False])
    settings = FaithfulnessSettings(bins=(20, 40, 60, 80))
    every = [
        fa.faithfulness(interacting, ids, content, order, target=1, bins=settings.bins)[f"aopc_{kind}"]
        for order in permutations(range(5))
    ]
    low, high = bounds.aopc_bounds(interacting, ids, content, kind=kind, target=1, settings=settings)
    assert (low, high) == pytest.approx((min(every), max(every)))
    assert low < high


@pytest.mark.parametrize("search", ["_beam", "_in_blocks"])
def test_searches_find_the_limits_of_an_additive_model(monkeypatch: pytest.MonkeyPatch, search: str) -> None:
    monkeypatch.setattr(bounds, "EXACT", 0)
    if search == "_in_blocks":
        monkeypatch.setattr(bounds, "SINGLE_STEPS", 0)
    for kind, sign in (("comprehensiveness", 1), ("sufficiency", -1)):
        found = bounds.aopc_bounds(BagOfWords(), IDS, CONTENT, kind=kind, target=1, settings=FaithfulnessSettings())
        ends = [
            fa.faithfulness(BagOfWords(), IDS, CONTENT, order * TRUE_WEIGHTS, target=1)[f"aopc_{kind}"]
            for order in (-sign, sign)
        ]
        assert found == pytest.approx(tuple(ends))


def test_beam_search_is_exact_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, content = np.array([101, 1, 2, 3, 4, 5, 102]), np.array([False, *[True] * 5, False])
    arguments: dict[str, Any] = {"kind": "comprehensiveness", "target": 1, "settings": FaithfulnessSettings()}
    exact = bounds.aopc_bounds(interacting, ids, content, **arguments)
    monkeypatch.setattr(bounds, "EXACT", 0)
    assert bounds.aopc_bounds(interacting, ids, content, **arguments) == pytest.approx(exact)


def test_normalised_by_hand_and_undefined() -> None:
    assert bounds.normalised_aopc(0.1, -0.1, 0.3) == pytest.approx(0.5)
    assert math.isnan(bounds.normalised_aopc(0.1, 0.1, 0.1)) and math.isnan(bounds.normalised_aopc(math.nan, 0, 1))
    nothing = bounds.aopc_bounds(
        BagOfWords(), [101, 102], [False, False], kind="sufficiency", target=1, settings=FaithfulnessSettings()
    )
    assert all(map(math.isnan, nothing))
    with pytest.raises(ArgumentError, match="kind: got 'both', allowed are comprehensiveness, sufficiency"):
        bounds.aopc_bounds(BagOfWords(), IDS, CONTENT, kind="both", target=1, settings=FaithfulnessSettings())


def test_sizes_of_bins() -> None:
    assert bin_sizes(10, FaithfulnessSettings()) == [1, 1, 1, 2, 5]
    assert bin_sizes(10, FaithfulnessSettings(rounding="down")) == [None, None, 1, 2, 5]
    assert bin_sizes(10, FaithfulnessSettings(), usable=3) == [1, 1, 1, 2, 3]


def test_soft_metrics_of_certain_tokens_by_hand() -> None:
    scores = (TRUE_WEIGHTS > 0.06).astype(float)  # ids 1 and 2 stay, or go, for sure: nothing is left to chance
    (found,) = soft.soft_rows(BagOfWords(), IDS, CONTENT, [scores], target=1, settings=FaithfulnessSettings())
    scale = WHOLE - 0.5  # without any content token
    assert found["soft_comprehensiveness"] == pytest.approx(0.3 / scale)
    assert found["soft_sufficiency"] == pytest.approx(1.0)  # 0.8 is above the whole


def test_soft_metrics_are_means_over_draws() -> None:
    settings = FaithfulnessSettings(seed=3)
    rows = np.array([TRUE_WEIGHTS, -TRUE_WEIGHTS, np.ones(10)])
    found = soft.soft_rows(BagOfWords(), IDS, CONTENT, rows, target=1, settings=settings)
    again = soft.soft_rows(BagOfWords(), IDS, CONTENT, rows[:1], target=1, settings=settings)
    assert again[0] == found[0]  # other rows change nothing
    seed = FaithfulnessSettings(seed=4)
    assert soft.soft_rows(BagOfWords(), IDS, CONTENT, rows[:1], target=1, settings=seed)[0] != found[0]
    for name in soft.NAMES:
        assert found[0][name] > found[2][name] > found[1][name]
    assert soft.keep_chances([1, 3, 2]).tolist() == [0, 1, 0.5] and soft.keep_chances([2, 2]).tolist() == [0.5, 0.5]
    assert math.isnan(soft.soft_comprehensiveness(0.5, 0.4, 0.6)) and math.isnan(soft.soft_sufficiency(0.5, 0.4, 0.6))
    with pytest.raises(ArgumentError, match="must be \\(rows, 10 content tokens\\)"):
        soft.soft_rows(BagOfWords(), IDS, CONTENT, [[1.0]], target=1, settings=settings)


def test_gini_is_the_mean_difference() -> None:
    values = np.random.default_rng(0).normal(size=30)
    sizes = np.abs(values)
    expected = np.abs(sizes[:, None] - sizes[None]).mean() / (2 * sizes.mean())
    assert gini(values) == pytest.approx(expected)
    assert math.isnan(gini([0, 0])) and math.isnan(gini([]))


def test_they_are_metrics_of_an_evaluation(classifier: Any, tiny_tokenizer: Any, corpus_folder: Path) -> None:
    names = ["aopc_comprehensiveness", "naopc_comprehensiveness", "naopc_sufficiency", *soft.NAMES, "sparseness"]
    report = rationale_eval.evaluate(
        model=classifier,
        tokenizer=tiny_tokenizer,
        data=corpus_folder,
        methods=["saliency", "random", "occlusion"],
        metrics=names,
        max_length=24,
        progress=False,
    )
    values = report.to_frame().dropna()
    assert set(values["metric"]) == set(names)
    inside = values[values["metric"] == "naopc_comprehensiveness"]["value"]
    assert inside.between(-0.5, 1.5).all() and inside.between(0, 1).mean() > 0.8


def test_limits_of_as_many_tokens_as_may_be_taken() -> None:
    """ferret: only tokens with a positive score; then the AOPC is the mean over fewer sizes."""
    ids, content = np.array([101, 1, 2, 3, 4, 5, 102]), np.array([False, *[True] * 5, False])
    settings = FaithfulnessSettings(bins=(20, 40, 60, 80), rounding="down", positive_only=True)
    every = []
    for order in permutations(range(5)):
        scores = np.where(np.array(order) >= 3, order, 0)  # two are positive
        [one] = fa.faithfulness_rows(interacting, ids, content, scores[None], target=1, settings=settings)
        every.append(one["aopc_comprehensiveness"])
    kind: dict[str, Any] = {"kind": "comprehensiveness", "target": 1, "settings": settings}
    low, high = bounds.aopc_bounds(interacting, ids, content, **kind, usable=2)
    assert (low, high) == pytest.approx((min(every), max(every)))
    assert (low, high) != pytest.approx(bounds.aopc_bounds(interacting, ids, content, **kind))
    assert all(map(math.isnan, bounds.aopc_bounds(interacting, ids, content, **kind, usable=0)))
