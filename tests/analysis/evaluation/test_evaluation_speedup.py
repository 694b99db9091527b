"""A speed in place of a threshold scale, by the curve that is stored with the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.budgets.stored import CALIBRATION, weights_checksum, write_calibration
from analysis import explain, rationale_eval
from tests.adapler.budgets.curves import calibration
from tests.analysis.conftest import GOOD

READ = {"max_length": 24, "long_documents": "truncate"}
CALL: dict[str, Any] = {"max_length": 24, "progress": False, "methods": ["cp"], "metrics": ["average_precision"]}


@pytest.fixture
def calibrated(adapler_folder: Path, tmp_path: Path) -> Path:
    """Speedups 1, 2, 4 and 8 at scales 0, 1, 2 and 3."""
    folder = tmp_path / "calibrated"
    shutil.copytree(adapler_folder, folder)
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    write_calibration(folder / CALIBRATION, calibration(model_checksum=weights_checksum(model), encoding=READ))
    return folder


def test_a_report_at_a_speed(calibrated: Path, corpus_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = 2**0.5
    asked = rationale_eval.evaluate(adapler=calibrated, data=corpus_folder, speedup=half, **CALL)
    said = capsys.readouterr().err
    assert "note: speedup 1.41421: threshold_scale 0.5; expected: 1.41x" in said and "are others" not in said
    rationale_eval.evaluate(adapler=calibrated, data=corpus_folder, speedup=half, **CALL, policy="rationale-windows")
    assert (
        "with max_length 24, longer texts: rationale-windows, as here, speed and score are" in capsys.readouterr().err
    )
    scaled = rationale_eval.evaluate(adapler=calibrated, data=corpus_folder, threshold_scale=0.5, **CALL)
    plain = rationale_eval.evaluate(adapler=calibrated, data=corpus_folder, **CALL)
    values = [one.to_frame()["value"].to_numpy() for one in (asked, scaled, plain)]
    assert np.array_equal(values[0], values[1], equal_nan=True)
    assert not np.array_equal(values[0], values[2], equal_nan=True)
    assert asked.meta["threshold_scale"] == pytest.approx(0.5)
    assert asked.meta["speedup"] == scaled.meta["speedup"] != plain.meta["speedup"]  # what was measured
    lines = [rationale_eval.header(one) for one in (asked, scaled, plain)]
    assert "with AdapLeR at threshold scale 0.5, chosen for 1.41421x\n" in lines[0]
    assert "with AdapLeR at threshold scale 0.5\n" in lines[1] and "with AdapLeR\n" in lines[2]


def test_a_text_at_a_speed(calibrated: Path) -> None:
    text = " ".join(GOOD)
    asked, scaled = (explain(text, model=calibrated, **one) for one in ({"speedup": 1.0}, {"threshold_scale": 0}))
    assert "speedup 1: threshold_scale 0" in asked.note and "the curve was measured with max_length 24" in asked.note
    assert "the curve" not in explain(text, model=calibrated, speedup=1, max_length=24).note
    assert asked.kept is not None and np.array_equal(asked.kept, scaled.kept)
    assert not np.array_equal(asked.kept, explain(text, model=calibrated).kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speedup": 4, "threshold_scale": 2}, "^speedup and threshold_scale: only one of them can be given"),
        ({"speedup": 20}, "^speedup: 20 is outside the measured curve, which goes from 1 to 8"),
        ({"speedup": 0}, "^speedup: 0 is not a number above 0"),
    ],
)
def test_a_speed_that_cannot_be_had(
    calibrated: Path, corpus_folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        rationale_eval.evaluate(adapler=calibrated, data=corpus_folder, **CALL, **options)
    with pytest.raises(ArgumentError, match=message):
        explain(GOOD, model=calibrated, **options)


def test_a_speed_without_a_curve(adapler_folder: Path, corpus_folder: Path) -> None:
    plain = adapler_folder.parent / "plain"
    with pytest.raises(ArgumentError, match="^speedup: got 4, but there is no AdapLeR model"):
        rationale_eval.evaluate(model=plain, data=corpus_folder, speedup=4, **{**CALL, "methods": ["random"]})
    with pytest.raises(ArgumentError, match="^speedup: got 4, but there is no AdapLeR model"):
        explain(GOOD, model=plain, speedup=4)
    with pytest.raises(ArgumentError, match="^no calibration is stored with this model"):
        explain(GOOD, model=adapler_folder, speedup=4)
