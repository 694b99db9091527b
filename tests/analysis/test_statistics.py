from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapler.errors import ArgumentError
from analysis.statistics import bootstrap_intervals


def test_equals_scipy_with_the_same_draws() -> None:
    values = np.random.default_rng(3).beta(2, 5, size=40)
    ours = bootstrap_intervals(values, resamples=999, seed=7)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=999, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    assert (float(ours.low), float(ours.high)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert float(ours.mean) == pytest.approx(values.mean())


def test_undefined_documents_are_left_out_of_their_cell_only() -> None:
    values = np.random.default_rng(0).random((2, 3, 12))
    values[0, 1, :4] = np.nan
    values[1, 2] = np.nan
    result = bootstrap_intervals(values, resamples=200)
    assert result.n.tolist() == [[12, 8, 12], [12, 12, 0]]
    assert np.isnan([result.mean[1, 2], result.low[1, 2], result.high[1, 2]]).all()
    alone = bootstrap_intervals(values[0, 1, 4:], resamples=200)
    assert result.low[0, 1] == pytest.approx(float(alone.low)) and result.n[0, 1] == alone.n
    assert result.mean[0, 1] == pytest.approx(values[0, 1, 4:].mean())


def test_seeded_and_narrower_at_a_lower_level() -> None:
    values = np.random.default_rng(1).random(30)
    one, two = bootstrap_intervals(values, seed=1), bootstrap_intervals(values, seed=1)
    assert (one.low, one.high) == (two.low, two.high)
    half = bootstrap_intervals(values, level=0.5, seed=1)
    assert one.low < half.low < half.mean < half.high < one.high


def test_constant_values_have_no_width() -> None:
    result = bootstrap_intervals([0.25] * 9)
    assert result.low == pytest.approx(0.25) and result.high == pytest.approx(0.25)


@pytest.mark.parametrize(("options", "message"), [({"level": 1.0}, "level: got 1.0"), ({"resamples": 0}, "resamples")])
def test_bad_arguments(options: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        bootstrap_intervals([0.1, 0.2], **options)
