from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from adapler.errors import CheckpointError, run_command
from analysis import explain, figures, loading, rationale_eval
from analysis.output.report import RationaleReport


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that a test computes stays in the home directory, or comes from there."""
    monkeypatch.setenv("ADAPLER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tables and figures, which take seconds to draw, and no bar that tells of them but for its first letter."""

    def save(report: RationaleReport, directory: str | Path, *, progress: bool, draw: bool) -> list[Path]:
        if progress:
            print(end="w", file=sys.stderr)
        path = Path(directory) / "report.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        report.to_json(path)
        return [path]

    monkeypatch.setattr(RationaleReport, "save", save)


def command(*argv: Any) -> int:
    return run_command(rationale_eval.main, [str(argument) for argument in argv])


def test_a_report_without_figures(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    (output / "figures").mkdir(parents=True)
    for name in ("report.html", "figures/agreement.png"):
        (output / name).touch()  # of an earlier report: they would be taken for this one's
    options = ("--adapler", adapler_folder, "--data", corpus_folder, "--max-length", 24, "--methods", "cp", "random")
    assert command(*options, "--output", output, "--no-figures") == 0
    capsys.readouterr()
    found = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert found == {"report.json", "layers.csv", "documents.parquet", "table.tex", "table.md", "summary.txt"}


def test_command_writes_and_prints(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    options = ("--adapler", adapler_folder, "--data", corpus_folder, "--output", output, "--max-length", 24)
    assert command(*options) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == f"adapler    {adapler_folder}"
    assert lines[2] == f"data       {corpus_folder}, test"
    assert "documents  6, 4 scored, 2 skipped" in printed
    assert "FLOPs      " in printed and "x fewer with AdapLeR" in printed
    for title in ("Average precision", "FPR (selected at 1/n, n = tokens of the input)", "J = TPR - FPR"):
        assert title in printed
    assert lines[-1].startswith("next: streamlit run app/main.py -- --reports ")
    report = RationaleReport.from_json(output / "report.json")
    assert report.methods == ("attention", "attention_received", "rollout", "saliency", "cp", "random")
    assert report.meta["command"].startswith("python -m analysis.rationale_eval --adapler adapler --data films")
    assert report.meta["adapler"] == adapler_folder.name
    for path in output.iterdir():
        if path.suffix in (".json", ".txt", ".html", ".md", ".tex"):
            assert str(tmp_path) not in path.read_text(), f"{path.name} shows where this machine keeps its files"
    assert "* differs from AdapLeR CP" in printed  # the tests of CP against the others
    tables = [line for line in lines if line.startswith("  cp ")]
    wide = [line for line in lines[3 : lines.index(tables[-1])] if len(line) > 100]
    assert len(tables) == 7 and wide == []
    for name in ("agreement.pdf", "agreement.png", "lengths.pdf", "document.svg"):
        assert (output / "figures" / name).is_file()
    assert (output / "summary.txt").read_text().startswith("adapler    adapler\n")


@pytest.mark.usefixtures("quick")
def test_without_arguments_the_embedded_checkpoint_and_the_sample(
    adapler_folder: Path,
    corpus_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "DEFAULT_ADAPLER", adapler_folder)
    monkeypatch.setattr(loading, "DEFAULT_DATA", (tmp_path / "movies", corpus_folder))
    assert command("--max-length", 24, "--methods", "random") == 0
    printed = capsys.readouterr().out
    assert "(embedded)" in printed.splitlines()[0]
    assert "the embedded sample; the real reviews are not in data/eraser/movies" in printed
    assert (tmp_path / "reports" / "films-test" / "report.json").is_file()
    # and the real reviews once they are there
    (tmp_path / "movies").symlink_to(corpus_folder)
    assert command("--max-length", 24, "--methods", "random") == 0
    assert "(the real ERASER Movie Reviews)" in capsys.readouterr().out


def test_two_runs_give_the_same_bytes_whatever_came_from_the_cache(
    adapler_folder: Path,
    corpus_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = []
    options = ("--adapler", adapler_folder, "--data", corpus_folder, "--max-length", 24, "--output", "out")
    options += ("--methods", "cp", "--limit", 2, "--examples", 0)
    monkeypatch.setattr(figures, "save_all", lambda *_, **__: [])  # their bytes are tested with the figures
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert command(*options) == 0
        assert ("cache      100 %" in capsys.readouterr().out) == (name == "b")
        folder = tmp_path / name / "out"
        files.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert files[0].keys() == files[1].keys() and len(files[0]) >= 7
    assert [str(name) for name, content in files[0].items() if content != files[1][name]] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--adapler", "{tmp}/none"), "none: no such model folder"),
        (("--model", "{tmp}/none"), "none: no such model folder"),
        (("--data", "{tmp}/none"), "none: no such file or folder"),
        (
            ("--data", ""),
            "error: --data: got an empty name, must be a folder or a file",
        ),  # of a variable that is not set, say
        (("--split", "dev"), "split: got 'val', films has test"),
        (("--methods", "limes"), "method 'limes' is not known; the registry has alti, attention"),
        (("--metrics", "auc"), "metric: got 'auc', allowed are average_precision.*; or groups of them: ranking"),
        (("--predictions", "{tmp}/none.jsonl"), "none.jsonl: No such file"),
        (("--human", "{tmp}/file"), "file: has none of the 6 documents that are evaluated"),
        (("--cache", "{tmp}/file"), "cache: .*file cannot be a folder"),
        (("--rationale-layer", "1"), "rationale_layer: got 1, but no rationales are written"),
        (("--rationales", "{tmp}/file"), "--rationales: .*file is a file, must be a folder"),
        (("--faithfulness-layers", "7"), "faithfulness_layers: got 7, the model has layers 0 to 2"),
        (("--examples", "-1"), "examples: got -1, must be at least 0"),
        (("--max-length", "1"), "max_length: got 1, must be at least 3"),
        (("--output", "{tmp}/file"), "--output: .*file is a file, must be a folder"),
        (("--output", "{tmp}/file/deeper"), "--output: .*file is a file, must be a folder"),
        (("--output", "{tmp}/other"), "--output: .*report.html is a folder, a file is to be written there"),
        (("--output", "/proc/nowhere/out"), r"--output: /proc/nowhere/out cannot be written \("),
        (("--rationales", "/proc/nowhere/out"), r"--rationales: /proc/nowhere/out cannot be written \("),
        (("--methods", "saliency(target=PSO)"), "target: 'PSO' is no class of this model; allowed are predicted, gold"),
        (("--methods", "saliency(target=contrast:2)"), "target: '2' is no class of this model"),
        (("--output", "{tmp}/third"), "--output: .*figures is a file, must be a folder"),
        (("--adapler", "{plain}"), "holds a 'bert' model, not 'adapler'"),
    ],
)
def test_bad_input_is_one_line(
    adapler_folder: Path,
    corpus_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, str],
    message: str,
) -> None:
    import re

    (tmp_path / "file").write_text("")
    (tmp_path / "other" / "report.html").mkdir(parents=True)
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "figures").write_text("")
    filled = [option.format(tmp=tmp_path, plain=adapler_folder.parent / "plain") for option in options]
    base = {"--adapler": adapler_folder, "--data": corpus_folder, "--output": tmp_path / "out"}
    base[filled[0]] = filled[1]
    if filled[0] == "--model":
        del base["--adapler"]
    assert command(*(item for pair in base.items() for item in pair)) == 2
    printed = capsys.readouterr()
    (error,) = printed.err.strip().splitlines()
    assert error.startswith("error: ") and re.search(message, error), error
    assert printed.out == "", "nothing before all is checked"
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_missing_embedded_checkpoint(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "DEFAULT_ADAPLER", tmp_path / "gone")
    assert command("--data", corpus_folder, "--output", tmp_path / "out") == 2
    assert re.search(r"gone: the embedded checkpoint, .* is not there; name a model", capsys.readouterr().err)
    with pytest.raises(CheckpointError, match="is not there; name a model"):
        explain("a good film")


def test_no_data_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An installed package has no sample beside it; what was downloaded lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "DEFAULT_DATA", (loading.DEFAULT_DATA[0], tmp_path / "sample"))
    assert command("--output", tmp_path / "out") == 2
    assert "error: data: none is given, the movie reviews are not in data/eraser/movies" in capsys.readouterr().err
    (tmp_path / "data" / "eraser" / "movies" / "docs").mkdir(parents=True)
    assert loading.default_data() == Path("data/eraser/movies")


def test_help_has_an_example_and_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command("--help")
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert "examples:\n  python -m analysis.rationale_eval --adapler" in printed
    flat = " ".join(printed.split())
    assert "attention_received" in flat and "saliency_gold" in flat


@pytest.mark.usefixtures("quick")
def test_a_second_run_takes_scores_from_the_cache(
    adapler_folder: Path,
    corpus_folder: Path,
    tmp_path: Path,
    cache_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--adapler", adapler_folder, "--data", corpus_folder, "--max-length", 24, "--methods", "cp", "random")
    assert command(*options, "--output", tmp_path / "a", "--no-cache") == 0
    assert not cache_folder.exists()
    assert command(*options, "--output", tmp_path / "b") == 0
    assert "cache      " not in capsys.readouterr().out
    assert command(*options, "--output", tmp_path / "c", "--metrics", "roc_auc", "average_precision") == 0
    assert "cache      100 % of the model's outputs were there already" in capsys.readouterr().out
    assert command(*options, "--no-cache", "--cache", tmp_path) == 2
    assert capsys.readouterr() == ("", "error: --no-cache: cannot be given together with --cache\n")


@pytest.mark.usefixtures("quick")
def test_the_report_is_written_when_the_reader_of_the_tables_has_left(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        """As a pipe to `2>&1 | head -1`: what comes first is read, nothing after it."""

        has_left = False

        def write(self, text: str) -> int:
            self.has_left = self.has_left or "Average precision" in text
            if self.has_left:
                raise BrokenPipeError
            return super().write(text)

    pipe = Gone()
    monkeypatch.setattr("sys.stdout", pipe)
    monkeypatch.setattr("sys.stderr", pipe)
    options = ["--adapler", adapler_folder, "--data", corpus_folder, "--max-length", 24, "--methods", "cp"]
    with pytest.raises(BrokenPipeError):
        rationale_eval.main([*map(str, options), "--output", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "summary.txt"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("option", "noted"), [("--model", True), ("--adapler", False)])
def test_a_checkpoint_given_as_the_model_is_said_to_lose_its_removal(
    adapler_folder: Path,
    corpus_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    noted: bool,
) -> None:
    options = ("--data", corpus_folder, "--max-length", 24, "--methods", "random", "--output", tmp_path / "out")
    assert command(option, adapler_folder, *options) == 0
    assert ("--adapler adds its removal and cp" in capsys.readouterr().err) == noted


@pytest.mark.usefixtures("quick")
def test_a_default_cache_that_cannot_be_is_no_reason_to_stop(
    adapler_folder: Path,
    corpus_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADAPLER_CACHE", str(tmp_path / "file"))
    options = ("--adapler", adapler_folder, "--data", corpus_folder, "--max-length", 24, "--methods", "random")
    assert command(*options, "--output", tmp_path / "out") == 0
    assert "note: cache: " in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_everything_at_once(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    options = ("--adapler", adapler_folder, "--data", corpus_folder, "--max-length", 24, "--output", output)
    extra = ("--protocol", "eraser", "--policy", "rationale-windows", "--aggregate", "mean", "--queries", "no")
    methods = ("--methods", "saliency", "cp", "occlusion", "--faithfulness-layers", 0, 2, "--examples", 1)
    files = ("--human", corpus_folder / "test.jsonl", "--rationales", tmp_path / "rationales", "--rationale-layer", 1)
    assert command(*options, *extra, *methods, *files) == 0
    printed = capsys.readouterr().out
    assert "in view    24 wordpieces (rationale-windows, 7 windows)" in printed
    assert "protocol   eraser (python -m analysis.evaluation.protocols), aggregation mean" in printed
    assert "rationales in ERASER's format: " in printed
    report = RationaleReport.from_json(output / "report.json")
    assert report.methods == ("saliency", "cp", "occlusion", "human") and len(report.examples) == 1
    assert not report.is_layerwise("human") and not report.is_layerwise("occlusion")
    written = sorted(path.name for path in (tmp_path / "rationales").iterdir())
    assert written == ["cp.jsonl", "occlusion.jsonl", "saliency.jsonl"]


def test_of_the_processes_of_a_launcher_one_evaluates(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert command("--output", tmp_path / "out") == 0
    assert capsys.readouterr().out == "" and not (tmp_path / "out").exists()
