"""The curve of a checkpoint is made of its own evaluations and of nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.sources import loading
from app.work import reports, tradeoff
from app.work.calibrated import Curve
from tests.app.panels.test_trust import calibration


def write(path: Path, split: str, scores: dict[float, float], **more: Any) -> None:
    hard = [{"threshold_scale": scale, "score": score, "speedup": 1 + scale} for scale, score in scores.items()]
    content = {"none": {"score": 0.9}, "hard": hard, "task": "<b>films", "split": split, "examples": 7,
               "metric": "accuracy", **more}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_its_own_evaluations_and_reports(app_checkpoints: Path, app_reports: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(app_checkpoints / "tiny", tmp_path / "mine"))
    write(mine / "evaluation-test.json", "test", {0.5: 0.85, 1.0: 0.8})
    (mine / "tradeoff.csv").write_text("mode,phi,epoch,scale,accuracy,speedup,reference\nfull,1,1,1,.99,9,.9\n")
    (mine / "evaluation-bad.json").write_text("[]")
    (tmp_path / "results" / "mine").mkdir(parents=True)
    write(tmp_path / "results" / "mine" / "evaluation-test.json", "test", {1.0: 0.1})
    menu = {"mine": mine, "tiny": app_checkpoints / "tiny"}
    found = reports.list_reports([app_reports])
    options: dict[str, Any] = {"checkpoints": menu, "results": [tmp_path / "results"], "found": found}
    table, unread = tradeoff.curve("mine", **options)
    assert table[["scale", "score"]].to_numpy().tolist() == [[0.5, 0.85], [1.0, 0.8]], "no other run, no equal name"
    assert set(table["measured"]) == {"<b>films, test, 7 documents"} and unread == ["evaluation-bad.json"]
    write(mine / "evaluation-test.json", "test", {1.0: 0.8}, precision="bfloat16")
    write(mine / "evaluation-val.json", "test", {1.0: 0.8}, precision="float32")
    measured = tradeoff.curve("mine", **options)[0]["measured"]
    assert set(measured) == {"<b>films, test, 7 documents, bfloat16", "<b>films, test, 7 documents"}
    table, unread = tradeoff.curve("tiny", **options)
    report = reports.find_report(found, "films")
    assert table["file"].tolist() == ["films"] and unread == []
    assert table["score"].tolist() == [report.adapler_accuracy] and table["speedup"].tolist() == [report.speedup]


def test_another_models_evaluation_is_left_out_and_other_readings_are_no_one_curve(
    app_checkpoints: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(app_checkpoints / "tiny", tmp_path / "mine"))
    own = loading.model_checksum(mine)
    write(mine / "evaluation-other.json", "test", {1.0: 0.1}, model_checksum="f" * 64)
    windows = {"long_documents": "windows", "max_length": 512}
    write(mine / "evaluation-test.json", "test", {1.0: 0.8}, model_checksum=own)
    write(mine / "evaluation-windows.json", "test", {1.0: 0.7}, model_checksum=own, encoding=windows)
    short = {"long_documents": "truncate", "max_length": 128}
    write(mine / "evaluation-short.json", "test", {1.0: 0.6}, model_checksum=own, encoding=short)
    table, unread = tradeoff.curve("mine", checkpoints={"mine": mine}, results=[], found={})
    measured = dict(zip(table["score"], table["measured"], strict=True))
    start = "<b>films, test, 7 documents"
    assert measured == {0.8: start, 0.7: f"{start}, windows", 0.6: f"{start}, 128 wordpieces"} and unread == []


def test_results_belong_to_the_checkpoints_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tradeoff, "CHECKPOINTS", tmp_path / "checkpoints")
    write(tmp_path / "results" / "a" / "evaluation-val.json", "val", {1.0: 0.7})
    ours = tradeoff.evaluation_files("a", tmp_path / "checkpoints" / "a", [tmp_path / "results"])
    assert [path.name for path in ours] == ["evaluation-val.json"]
    assert tradeoff.evaluation_files("a", tmp_path / "elsewhere" / "a", [tmp_path / "results"]) == []


def test_the_embedded_checkpoint_has_its_published_numbers() -> None:
    menu = {loading.DEFAULT_CHECKPOINT: loading.CHECKPOINTS / loading.DEFAULT_CHECKPOINT}
    results = [loading.ROOT / "results"]
    table, unread = tradeoff.curve(loading.DEFAULT_CHECKPOINT, checkpoints=menu, results=results, found={})
    assert unread == [] and set(table["measured"]) == {
        "movies, test, 199 documents",
        "movies, test, 199 documents, bfloat16",
        "movies, validation, 200 documents",
    }
    assert table["agreement"].notna().all()
    assert ((table["low"] < table["score"]) & (table["score"] < table["high"])).all()
    at_one = table[table["scale"] == 1.0].set_index("measured")["score"]
    assert at_one["movies, test, 199 documents"] == pytest.approx(0.884, abs=1e-3)


@pytest.mark.parametrize(
    "more",
    [
        {"hard": [{"threshold_scale": 1, "score": 88.4, "speedup": 2}]},
        {"hard": [{"threshold_scale": 1, "score": 0.8, "speedup": 0}]},
        {"hard": [{"threshold_scale": 1, "score": 0.8, "speedup": 2, "agreement": 97.5}]},
        {"hard": ["x"]},
        {"none": {"score": 90}},
        {"none": [0.9]},
        {"examples": -7},
        {"encoding": "x"},
        {"task": {}, "examples": None},
    ],
)
def test_an_evaluation_with_impossible_numbers_is_not_read(more: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "a" / "evaluation-bad.json", "test", {1.0: 0.8}, **more)
    write(tmp_path / "a" / "evaluation-good.json", "test", {1.0: 0.8})
    (tmp_path / "a" / "evaluation-deep.json").write_text("[" * 200_000)
    table, unread = tradeoff.curve("a", checkpoints={"a": tmp_path / "a"}, results=[], found={})
    assert table["file"].tolist() == ["evaluation-good.json"]
    assert unread == ["evaluation-bad.json", "evaluation-deep.json"]


def test_the_curve_of_a_split_is_one_measurement_of_one_task(tmp_path: Path, app_model: Any) -> None:
    write(tmp_path / "a" / "evaluation-test.json", "test", {1.0: 0.8, 0.5: 0.85}, task="films")
    write(tmp_path / "a" / "evaluation-test-more.json", "test", {1.0: 0.7}, task="films", precision="bfloat16")
    write(tmp_path / "a" / "evaluation-news.json", "test", {0.5: 0.1, 1.0: 0.1, 2.0: 0.1}, task="news")
    write(tmp_path / "a" / "evaluation-validation.json", "validation", {1.0: 0.6}, task="films")
    table, _ = tradeoff.curve("a", checkpoints={"a": tmp_path / "a"}, results=[], found={})
    found = tradeoff.by_split(table, Curve(calibration(app_model)), task="films")
    assert found["test"][["scale", "score"]].to_numpy().tolist() == [[0.5, 0.85], [1.0, 0.8]], "the longer one"
    assert found["validation"]["scale"].tolist() == [0.0, 1.0, 1.5], "the calibration has more scales"
    assert set(found["validation"]["file"]) == {"calibration.json"} and set(found["test"]["metric"]) == {"accuracy"}
    alone = tradeoff.by_split(table, Curve(None, "none"), task="films")
    assert alone["validation"]["score"].tolist() == [0.6]
    assert tradeoff.by_split(table, Curve(None, "none"), task="books") == {}


def test_a_scale_that_was_measured_twice_is_one_point(tmp_path: Path) -> None:
    write(tmp_path / "a" / "evaluation-test-1.json", "test", {1.0: 0.8, 0.5: 0.85}, task="films")
    write(tmp_path / "a" / "evaluation-test-2.json", "test", {1.0: 0.7}, task="films")
    table, _ = tradeoff.curve("a", checkpoints={"a": tmp_path / "a"}, results=[], found={})
    found = tradeoff.by_split(table, Curve(None, "none"), task="films")["test"]
    rows = found[["scale", "score", "file"]].to_numpy().tolist()
    assert rows == [[0.5, 0.85, "evaluation-test-1.json"], [1.0, 0.7, "evaluation-test-2.json"]]
