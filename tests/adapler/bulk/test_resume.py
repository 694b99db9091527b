"""`adapler predict`, killed and started again."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adapler.cli import main
from adapler.errors import ArgumentError, DataError, run_command
from tests.adapler.bulk.conftest import Stopped, stop_after

Predict = Callable[..., bytes]

# The command, which kills itself when so many shards are written.
DYING = """
import os, signal, sys
from adapler.bulk.store import Store
from adapler.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
append = Store.append
def dying(self, *args, **options):
    append(self, *args, **options)
    if len(self.entries) == int(sys.argv[1]):
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
Store.append = dying
if __name__ == "__main__":
    from adapler.errors import run_command
    sys.exit(run_command(main, sys.argv[3:]))
"""


@pytest.fixture
def predict(model: Path, texts: Path, tmp_path: Path) -> Predict:
    def call(*options: str | Path, output: str = "out.jsonl", source: Path | str = texts) -> bytes:
        path = tmp_path / output
        arguments = ["predict", "--model", model, "--input", source, "--output", path, "--shard-rows", "8", *options]
        assert main(list(map(str, arguments))) == 0
        assert not path.with_name(f"{output}.partial").exists()
        return path.read_bytes()

    return call


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_killed_runs_end_with_the_bytes_of_one(predict: Predict, tmp_path: Path, suffix: str) -> None:
    whole = predict("--keep", "stars", output=f"whole.{suffix}")
    errors = (tmp_path / f"whole.{suffix}.errors.jsonl").read_bytes()
    for shards in (1, 4, 7):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
            stop_after(patch, shards)
            predict("--keep", "stars", output=f"out.{suffix}")
    assert not (tmp_path / f"out.{suffix}").exists()
    assert predict("--keep", "stars", output=f"out.{suffix}") == whole
    assert (tmp_path / f"out.{suffix}.errors.jsonl").read_bytes() == errors


@pytest.mark.slow
def test_sigkill_and_ctrl_c_leave_what_is_done_and_no_process(
    predict: Predict, model: Path, texts: Path, tmp_path: Path
) -> None:
    whole = predict(output="whole.jsonl")
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    arguments = ["predict", "--model", model, "--input", texts, "--output", tmp_path / "out.jsonl", "--shard-rows", "8"]

    def killed(shards: int, how: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, script, str(shards), how, *arguments, *options]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        # Were a worker left behind, it would hold the pipe of stderr open, and this would not return.
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=environment)

    assert killed(3, "SIGKILL").returncode == -signal.SIGKILL
    partial = tmp_path / "out.jsonl.partial"
    assert len((partial / "journal").read_text().splitlines()) == 3
    done = killed(5, "SIGINT", "--processes", "2")
    assert done.returncode == 130, done.stderr
    assert "40 rows are done; the same command goes on" in done.stderr
    assert predict() == whole


def test_going_on_with_something_else_is_refused(
    predict: Predict, model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 2)
        predict()
    begun = (tmp_path / "out.jsonl.partial" / "journal").read_bytes()

    def refused(*options: str | Path, source: Path = texts, folder: Path = model) -> str:
        arguments = ["predict", "--model", folder, "--input", source, "--output", tmp_path / "out.jsonl"]
        if "--shard-rows" not in options:
            arguments += ["--shard-rows", "8"]
        capsys.readouterr()
        assert run_command(main, [str(word) for word in (*arguments, *options)]) == 2
        assert (tmp_path / "out.jsonl.partial" / "journal").read_bytes() == begun, "nothing that is done is lost"
        return next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))

    assert "was begun with threshold_scale 1.0, now it is 0.5; --restart" in refused("--threshold-scale", "0.5")
    assert "was begun with keep [], now it is" in refused("--keep", "stars")
    assert "was begun with shard_rows 8, now it is 9" in refused("--shard-rows", "9")
    assert "output_columns" in refused("--output-columns", "label")
    other = tmp_path / "model"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "unused": 1}))
    assert "was begun with model" in refused(folder=other)
    changed = tmp_path / "changed.jsonl"
    changed.write_text(texts.read_text().replace('"n12"', '"n12b"'))
    assert "the input differs in rows 9 to 16, which out.jsonl.partial was made from; --restart" in refused(
        source=changed
    )
    short = tmp_path / "short.jsonl"
    short.write_text("".join(texts.read_text().splitlines(keepends=True)[:8]))
    assert "the input ends before rows 9 to 16, which out.jsonl.partial was made from; --restart" in refused(
        source=short
    )
    predict("--threshold-scale", "0.5", "--restart")


def test_evaluations_are_no_part_of_the_model(predict: Predict, model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "model"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 2)
        predict("--model", other)
    (other / "evaluation-mine.json").write_text("{}")
    assert predict("--model", other) == predict(output="whole.jsonl")


def test_standard_input_goes_on(predict: Predict, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--format", "jsonl"]

    def typed() -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(texts.read_bytes())))

    typed()
    whole = predict(*options, output="whole.jsonl", source="-")
    typed()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 3)
        predict(*options, source="-")
    typed()
    assert predict(*options, source="-") == whole


def test_the_notes_of_a_resumed_run_name_all_bad_rows(predict: Predict, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 2)
        predict()
    capsys.readouterr()
    predict()
    err = capsys.readouterr().err
    assert "16 rows were done by an earlier run" in err and "3 of 61 rows have no prediction" in err
    assert "texts.jsonl:8: not JSON" in err and "texts.jsonl:61: field 'text' must be a string" in err


def test_strict_holds_for_what_an_earlier_run_did(predict: Predict) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 2)
        predict()
    with pytest.raises(DataError, match="texts.jsonl:8: not JSON"):
        predict("--strict")


def test_a_refused_run_does_not_say_that_the_same_command_goes_on(
    predict: Predict, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copy(texts, tmp_path / "mine.jsonl"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 2)
        predict(source=source)
    assert "the same command goes on" in capsys.readouterr().err
    source.write_text(source.read_text().replace('"n0"', '"another"'))
    with pytest.raises(ArgumentError, match="the input differs in rows 1 to 8"):
        predict(source=source)
    assert "goes on" not in capsys.readouterr().err


@pytest.mark.parametrize("windows", [(), ("--max-length", "6", "--long-documents", "windows")])
def test_rows_of_which_only_cls_is_left_are_counted(
    predict: Predict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], windows: tuple[str, ...]
) -> None:
    """The layers see nothing of them, so the model says the same of all of them."""
    options = ("--threshold-scale", "6", "--output-columns", "tokens", "layers", "score", *windows)
    rows = [json.loads(line) for line in predict(*options).splitlines()]
    noted = [line for line in capsys.readouterr().err.splitlines() if "nothing but [CLS]" in line]
    good = [row for row in rows if row["error"] is None]
    lost = []
    for row in good:
        entered = {token for token, depth in zip(row["tokens"], row["layers"], strict=True) if depth > 0}
        lost += [row] if entered == {"[CLS]"} else []
    assert 1 < len(lost) < len(good)
    assert max(row["score"] for row in lost) == pytest.approx(min(row["score"] for row in lost), abs=1e-6)
    assert noted == [
        f"note: of {len(lost)} of {len(rows)} rows nothing but [CLS] entered the first layer: their labels do not "
        "depend on the text; a smaller --threshold-scale or --speedup keeps more"
    ]
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        with pytest.raises(Stopped):
            predict(*options)
    capsys.readouterr()
    predict(*options)
    assert noted[0] in capsys.readouterr().err.splitlines()  # what was done before is counted, too
    predict("--removal", "none")
    assert "nothing but" not in capsys.readouterr().err


def test_a_journal_without_later_fields_goes_on_twice(predict: Predict, tmp_path: Path) -> None:
    whole = predict()
    journal = tmp_path / "out.jsonl.partial" / "journal"
    for shards in (2, 4, None):
        with pytest.MonkeyPatch.context() as patched:
            if shards is None:
                assert predict() == whole
                break
            stop_after(patched, shards)
            with pytest.raises(Stopped):
                predict()
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        assert len(lines) == shards
        older = [{name: value for name, value in line.items() if name != "unread"} for line in lines]
        journal.write_text("".join(json.dumps(line) + "\n" for line in older))
