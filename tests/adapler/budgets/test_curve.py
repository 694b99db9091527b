"""Picking from a curve, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapler import ArgumentError
from adapler.budgets.curve import Machine, one_target, refuse_beside_target
from adapler.text import Encoding, reading
from tests.adapler.budgets.curves import MACHINE, calibration, point


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
        ({"speedup": 2.0, "max_drop": 0.1}, "^speedup and max_drop: only one of them can be asked for"),
        ({"speedup": float("nan")}, "^speedup: nan is not a number above 0"),
        ({"speedup": 10**400}, "^speedup: 10+ is not a number above 0"),
        ({"max_drop": -0.1}, r"^max_drop: -0.1 is not a number from 0 to 1 \(a drop of one point is 0.01\)"),
        ({"max_drop": 5}, "^max_drop: 5 is not a number from 0 to 1"),
    ],
)
def test_targets_that_cannot_be_met(target: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        calibration().choose(**target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold_scale": 1.0}, "^speedup and threshold_scale: only one of them can be given$"),
        ({"removal": "none"}, "^speedup: removal='none' drops no tokens$"),
    ],
)
def test_options_that_a_target_decides(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        refuse_beside_target("speedup", options)
    assert one_target(speedup=None, max_drop=None) is None


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


def test_flat_parts_have_one_value() -> None:
    times = [14.0, 15.1, 15.349093240903035, 3.0]
    curve = calibration(
        points=tuple(point(float(i), drop=0.0, speedup=1.0 + i, milliseconds=one) for i, one in enumerate(times))
    )
    flat = sum(times[:3]) / 3
    assert curve.choose(milliseconds=flat).threshold_scale == 0


def test_an_estimate_lies_in_its_interval() -> None:
    drops = [0.0, 0.06, 0.0, 0.06]
    points = (
        replace(
            point(float(i), drop=drop, speedup=2.0**i, milliseconds=8.0 / 2**i),
            score_interval=(0.89 - drop, 0.91 - drop),
            drop_interval=(drop - 0.01, drop + 0.01),
        )
        for i, drop in enumerate(drops)
    )
    curve = calibration(points=tuple(points))
    for scale in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
        found = curve.at(scale)
        assert found.drop_interval[0] <= found.drop <= found.drop_interval[1]
        assert found.score_interval[0] <= found.score <= found.score_interval[1]
        assert found.speedup_interval[0] <= found.speedup <= found.speedup_interval[1]


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
