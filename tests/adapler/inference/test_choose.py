"""Picking from a curve by hand; the calibration beside a model, tied to its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapler import AdapLeRForSequenceClassification, ArgumentError, CheckpointError
from adapler.calibration import CALIBRATION, Machine, read_calibration, write_calibration
from adapler.embedded import CHECKPOINT
from adapler.inference import weights_checksum
from adapler.text import Encoding, reading
from tests.adapler.curves import MACHINE, calibration, point
from tests.adapler.policies.policy_models import tiny_policy
from tests.conftest import tiny_adapler

EMBEDDED = {
    ("speedup", 2.0): 0.5286975559676045,
    ("speedup", 4.0): 0.9211152495589833,
    ("max_drop", 0.0): 0.125,
    ("max_drop", 0.02): 1.0592105263157892,
    ("milliseconds", 10.0): 1.2456288620429525,
    ("milliseconds", 30.0): 0.5578104065057166,
}


@pytest.mark.parametrize(
    ("target", "scale"),
    [
        ({"speedup": 1.0}, 0.0),
        ({"speedup": 4.0}, 2.0),
        ({"speedup": 8.0}, 3.0),
        ({"speedup": 2 * 2**0.5}, 1.5),  # logarithms are interpolated
        # Drops 0, .02, 0, .05 become 0, .01, .01, .05.
        ({"max_drop": 0.0}, 0.0),
        ({"max_drop": 0.005}, 0.5),
        ({"max_drop": 0.01}, 2.0),  # the fastest of those that drop as much
        ({"max_drop": 0.03}, 2.5),
        ({"max_drop": 0.05}, 3.0),
        ({"milliseconds": 10.0}, 0.0),
        ({"milliseconds": 4.5}, 1.5),
        ({"milliseconds": 2.0}, 3.0),
    ],
)
def test_a_target_has_its_scale(target: dict[str, float], scale: float) -> None:
    assert calibration().choose(**target).threshold_scale == pytest.approx(scale)


def test_what_is_expected() -> None:
    found = calibration().choose(speedup=2 * 2**0.5)
    assert found.expected.speedup == pytest.approx(2.828, abs=1e-3) and found.expected.milliseconds == pytest.approx(
        4.5
    )
    assert found.expected.drop == pytest.approx(0.01) and found.expected.score == pytest.approx(0.89)
    assert found.expected.drop_interval == pytest.approx((-0.01, 0.03))
    assert str(found) == (
        "speedup 2.82843: threshold_scale 1.5; expected: 2.83x fewer FLOPs (2.72 to 2.93), "
        "accuracy 0.890 (0.840 to 0.940), 0.010 below that without removal (-0.010 to 0.030), "
        "4.5 ms a text in batches, 9 ms one by one; 95 % intervals, measured on 50 examples of reviews, validation "
        "(a processor, float32, 1 thread)"
    )


def test_a_speedup_that_falls_by_noise_is_made_monotone() -> None:
    points = list(calibration().points)
    points[1:3] = [
        point(1.0, drop=0.0, speedup=4.0, milliseconds=6.0),
        point(2.0, drop=0.0, speedup=2.0, milliseconds=6),
    ]
    curve = calibration(points=tuple(points))
    assert curve.choose(speedup=3.0).threshold_scale == pytest.approx(1.0)
    assert curve.choose(speedup=3.01).threshold_scale > 2
    assert curve.choose(milliseconds=6.0).threshold_scale == pytest.approx(1.0)


def test_what_every_scale_satisfies_can_be_asked_for() -> None:
    curve = calibration()
    assert curve.choose(milliseconds=11.0).threshold_scale == curve.points[0].threshold_scale
    assert curve.choose(max_drop=0.06).threshold_scale == curve.points[-1].threshold_scale


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"speedup": 9.0}, "^speedup: 9 is outside the measured curve, which goes from 1 to 8 "),
        ({"speedup": 0.5}, "^speedup: 0.5 is outside the measured curve"),
        ({"milliseconds": 1.0}, "^milliseconds: 1 is outside the measured curve, which goes from 2 to 10 "),
        ({}, "^speedup, max_drop or milliseconds: one of them is needed"),
        ({"speedup": 2.0, "max_drop": 0.1}, "^speedup and max_drop: only one of them can be given"),
        ({"speedup": float("nan")}, "^speedup: nan is not a number above 0"),
        ({"speedup": 10**400}, "^speedup: 10+ is not a number above 0"),
        ({"max_drop": -0.1}, r"^max_drop: -0.1 is not a number from 0 to 1 \(a drop of one point is 0.01\)"),
        ({"max_drop": 5}, "^max_drop: 5 is not a number from 0 to 1"),
    ],
)
def test_targets_that_cannot_be_met(target: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        calibration().choose(**target)


def test_times_of_another_machine() -> None:
    choice = calibration().choose(milliseconds=3.0)
    assert choice.other_machine(MACHINE) is None
    for change in ({"device": "another"}, {"dtype": "bfloat16"}, {"threads": 2}):
        note = choice.other_machine(replace(MACHINE, **change))
        assert note is not None and "a processor, float32, 1 thread" in note
    assert calibration().choose(speedup=3.0).other_machine(Machine(device="x", dtype="y", threads=9)) is None


def test_a_target_just_past_a_flat_end_has_its_first_scale() -> None:
    points = [(0.0, 0.0, 1.0), (1.0, 0.01, 4.0), (2.0, 0.05, 4.0), (3.0, 0.1, 4.0)]
    curve = calibration(
        points=tuple(point(scale, drop=drop, speedup=x, milliseconds=4.0 / x) for scale, drop, x in points)
    )
    assert curve.choose(speedup=4.001).threshold_scale == curve.choose(speedup=4.0).threshold_scale == 1.0
    assert curve.choose(milliseconds=0.9995).threshold_scale == 1.0
    with pytest.raises(ArgumentError, match="milliseconds: 0.99 is outside the measured curve"):
        curve.choose(milliseconds=0.99)


def test_another_part_of_long_texts_is_said() -> None:
    measured = {"max_length": 512, "long_documents": "truncate", "stride": 64, "columns": ["text"]}
    choice = calibration(encoding=measured).choose(speedup=2.0)
    assert choice.other_reading(reading(measured)) is None
    assert choice.other_reading(reading(Encoding(max_length=512, stride=9))) is None, "a stride is of windows"
    for here in (Encoding(max_length=64), Encoding(512, "last"), Encoding(512, "windows", 64)):
        note = choice.other_reading(reading(here))
        assert note == (
            "the curve was measured with max_length 512, longer texts: truncate; with "
            f"{reading(here)}, as here, speed and score are others"
        )
    assert calibration(encoding={}).choose(speedup=2.0).other_reading(reading(measured)) is None


TEXTS = ["good film", "the plot was never dull and the ending is great"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = tiny_adapler(spread=0.1)
    model.calibration = calibration(model_checksum=weights_checksum(model))
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_it_travels_with_the_model(saved: Path, tmp_path: Path) -> None:
    model = AdapLeRForSequenceClassification.from_pretrained(saved)
    assert model.calibration == replace(calibration(), model_checksum=weights_checksum(model))
    model.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / CALIBRATION).read_bytes() == (saved / CALIBRATION).read_bytes()
    half = AdapLeRForSequenceClassification.from_pretrained(saved.parent, subfolder=saved.name, dtype=torch.bfloat16)
    assert half.choose_scale(speedup=2).threshold_scale == pytest.approx(1.0)
    with pytest.raises(ArgumentError, match="^no calibration is stored with this model; `adapler calibrate --model"):
        tiny_adapler().choose_scale(speedup=2)


def test_other_weights_have_no_calibration(saved: Path, tmp_path: Path) -> None:
    model = AdapLeRForSequenceClassification.from_pretrained(saved)
    with torch.no_grad():
        model.theta.mul_(0.5)  # says nothing about inference
    before = weights_checksum(model)
    assert model.choose_scale(speedup=2)
    model = AdapLeRForSequenceClassification.from_pretrained(saved)
    with torch.no_grad():
        model.eta[0] *= 0.9999
    assert weights_checksum(model) != before
    with pytest.raises(ArgumentError, match="measured with other weights than this model has"):
        model.choose_scale(speedup=2)
    model.save_pretrained(tmp_path / "trained")
    assert not (tmp_path / "trained" / CALIBRATION).exists()
    assert weights_checksum(tiny_policy("cls_topk")) != weights_checksum(tiny_policy("random_topk"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("task"), "task: Field required"),
        (lambda c: c["points"][1].update(speedup=None), "points.1.speedup: "),
        (lambda c: c["points"][1].update(speedup=0), "'points' are no curve"),
        (lambda c: c["points"].reverse(), "'points' are no curve"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "c.json"
    write_calibration(path, calibration())
    assert read_calibration(path) == calibration()
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"^{path}: {message}"):
        read_calibration(path)


def test_predict_takes_a_target(saved: Path, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = AdapLeRForSequenceClassification.from_pretrained(saved)
    capsys.readouterr()
    fast = model.predict(TEXTS, tokenizer=tiny_tokenizer, speedup=4)
    assert fast == model.predict(TEXTS, tokenizer=tiny_tokenizer, threshold_scale=2.0)
    note = capsys.readouterr().err
    assert note.startswith("note: speedup 4: threshold_scale 2; expected: 4.00x fewer FLOPs") and note.count("\n") == 1
    model.predict(TEXTS, tokenizer=tiny_tokenizer, milliseconds=7, dtype="bfloat16")
    said = capsys.readouterr().err
    assert "note: the times were measured on another machine" in said and ", bfloat16, " in said
    with pytest.raises(ArgumentError, match="^max_drop and threshold_scale: only one"):
        model.predict(TEXTS, tokenizer=tiny_tokenizer, max_drop=0.01, threshold_scale=1.0)


def test_the_embedded_curve() -> None:
    """Values that the code before the current one chose."""
    curve = read_calibration(CHECKPOINT / CALIBRATION)
    for target, scale in EMBEDDED.items():
        assert curve.choose(**dict([target])).threshold_scale == pytest.approx(scale, abs=1e-9)
