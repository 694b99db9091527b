"""Numbers of metrics that one changed line would move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.metrics.curves import precision_at_recall
from analysis.metrics.perturbation import soft
from analysis.metrics.perturbation.document import FaithfulnessSettings
from analysis.metrics.registry import METRICS
from analysis.metrics.statistics import bootstrap_intervals
from tests.analysis.metrics.test_faithfulness import CONTENT, IDS, TRUE_WEIGHTS, BagOfWords


def test_the_percentile_interval_is_scipys_where_bca_has_none() -> None:
    values = np.array([0.0] * 29 + [1.0])
    seen = 0
    for seed in range(200):
        ours = bootstrap_intervals(values, resamples=4, seed=seed)
        options: dict[str, Any] = {"n_resamples": 4, "rng": np.random.default_rng(seed)}
        theirs = stats.bootstrap((values,), np.mean, method="percentile", **options)
        if (theirs.bootstrap_distribution > values.mean()).any() and (
            theirs.bootstrap_distribution < values.mean()
        ).any():
            continue  # BCa has an interval
        if (theirs.bootstrap_distribution == values.mean()).any():
            continue
        seen += 1
        interval = theirs.confidence_interval
        assert (float(ours.low), float(ours.high)) == pytest.approx((interval.low, interval.high), abs=1e-11), seed
    assert seen > 3


def test_which_way_faithfulness_is_better() -> None:
    better = {"comprehensiveness": True, "sufficiency": False}
    found = {
        name: metric.higher_is_better
        for name, metric in METRICS.items()
        if metric.group in ("faithfulness", "normalised")
    }
    found.pop("loo_kendall")
    assert found == {name: better[next(kind for kind in better if kind in name)] for name in found}


def test_soft_metrics_draw_from_the_seed() -> None:
    rows = [
        soft.soft_rows(BagOfWords(), IDS, CONTENT, [TRUE_WEIGHTS], target=1, settings=FaithfulnessSettings(seed=seed))
        for seed in (0, 1, 0)
    ]
    assert rows[0] == rows[2] != rows[1], "another seed, other draws"


def test_precision_at_a_recall_that_is_a_last_digit_more() -> None:
    labels, scores = [1, 0] * 25, -np.arange(50.0)  # recall .28 is 7 of 25, and .28 * 25 a last digit more
    hits = np.cumsum(labels)
    expected = [max(h / (k + 1) for k, h in enumerate(hits) if 100 * h >= g * 25) for g in range(101)]
    assert precision_at_recall(labels, scores) == pytest.approx(expected)
