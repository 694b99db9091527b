"""The evaluation that the page starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapler import precision
from adapler.errors import ArgumentError
from app.sources import loading
from app.work import evaluation, reports


def test_its_report_has_checksum_and_names_but_no_path(
    app_checkpoints: Path, app_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_cache", lambda: None)
    output = tmp_path / "reports" / "mine"
    asked = [
        "--adapler",
        app_checkpoints / "tiny",
        "--checkpoint",
        "my tiny",
        "--data",
        app_corpus,
        "--corpus",
        "films",
    ]
    asked += ["--split", "test", "--threshold-scale", "0.5", "--limit", "2", "--output", output]
    assert evaluation.main(list(map(str, asked))) == 0
    report = reports.read(output)
    assert report.meta["threshold_scale"] == 0.5 and len(report.documents) == 2
    assert report.meta["command"] == (
        "python -m analysis.rationale_eval --adapler 'my tiny' --data films --split test "
        "--threshold-scale 0.5 --limit 2"
    )
    assert "weights" not in report.meta, "the library's checksums say whose numbers these are"
    origin = reports.origin_of(report.meta, {"damaged": app_checkpoints / "damaged", "b": app_checkpoints / "tiny"})
    assert origin.checkpoint == "b" and origin.scale == 0.5 and origin.dtype == "float32"
    for file in ("report.json", "report.html"):
        text = (output / file).read_text(encoding="utf-8")
        assert str(tmp_path) not in text and str(app_checkpoints.parent) not in text and str(app_corpus) not in text
    assert [path.name for path in output.parent.iterdir()] == ["mine"], "nothing half-made stays"
    with pytest.raises(ArgumentError, match="mine is there already"):
        evaluation.main(list(map(str, asked)))


def test_a_number_format_stands_in_the_report_and_its_command(
    app_checkpoints: Path, app_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_cache", lambda: None)
    asked = ["--adapler", app_checkpoints / "tiny", "--checkpoint", "tiny", "--data", app_corpus, "--corpus", "films"]
    asked += ["--split", "test", "--threshold-scale", "1", "--limit", "1", "--output", tmp_path / "report"]
    saved: list[Any] = []
    monkeypatch.setattr(evaluation, "_save", lambda report, output: saved.append(report))  # draws no figure
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    assert evaluation.main(list(map(str, [*asked, "--dtype", "auto"]))) == 0
    (report,) = saved
    assert report.meta["dtype"] == "bfloat16" and "--dtype bfloat16" in report.meta["command"]


def test_paths_of_the_repository_are_named_as_they_are_typed() -> None:
    assert loading.public_name(loading.CHECKPOINTS / "movies-minilm", "x") == "checkpoints/movies-minilm"
