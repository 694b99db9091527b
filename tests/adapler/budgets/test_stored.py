"""The calibration beside a model: written, read, checked, and tied to the weights."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapler import AdapLeRForSequenceClassification, ArgumentError, CheckpointError
from adapler.budgets.stored import CALIBRATION, OURS, read_calibration, weights_checksum, write_calibration
from adapler.export import export
from adapler.policies import ContributionPolicy
from tests.adapler.budgets.curves import calibration
from tests.adapler.policies.policy_models import tiny_policy
from tests.conftest import tiny_adapler

TEXTS = ["good film", "the plot was never dull and the ending is great"]


def calibrated(model: Any) -> Any:
    model.calibration = calibration(model_checksum=weights_checksum(model))
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    calibrated(tiny_adapler(spread=0.1)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def loaded(folder: Path, **options: Any) -> Any:
    return AdapLeRForSequenceClassification.from_pretrained(folder, **options)


def test_written_and_read_again(tmp_path: Path) -> None:
    write_calibration(tmp_path / "c.json", calibration())
    assert read_calibration(tmp_path / "c.json") == calibration()


def test_of_a_model_in_a_subfolder_it_is_the_one_there(saved: Path) -> None:
    other = calibration(model_checksum="another model's")
    write_calibration(saved.parent / CALIBRATION, other)
    assert loaded(saved.parent, subfolder=saved.name).calibration == loaded(saved).calibration != other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("task"), "no 'task'; another version"),
        (lambda c: c["none"].pop("score"), "no 'none.score'"),
        (lambda c: c.update(examples="many"), "'examples' is 'many', not what"),
        (lambda c: c["points"][1].update(speedup=None), r"'points\[1\].speedup' is None"),
        (lambda c: c["points"][1].update(drop_interval=[1]), r"'points\[1\].drop_interval' is \[1\]"),
        (lambda c: c["points"][1].update(speedup=0), "a speedup is not above 0"),
        (lambda c: c["points"].reverse(), "'points' are not two or more by growing threshold_scale"),
        (lambda c: c.update(machine=3), "'machine' is not an object"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "c.json"
    write_calibration(path, calibration())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"^{path}: {message}"):
        read_calibration(path)


def test_not_json(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(CheckpointError, match="c.json: cannot be read"):
        read_calibration(tmp_path / "c.json")


def test_it_travels_with_the_model(saved: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = loaded(saved)
    assert model.calibration == replace(calibration(), model_checksum=weights_checksum(model))
    model.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / CALIBRATION).read_bytes() == (saved / CALIBRATION).read_bytes()
    assert loaded(saved, dtype=torch.bfloat16).choose_scale(speedup=2).threshold_scale == pytest.approx(1.0)


def test_a_file_that_was_measured_anew_is_read_again(saved: Path) -> None:
    model = loaded(saved)
    assert model.calibration.none.score != 0.5
    old = (saved / CALIBRATION).stat().st_mtime_ns
    content = json.loads((saved / CALIBRATION).read_text())
    content["none"]["score"] = 0.5
    (saved / CALIBRATION).write_text(json.dumps(content))
    os.utime(saved / CALIBRATION, ns=(old + 10**9, old + 10**9))
    assert model.calibration.none.score == 0.5


def test_export_takes_it_along_where_float16_is_exact(tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    for name in ("rounded", "exact"):
        if name == "exact":
            model.backbone.half().float()
        calibrated(model)
        export(model, tmp_path / name, tokenizer=tiny_tokenizer, record=tmp_path / "none")
    assert not (tmp_path / "rounded" / CALIBRATION).exists()
    assert loaded(tmp_path / "exact").choose_scale(speedup=4).threshold_scale == pytest.approx(2.0)


def test_other_weights_have_no_calibration(saved: Path, tmp_path: Path) -> None:
    model = loaded(saved)
    model.choose_scale(speedup=2)
    with torch.no_grad():
        model.eta.mul_(0.9)
    with pytest.raises(ArgumentError, match="measured with other weights than this model has"):
        model.choose_scale(speedup=2)
    model.save_pretrained(tmp_path / "trained")
    assert not (tmp_path / "trained" / CALIBRATION).exists()
    again = loaded(saved)
    with torch.no_grad():
        again.theta.mul_(0.5)  # says nothing about inference
    again.choose_scale(speedup=2)


def test_other_numbers_of_the_policy_have_no_calibration() -> None:
    model = calibrated(tiny_policy("cls_topk", keep=0.5))
    assert model.choose_scale(speedup=2.0).threshold_scale > 0
    model.config.policy_options = {"keep": 0.25}
    with pytest.raises(ArgumentError, match="measured with other weights than this model has"):
        model.choose_scale(speedup=2.0)


def test_thresholds_written_through_data_are_noticed(saved: Path) -> None:
    """PyTorch counts no version there."""
    model = loaded(saved)
    assert model.choose_scale(speedup=2.0).threshold_scale > 0
    model.eta.data.mul_(0.5)
    with pytest.raises(ArgumentError, match="measured with other weights than this model has"):
        model.choose_scale(speedup=2.0)


def test_a_damaged_one_does_not_keep_the_model_from_loading(saved: Path, tmp_path: Path) -> None:
    (saved / CALIBRATION).write_text("[]")
    model = loaded(saved)
    model.save_pretrained(tmp_path / "copy")
    with pytest.raises(CheckpointError, match="'the file' is not an object"):
        model.choose_scale(speedup=2)


def test_a_relative_name_means_the_folder_that_it_meant(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent)
    model = AdapLeRForSequenceClassification.from_pretrained(saved.name)
    monkeypatch.chdir("/")
    assert model.choose_scale(speedup=4).threshold_scale == pytest.approx(2.0)


def test_a_model_without_one_names_the_command() -> None:
    with pytest.raises(ArgumentError, match="^no calibration is stored with this model; `adapler calibrate --model"):
        tiny_adapler().choose_scale(speedup=2)


def test_predict_takes_a_target(saved: Path, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = loaded(saved)
    capsys.readouterr()
    fast = model.predict(TEXTS, tokenizer=tiny_tokenizer, speedup=4)
    assert fast == model.predict(TEXTS, tokenizer=tiny_tokenizer, threshold_scale=2.0)
    note = capsys.readouterr().err
    assert note.startswith("note: speedup 4: threshold_scale 2; expected: 4.00x fewer FLOPs") and note.count("\n") == 1
    model.predict(TEXTS, tokenizer=tiny_tokenizer, speedup=4)
    assert capsys.readouterr().err == "", "said once"
    model.predict(TEXTS, tokenizer=tiny_tokenizer, milliseconds=6)
    assert "note: the times were measured on another machine or in another way" in capsys.readouterr().err
    model.predict(TEXTS, tokenizer=tiny_tokenizer, milliseconds=7, dtype="bfloat16")
    assert ", bfloat16, " in capsys.readouterr().err, "what the copy computes in, not the model"
    with pytest.raises(ArgumentError, match="^max_drop and threshold_scale: only one"):
        model.predict(TEXTS, tokenizer=tiny_tokenizer, max_drop=0.01, threshold_scale=1.0)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_model_that_is_made_in_inference_mode_has_its_calibration(dtype: str | None, tiny_tokenizer: Any) -> None:
    with torch.inference_mode():
        model = calibrated(tiny_adapler(spread=0.1))
        model = model if dtype is None else calibrated(tiny_adapler(spread=0.1)).for_inference(dtype=dtype)
        first, _ = (model.predict(TEXTS, tokenizer=tiny_tokenizer, speedup=3) for _ in range(2))
        assert first == model.predict(TEXTS, tokenizer=tiny_tokenizer, threshold_scale=1.5)
        model.backbone.classifier.weight.mul_(2)
        with pytest.raises(ArgumentError, match="^the stored calibration was measured with other weights"):
            model.predict(TEXTS, tokenizer=tiny_tokenizer, speedup=3)


def test_policies_without_numbers_are_told_apart() -> None:
    assert OURS == ContributionPolicy.name
    models = [tiny_policy(name) for name in ("cls_topk", "random_topk")]
    for model in models:
        model.config.policy_options = None
    assert weights_checksum(models[0]) != weights_checksum(models[1])
