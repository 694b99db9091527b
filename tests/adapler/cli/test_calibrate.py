"""`adapler calibrate`, and the commands that take a target."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.calibration import CALIBRATION, read_calibration
from adapler.cli import main
from adapler.system import choose_dtype

QUICK = ["--points", "6", "--resamples", "50", "--timed-single", "2", "--most-drop", "1"]


@pytest.fixture(scope="module")
def model(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(run_folder / "phi-0.001-post-hoc", folder)
    dropping = AdapLeRForSequenceClassification.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for predictor in dropping.contribution_predictors:
            predictor.score.weight.normal_(std=0.3)
    dropping.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def calibrated(model: Path, task_folder: Path) -> Path:
    assert main(["calibrate", "--model", str(model), "--task", str(task_folder), *QUICK]) == 0
    return model


def test_the_curve_is_stored_beside_the_model(calibrated: Path) -> None:
    curve = read_calibration(calibrated / CALIBRATION)
    assert (curve.task, curve.split, curve.examples, curve.metric) == ("tiny", "validation", 8, "accuracy")
    assert (
        curve.machine.dtype == choose_dtype("auto", torch.device("cpu"))
        and 3 <= curve.encoding["max_length"] <= 40
        and curve.data_checksum
    )


def test_evaluate_and_predict_take_a_target(
    calibrated: Path, task_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = read_calibration(calibrated / CALIBRATION)
    asked = f"{curve.points[-1].speedup * 0.999:.4f}"
    output = tmp_path / "evaluation.json"
    command = ["evaluate", "--model", str(calibrated), "--task", str(task_folder), "--split", "validation"]
    assert main([*command, "--speedup", asked, "1", "--output", str(output)]) == 0
    rows = json.loads(output.read_text())["hard"]
    assert [row["asked_speedup"] for row in rows] == [float(asked), 1.0]
    assert rows[0]["threshold_scale"] == pytest.approx(curve.choose(speedup=float(asked)).threshold_scale)
    said = capsys.readouterr()
    assert "asked for" in said.out and said.err.count("note: speedup") == 2
    assert main([*command, "--max-drop", "0", "0.0", "--output", str(output)]) == 0
    rows = json.loads(output.read_text())["hard"]
    assert [row["asked_max_drop"] for row in rows] == [0, 0]
    assert [row["threshold_scale"] for row in rows] == [curve.choose(max_drop=0).threshold_scale] * 2
    said = capsys.readouterr()
    assert "-0" not in said.out and said.err.count("note: max_drop") == 2
    other = {"float32": "bfloat16", "bfloat16": "float32"}[curve.machine.dtype]
    elsewhere = "note: the times were measured on another machine or in another way"
    assert main([*command, "--milliseconds", "1000"]) == 0
    said = capsys.readouterr()
    assert elsewhere not in said.err
    assert main([*command, "--milliseconds", "1000", "--dtype", other]) == 0
    assert capsys.readouterr().err.count(elsewhere) == 1
    assert main(["predict", "--model", str(calibrated), "--speedup", asked, "good film"]) == 0
    assert f"note: speedup {float(asked):g}: threshold_scale" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="^speedup: 1000 is outside the measured curve"):
        main(["predict", "--model", str(calibrated), "--speedup", "1000", "good film"])


def test_evaluating_on_the_rows_of_the_curve_is_said(
    model: Path, task_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, one, other = tmp_path / "model", tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(CALIBRATION))
    lines = (task_folder / "test.jsonl").read_text().splitlines()
    one.write_text("\n".join(lines) + "\n")
    other.write_text("\n".join(lines[:-1]) + "\n")

    def said(task: Path, *options: str) -> bool:
        capsys.readouterr()
        assert main(["evaluate", "--model", str(folder), "--task", str(task), "--speedup", "1", *options]) == 0
        return "the curve was measured on these rows (validation): it fits them" in capsys.readouterr().err

    assert main(["calibrate", "--model", str(folder), "--task", str(one), *QUICK]) == 0
    assert said(one, "--split", "validation")
    assert not said(other) and not said(task_folder)
    assert main(["calibrate", "--model", str(folder), "--task", str(task_folder), *QUICK]) == 0
    assert said(task_folder, "--split", "validation") and not said(task_folder) and not said(one)


def test_test_is_only_looked_at(model: Path, task_folder: Path, tmp_path: Path) -> None:
    command = ["calibrate", "--model", str(model), "--task", str(task_folder), "--split", "test", *QUICK]
    (tmp_path / "link").symlink_to(model)
    for stored in ([], ["--output", str(model / CALIBRATION)], ["--output", str(tmp_path / "link" / CALIBRATION)]):
        with pytest.raises(ArgumentError, match="^--split: a model does not keep what was measured on test"):
            main([*command, *stored])
    assert main([*command, "--output", str(tmp_path / "test.json")]) == 0
    assert read_calibration(tmp_path / "test.json").split == "test"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--speedup", "2", "--max-drop", "0.1"], "^speedup and max_drop: only one of them can be given"),
        (["--speedup", "2", "--threshold-scale", "1"], "^speedup and threshold_scale: only one"),
        (["--speedup", "2", "--removal", "none"], "^speedup: removal='none' drops no tokens"),
        (["--threshold-scale", "5", "--removal", "none"], "^threshold_scale: removal='none' drops no tokens"),
        (["--speedup", "2"], "^no calibration is stored with this model; `adapler calibrate --model "),
    ],
)
def test_errors_of_predict(run_folder: Path, words: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        main(["predict", "--model", str(run_folder / "phi-0.1-post-hoc"), *words, "good film"])


def test_errors_of_the_others(task_folder: Path, model: Path) -> None:
    words = ["--model", str(model), "--task", str(task_folder)]
    with pytest.raises(ArgumentError, match="^--threshold-scale and --speedup: only one"):
        main(["evaluate", *words, "--speedup", "2", "--threshold-scale", "1"])
    with pytest.raises(ArgumentError, match="^--max-drop and --milliseconds: only one"):
        main(["evaluate", *words, "--max-drop", "0.1", "--milliseconds", "3"])
    with pytest.raises(ArgumentError, match="^--points: 3 is not at least 4"):
        main(["calibrate", *words, "--points", "3"])
    with pytest.raises(ArgumentError, match="^--model: hub/name is not a folder; --output FILE"):
        main(["calibrate", "--model", "hub/name", "--task", str(task_folder)])
