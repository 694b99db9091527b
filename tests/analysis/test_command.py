"""`python -m analysis.rationale_eval`: what it prints and writes, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from analysis import corpus, rationale_eval, scoring
from tests.analysis.test_evaluate import films
from tests.conftest import run_command


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test computes stays in the home directory, or comes from there."""
    monkeypatch.setenv("ADAPLER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return films(tmp_path / "films")


def command(*argv: Any) -> int:
    return run_command(rationale_eval.main, [str(argument) for argument in argv])


def test_what_fits_a_screen_and_the_rest_in_files(
    adapler_folder: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    output = Path("out")
    options = ("--adapler", adapler_folder, "--data", data, "--max-length", 24, "--output", output, "--no-figures")
    assert command(*options) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 140
    assert lines[0] == f"adapler    {adapler_folder.name}" and lines[2] == "data       films, test"
    assert "documents  6, 4 scored, 2 skipped" in printed and "x fewer with AdapLeR" in printed
    assert printed.count("\n  cp ") == 2, "AP, and one table of a selection"
    assert lines[-1].startswith("next: streamlit run app/main.py -- --reports ")
    summary = (output / "summary.txt").read_text()
    assert summary.count("\n  cp ") >= 7 and str(tmp_path) not in summary
    assert {"report.json", "layers.csv", "documents.parquet"} <= {path.name for path in output.iterdir()}
    assert str(tmp_path) not in (output / "report.json").read_text()
    meta = json.loads((output / "report.json").read_text())["meta"]
    assert meta["command"].startswith("python -m analysis.rationale_eval --adapler adapler --data films")
    first = (output / "layers.csv").read_bytes()
    assert command(*options, "--all-tables") == 0
    assert capsys.readouterr().out.count("\n  cp ") >= 7
    assert (output / "layers.csv").read_bytes() == first, "whatever came from the cache"


def test_without_arguments_the_embedded_checkpoint_and_the_sample(
    adapler_folder: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scoring, "DEFAULT_ADAPLER", adapler_folder)
    monkeypatch.setattr(corpus, "DEFAULT_DATA", (tmp_path / "movies", corpus.SAMPLE))
    assert command("--methods", "random", "--no-figures", "--limit", 2, "--max-length", 24) == 0
    assert "the embedded sample" in capsys.readouterr().out
    assert (tmp_path / "reports" / "sample-test" / "report.json").is_file()


def test_saved_scores_alone_load_no_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "load_models", lambda *_, **__: pytest.fail("a model is loaded"))
    row = {"annotation_id": "neg_0", "rationales": [{"docid": "neg_0", "soft_rationale_predictions": list(range(8))}]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    options = ["--data", data, "--methods", "none", "--predictions", tmp_path / "mine.jsonl", "--no-figures"]
    assert command(*options, "--metrics", "average_precision", "roc_auc", "--output", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "model      none: saved scores only" in printed and "missing    mine has nothing for 5 documents" in printed


def test_a_recipe(adapler_folder: Path, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"adapler: {adapler_folder}\ndata: {data}\nmethods: [random]\nmax_length: 24\nseed: 7\n")
    assert command("--config", recipe, "--seed", 8, "--output", tmp_path / "out", "--no-figures") == 0
    meta = json.loads((tmp_path / "out" / "report.json").read_text())["meta"]
    assert meta["seed"] == 8 and meta["max_length"] == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--data", ""], "--data: got an empty name"),
        (["--methods", "limes"], "method 'limes' is not known"),
        (["--metrics", "auc"], "metric: got 'auc'"),
        (["--predictions", "missing.jsonl"], "missing.jsonl: cannot be read"),
        (["--output", "a-file"], "--output: .*a-file"),
    ],
)
def test_mistakes_end_in_one_line_and_write_nothing(
    options: list[str],
    message: str,
    adapler_folder: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    assert command("--adapler", adapler_folder, "--data", data, *options) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("error: ")
    assert re.search(message, error[0])
    assert not (tmp_path / "reports").exists()


def test_help_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rationale_eval.main(["--help"])
    printed = capsys.readouterr().out
    assert "--help-all" in printed and "--token-budget" not in printed and "--truncation" in printed
    assert printed.count("\n  --") <= 20
