"""A calibration's intervals and times, against computations of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adapler.budgets.stored import weights_checksum
from adapler.flops import adapler_flops, backbone_flops
from adapler.inference import passes
from adapler.inference.calibration import FIRST_SCALES, GROWTH, Grid, _summarised
from adapler.inference.passes import Pass, resampled
from adapler.inference.predict import predict_rows
from adapler.outputs import of_texts
from tests.adapler.budgets.curves import calibration
from tests.adapler.inference.test_calibration import many, quick
from tests.adapler.policies.policy_models import tiny_policy
from tests.conftest import tiny_adapler


def test_every_interval_is_that_of_a_slow_bootstrap() -> None:
    data, model = many(25), tiny_adapler(spread=0.1)
    found = quick(model, data, resamples=400, seed=7, level=0.8, grid=Grid(points=4))
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
    monkeypatch.setattr("adapler.inference.calibration.time.perf_counter", lambda: float(next(reads)))
    found = quick(tiny_adapler(spread=0.1), many(12, examples=3), timed_single=2, grid=Grid(points=2))
    for one in (found.none, *found.points):
        assert one.milliseconds == pytest.approx(1000 / 3) and one.milliseconds_single == pytest.approx(1000 / 2)


def test_a_pass_that_was_slowed_one_by_one_is_slow() -> None:
    fast = Pass(parts=np.ones((1, 2)), flops=np.ones(1), milliseconds=10.0, milliseconds_single=10.0)
    assert not fast.slowed([fast])
    assert replace(fast, milliseconds_single=12.0).slowed([fast]) and replace(fast, milliseconds=12.0).slowed([fast])


def of_flops(*flops: float) -> Pass:
    parts = np.stack([np.arange(len(flops)) % 2, np.ones(len(flops))], axis=1)
    return Pass(parts=parts, flops=np.array(flops), milliseconds=1.0, milliseconds_single=1.0)


def test_resamples_that_are_drawn_in_blocks_are_those_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large split is drawn in several, and the last is shorter."""
    both = [of_flops(3.0, 1.0, 4.0, 1.0), of_flops(5.0, 9.0, 2.0, 6.0)]
    whole = resampled(both, resamples=10, seed=3)
    monkeypatch.setattr(passes, "DRAWN_AT_ONCE", 4 * 4)
    assert np.array_equal(resampled(both, resamples=10, seed=3), whole)
    assert whole.shape == (10, 2, 3) and (whole[..., 1] == 4).all(), "as many examples as there are"


def test_the_share_of_texts_that_a_larger_scale_made_slower() -> None:
    measured = {2.0: of_flops(3.0, 2.0, 9.0), 0.0: of_flops(4.0, 4.0, 4.0), 1.0: of_flops(3.0, 5.0, 4.0)}
    found = _summarised(of_flops(9.0, 9.0, 9.0), measured, level=0.95, resamples=9, seed=0, timed_single=1)
    assert found.slower_texts == 2 / 6, "4 to 5, and 4 to 9; the others fall or stay"


@pytest.mark.parametrize("end", [{"most_drop": 0.1, "most_speedup": 1e9}, {"most_drop": 2.0, "most_speedup": 1.3}])
def test_the_largest_scale_is_the_first_that_is_beyond_an_end(end: dict[str, float]) -> None:
    model, data = tiny_adapler(spread=0.1, eta=0.02), many(12)
    labels = predict_rows(model, data, pad_token_id=0, removal="none").logits.argmax(-1).tolist()
    data = [{**row, "labels": label} for row, label in zip(data, labels, strict=True)]
    found = quick(model, data, grid=Grid(**end, points=24))
    grown, at = [FIRST_SCALES[-1]], {point.threshold_scale: point for point in found.points}
    while grown[-1] < found.points[-1].threshold_scale:
        grown.append(float(f"{grown[-1] * GROWTH:.4g}"))
    beyond = [at[one].drop >= end["most_drop"] or at[one].speedup >= end["most_speedup"] for one in grown]
    assert len(grown) > 1 and beyond == [False] * (len(grown) - 1) + [True]


def test_single_times_that_rise_by_noise_are_made_monotone() -> None:
    points = list(calibration().points)
    points[2] = replace(points[2], milliseconds_single=14.0)  # 20, 12, 14, 4 become 20, 13, 13, 4
    curve = calibration(points=tuple(points))
    assert curve.at(1.0).milliseconds_single == pytest.approx(13.0)


def test_a_threshold_that_moved_a_little_is_another_model() -> None:
    model = tiny_adapler()
    before = weights_checksum(model)
    with torch.no_grad():
        model.eta[0] *= 1.0001
    assert weights_checksum(model) != before


def test_a_policy_with_the_same_numbers_is_another_model() -> None:
    one, other = (weights_checksum(tiny_policy(name, keep=0.5)) for name in ("cls_topk", "random_topk"))
    assert one != other


def test_windows_of_a_text_by_hand() -> None:
    """Mean logits, and the FLOPs of all windows together."""
    config = tiny_adapler().config
    logits, lengths_in = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 4.0]]), torch.tensor([9, 3, 5])
    lengths = torch.tensor([[4, 2, 1], [3, 3, 3], [5, 1, 1]])
    found = of_texts(config, logits, lengths, lengths_in=lengths_in, owners=[0, 1, 0], removal="hard")
    torch.testing.assert_close(found.probabilities, torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]).softmax(-1))
    plain, spent = backbone_flops(config, lengths_in), adapler_flops(config, lengths_in, lengths)
    expected = torch.stack([(plain[0] + plain[2]) / (spent[0] + spent[2]), plain[1] / spent[1]])
    torch.testing.assert_close(found.speedup, expected)
    assert found.lengths.tolist() == [[9, 3, 2], [3, 3, 3]] and found.windows.tolist() == [2, 1]
    assert found.lengths_in.tolist() == [14, 3]
