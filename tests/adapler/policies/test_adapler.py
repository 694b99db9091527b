"""AdapLeR's schedules and its training to a target speedup."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from adapler.flops import speedup
from adapler.inference import predict_rows
from adapler.policies.adapler import SpeedController, reach_target, slope_at
from adapler.policies.base import Stage
from adapler.training.pipeline import shortfall
from tests.adapler.training.common import trainer
from tests.conftest import VOCABULARY, tiny_adapler


@pytest.mark.parametrize(
    ("epochs", "slopes"),
    [
        (3, [50, 2500, 125000]),  # 50 * 50^e
        (5, [10, 100, 1e3, 1e4, 1e5]),  # 10 * 10^e
        (10, [10, 30, 90, 270, 810, 2430, 7290, 21870, 65610, 196830]),  # 10 * 3^e
        (2, [10, 1e5]),
        (9, [10 * 10 ** (e / 2) for e in range(9)]),  # geometric from 10 to 1e5 in 8 steps
        (1, [1e5]),
    ],
)
def test_slopes(epochs: int, slopes: list[float]) -> None:
    assert [slope_at(e, epochs) for e in range(epochs)] == pytest.approx(slopes)


def test_the_slope_by_steps() -> None:
    slopes = [slope_at(step, 101, by_steps=True) for step in range(101)]
    assert slopes[0] == 10 and slopes[100] == pytest.approx(1e5) and slope_at(0, 1, by_steps=True) == 10
    ratios = [later / earlier for earlier, later in zip(slopes, slopes[1:], strict=False)]
    assert max(ratios) == pytest.approx(min(ratios)), "it grows by the same factor in every step"


@pytest.mark.parametrize(
    ("settings", "slopes"),
    [
        ({"epochs": 1}, [1e5]),
        ({"epochs": 3}, [50.0]),
        ({"epochs": 3, "eval_steps": 2}, [10.0]),
        ({"max_steps": 3}, [10.0, 1e3, 1e5]),
    ],
)
def test_which_schedule(settings: dict[str, Any], slopes: list[float], tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, settings=settings)
    one.train()
    seen = [row["slope"] for row in one.state.log_history if "slope" in row]
    assert seen[: len(slopes)] == pytest.approx(slopes)


def simulate(controller: SpeedController, *, needed: float, steps: int = 400, bias: float = 1.0) -> list[float]:
    """Hard speedups of a training whose thresholds drift up while phi is above what the speed needs, and down below.

    `bias` is hard speedup / soft speedup, which only evaluations tell.
    """
    rate, speed, hard = 12 / steps, 0.0, []
    for step in range(steps):
        want = math.log(max(controller.phi, 1e-300) / (needed * math.exp(speed)))
        speed = max(0.0, speed + rate * math.tanh(want))
        soft = math.exp(speed) / bias
        controller.take(soft, 1.0, progress=step / steps, share=1 / steps)
        if step % 40 == 39:
            controller.calibrate(math.exp(speed))
        hard.append(math.exp(speed))
    return hard


@pytest.mark.parametrize("needed", [1e-5, 2e-4, 1e-2])
@pytest.mark.parametrize("target", [1.5, 4.0, 8.0])
@pytest.mark.parametrize("bias", [0.8, 1.25])
def test_it_ends_near_the_target_from_any_start(needed: float, target: float, bias: float) -> None:
    controller = SpeedController(phi=2e-4, target=target)
    speeds = simulate(controller, needed=needed, bias=bias)
    assert all(abs(speed - target) < 0.1 * target for speed in speeds[-40:])
    assert max(speeds) < 1.5 * target
    assert controller.speedup == pytest.approx(speeds[-1], rel=0.05)


def test_phi_is_bounded() -> None:
    for soft, factor in ((1.0, 1e4 - 1e-7), (1e6, 1e-4 - 10)):
        controller = SpeedController(phi=1e-3, target=4)
        for step in range(1000):
            controller.take(soft, 1.0, progress=step / 1000, share=0.1)
        assert controller.phi == pytest.approx(1e-3 * factor)


def test_too_fast_a_training_is_asked_for_more_tokens() -> None:
    """Scores that sharpen remove tokens by themselves; a small weight of the length loss does not bring them back."""
    controller = SpeedController(phi=1e-3, target=4)
    for step in range(100):
        controller.take(7.0, 1.0, progress=0.5 + step / 200, share=1 / 200)
    assert controller.phi < 0


def test_measurements_are_running_means() -> None:
    """The first batch counts whole, a later one its share of a hundredth of training, and a tenth at most."""
    controller = SpeedController(phi=1e-3, target=4)
    seen = []
    for full, share in ((2.0, 2e-3), (6.0, 2e-3), (4.4, 5e-4)):
        controller.take(full, 1.0, progress=0.0, share=share)
        seen.append(controller.speedup)
    assert seen == pytest.approx([2.0, 2.4, 2.5])
    controller.calibrate(5.0)  # twice the soft speedup, which comes in slowly too
    assert controller.speedup == pytest.approx(2.5)
    controller.take(2.5, 1.0, progress=0.0, share=5e-4)
    assert controller.speedup == pytest.approx(2.5 * 2**0.05)


def test_a_tiny_model_ends_near_its_target(tmp_path: Path, tiny_tokenizer: Any) -> None:
    made = trainer(
        tmp_path,
        tiny_tokenizer,
        settings={"max_steps": 160, "eval_steps": 20},
        target_speedup=1.6,
        phi=1e-4,
        eta_learning_rate=1e-2,
        gradient_slope=5.0,
        max_slope=50.0,
    )
    made.train()
    evaluated = [row for row in made.state.log_history if "eval_speedup" in row]
    logged = [row for row in made.state.log_history if "slope" in row]
    assert all({"phi", "estimated_speedup"} <= row.keys() for row in logged)
    # How many values depends on the machine's arithmetic: while the model is far too fast phi stays at its bound.
    assert len({row["phi"] for row in logged}) > 5
    best = max(evaluated, key=lambda row: row["eval_selection"])
    assert 0.9 * 1.6 <= best["eval_speedup"] <= 1.1 * 1.6 and best["eval_selection"] > 1


@pytest.mark.parametrize("target", [1.05, 1.3, 2.0])
def test_thresholds_are_brought_to_the_target(target: float) -> None:
    model, generator = tiny_adapler(eta=0.9, spread=0.05), torch.Generator().manual_seed(0)
    ids = [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in range(8, 38)]
    rows = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
    trained = model.eta.detach().clone()
    end = reach_target(model, rows, pad_token_id=0, target=target)
    found = predict_rows(model, rows, pad_token_id=0, removal="hard")
    gain = speedup(model.config, found.lengths_in, found.lengths)
    assert gain == end["speedup"] == pytest.approx(target, rel=0.05) and end["passes"] <= 12
    torch.testing.assert_close(model.eta.detach(), (trained * end["factor"]).clamp(0.01, 1))


def test_a_target_that_is_met_changes_nothing() -> None:
    model = tiny_adapler()
    rows = Dataset.from_dict({"input_ids": [[5] * 12], "attention_mask": [[1] * 12]})
    found = predict_rows(model, rows, pad_token_id=0, removal="hard")
    trained, gain = model.eta.detach().clone(), speedup(model.config, found.lengths_in, found.lengths)
    end = reach_target(model, rows, pad_token_id=0, target=gain)
    assert end["factor"] == 1 and end["passes"] == 1 and torch.equal(model.eta, trained)
    far = reach_target(model, rows, pad_token_id=0, target=90.0)
    assert far["speedup"] < 90 and bool((model.eta <= 1).all())


@pytest.mark.parametrize("target, gain, factor", [(100.0, 0.98, 100.0), (1.02, 130.0, 0.01)])
def test_a_target_beyond_all_factors_ends_too(
    target: float, gain: float, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[float] = []

    def measured(*args: Any) -> float:
        passes.append(gain)
        assert len(passes) < 20, "it goes on for ever"
        return gain

    monkeypatch.setattr("adapler.flops.speedup", measured)
    rows = Dataset.from_dict({"input_ids": [[5] * 12], "attention_mask": [[1] * 12]})
    end = reach_target(tiny_adapler(), rows, pad_token_id=0, target=target)
    assert end["passes"] == 2 and end["speedup"] == gain and end["factor"] in (1.0, pytest.approx(factor))


def test_which_point_is_selected() -> None:
    def value(score: float, gain: float) -> float:
        return Stage(selects="budget", target=4.0).value(score, gain, reference=0.9, max_drop=0.01, step=1)

    assert value(0.8, 3.6) > value(0.7, 4.0) > 1, "near the target the score decides"
    assert value(0.8, 4.3) > value(0.8, 3.7), "of equal scores, the fastest"
    assert value(0.0, 4.4) > 1 > value(1.0, 3.5) > value(1.0, 3.0), "none near: the nearest"
    assert value(1.0, 3.2) == pytest.approx(value(1.0, 5.0))


@pytest.mark.parametrize(
    ("reached", "qualified", "said"),
    [
        (2.02, True, ""),
        (2.15, True, "2x was not found: the nearest speedup, 2.15x, was kept"),
        (2.5, False, "2x was not found: the nearest speedup, 2.50x, was kept"),
    ],
)
def test_a_target_that_is_missed_by_more_than_a_hundredth_is_said(reached: float, qualified: bool, said: str) -> None:
    assert shortfall({"qualified": qualified, "reached": {"target": 2.0, "speedup": reached}}) == said
