from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from adapler.errors import ArgumentError
from analysis import report
from analysis.report import (
    bootstrap_intervals,
    compare,
    holm,
    paired_permutation_test,
)


def test_equals_scipy_with_the_same_draws() -> None:
    values = np.random.default_rng(3).beta(2, 5, size=40)
    ours = bootstrap_intervals(values, resamples=999, seed=7)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(7)
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


def test_one_document_and_nearly_constant_values() -> None:
    one = bootstrap_intervals([0.25])
    assert (float(one.low), float(one.high)) == (0.25, 0.25)
    rare = bootstrap_intervals(np.array([[0.0] * 29 + [1.0], [0.0] * 30]), resamples=20)
    assert np.isfinite([rare.low, rare.high]).all() and rare.low[0] <= rare.mean[0] <= rare.high[0]
    assert rare.low[1] == rare.high[1] == 0


def test_an_interval_does_not_depend_on_its_neighbours() -> None:
    values = np.random.default_rng(2).random((40, 60))
    together = bootstrap_intervals(values, resamples=5000)  # more than fit into memory at once
    alone = bootstrap_intervals(values[17])
    expected = [float(alone.low), float(alone.high)]
    assert [together.low[17], together.high[17]] == pytest.approx(expected, abs=1e-12)


def test_few_documents_are_said() -> None:
    assert report.few_documents(20) is None and "6 documents" in str(report.few_documents(6))
    assert str(report.few_documents(1)).startswith("1 document has no interval")


def slow_permutation(difference: np.ndarray) -> float:
    """Every sign vector, one at a time."""
    observed = abs(difference.sum())
    every = [abs((np.array(signs) * difference).sum()) for signs in product((-1, 1), repeat=len(difference))]
    return float(np.mean([value >= observed - 1e-12 for value in every]))


def test_exact_permutation_test_equals_a_slow_reference_and_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 9):
        a, b = rng.random(n), rng.random(n) + 0.2
        p = float(paired_permutation_test(a, b))
        assert p == pytest.approx(slow_permutation(a - b))
        if n > 1:
            theirs = stats.permutation_test(
                (a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", vectorized=True
            )
            assert p == pytest.approx(theirs.pvalue)
    assert float(paired_permutation_test([0.5, 0.6, 0.7], [0.1, 0.1, 0.1])) == 2 / 8  # all one way: two of eight


def test_random_signs_come_near_the_exact_p() -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(0.4, 1, (2, 12))
    exact = paired_permutation_test(a, np.zeros_like(a))
    drawn = paired_permutation_test(a, np.zeros_like(a), resamples=4000)  # fewer than 2^12
    assert not np.array_equal(exact, drawn) and drawn == pytest.approx(exact, abs=0.03)
    assert np.array_equal(drawn, paired_permutation_test(a, np.zeros_like(a), resamples=4000))
    assert not np.array_equal(drawn, paired_permutation_test(a, np.zeros_like(a), resamples=4000, seed=1))


def test_pairs_with_a_nan_are_left_out() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.random((2, 3, 10)), rng.random((2, 3, 10))
    a[0, 0, :3], b[0, 0, 5], a[1, 1] = np.nan, np.nan, np.nan
    p = paired_permutation_test(a, b)
    kept = [3, 4, 6, 7, 8, 9]
    assert p[0, 0] == pytest.approx(float(paired_permutation_test(a[0, 0, kept], b[0, 0, kept])))
    assert np.isnan(p[1, 1]) and np.isfinite(np.delete(p.ravel(), 4)).all()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([[0.5, np.nan], [0.9, np.nan]]) == pytest.approx(np.array([[1, np.nan], [1, np.nan]]), nan_ok=True)
    assert holm([np.nan]).shape == (1,) and holm([]).shape == (0,)
    p = np.random.default_rng(7).random(25) ** 3
    slow = [max(min(1.0, (25 - (p < q).sum()) * q) for q in p if q <= mine) for mine in p]
    assert holm(p) == pytest.approx(slow)


def test_effect_size_by_hand() -> None:
    difference = np.array([0.2, 0.3, 0.0, -0.1])
    values = np.array([[difference, [0.2, 0.2, 0.2, np.nan]], np.zeros((2, 4))])
    frame = compare(values, ["cp", "x"])
    assert frame["d_z"].iloc[0] == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert frame["won"].tolist() == [pytest.approx(2.5 / 4), 1]
    assert np.isnan(frame["d_z"].iloc[1]), "no spread, whatever the last bits say"
    alone = compare(values[..., :1], ["cp", "x"])
    assert np.isnan(alone["d_z"]).all()


def comparison_values() -> np.ndarray:
    rng = np.random.default_rng(8)
    values = rng.random((3, 2, 30))
    values[0] += 0.4  # cp
    values[2, 1] = np.nan  # an input-level method
    values[:, :, 4] = np.nan  # a skipped document
    return values


def test_compare() -> None:
    values = comparison_values()
    frame = compare(values, ["cp", "saliency", "occlusion"])
    columns = ["method", "reference", "layer", "difference", "low", "high", "p", "p_holm", "d_z", "won", "n"]
    assert list(frame.columns) == columns
    assert frame[["method", "layer"]].values.tolist() == [
        ["saliency", 0], ["saliency", 1], ["occlusion", 0], ["occlusion", 1],
    ]  # fmt: skip
    assert (frame["reference"] == "cp").all() and frame["n"].tolist() == [29, 29, 29, 0]
    row = frame.iloc[1]
    difference = np.delete(values[0, 1] - values[1, 1], 4)
    assert row["difference"] == pytest.approx(difference.mean())
    assert row["low"] < row["difference"] < row["high"]
    interval = bootstrap_intervals(difference)
    assert (row["low"], row["high"]) == pytest.approx((float(interval.low), float(interval.high)))
    assert row["won"] == pytest.approx((difference > 0).mean())
    assert row["d_z"] == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert row["p"] == pytest.approx(float(paired_permutation_test(difference, np.zeros(29))))
    assert frame["p_holm"].to_numpy() == pytest.approx(holm(frame["p"].to_numpy()), nan_ok=True)
    assert (frame["p_holm"].iloc[:3] >= frame["p"].iloc[:3]).all() and np.isnan(frame["p"].iloc[3])


def test_compare_an_input_level_method_with_every_layer() -> None:
    values = comparison_values()
    frame = compare(values, ["cp", "saliency", "occlusion"], input_level=("occlusion",))
    assert frame["n"].tolist() == [29] * 4
    expected = np.nanmean(values[0, 1] - values[2, 0])
    assert frame["difference"].iloc[3] == pytest.approx(expected)
    assert np.isnan(values[2, 1]).all()  # what was given is left alone


def test_compare_where_lower_is_better_counts_the_lower_as_won() -> None:
    values = comparison_values()
    up = compare(values, ["cp", "saliency", "occlusion"])
    down = compare(values, ["cp", "saliency", "occlusion"], higher_is_better=False)
    assert down["won"].iloc[:3].to_numpy() == pytest.approx(1 - up["won"].iloc[:3].to_numpy())
    assert down["difference"].equals(up["difference"]) and down["p"].equals(up["p"])


def test_the_family_is_stable() -> None:
    values = comparison_values()
    alone = compare(values, ["cp", "saliency", "occlusion"])
    more = np.concatenate([values, values[:1], values[1:2], np.random.default_rng(1).random((1, 2, 30))])
    frame = compare(more, ["cp", "saliency", "occlusion", "cp(again)", "saliency_gold", "random(seed=1)"])
    assert frame["p_holm"].iloc[:4].equals(alone["p_holm"])  # two duplicates and random scores move nothing
    rows = frame.set_index(["method", "layer"])
    assert rows.loc["saliency_gold", "p_holm"].equals(rows.loc["saliency", "p_holm"])
    assert (rows.loc["cp(again)", "p_holm"] == 1).all() and (rows.loc["cp(again)", "difference"] == 0).all()
    random = rows.loc["random(seed=1)"]
    assert random["p_holm"].to_numpy() == pytest.approx(holm(random["p"].to_numpy()))


def test_pairs_have_one_shape() -> None:
    with pytest.raises(ArgumentError, match=r"a, b: got shapes \(1,\) and \(2,\)"):
        paired_permutation_test([0.1], [0.1, 0.2])
