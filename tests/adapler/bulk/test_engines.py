"""One process, several, and Ray: the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from adapler.bulk.engines.processes import ProcessEngine
from adapler.bulk.reading import read_shards, source_of
from adapler.bulk.run import _job
from adapler.bulk.settings import Files, OutputFile, PredictSettings, Work
from adapler.cli import main
from adapler.errors import WorkerError, run_command
from tests.adapler.bulk.conftest import Stopped, stop_after

Predict = Callable[..., tuple[bytes, bytes]]


@pytest.fixture
def predict(model: Path, texts: Path, tmp_path: Path) -> Predict:
    def call(*options: str | Path) -> tuple[bytes, bytes]:
        path = tmp_path / "out.jsonl"
        arguments = ["predict", "--model", model, "--input", texts, "--output", path, "--shard-rows", "8", *options]
        assert main(list(map(str, arguments))) == 0
        return path.read_bytes(), (tmp_path / "out.jsonl.errors.jsonl").read_bytes()

    return call


def test_threads_and_processes_change_nothing(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ModuleType("__main__")  # of somebody who calls from a script: workers do not run it again
    script.__file__ = str(tmp_path / "script.py")
    Path(script.__file__).write_text("raise SystemExit('ran again')\n")
    monkeypatch.setitem(sys.modules, "__main__", script)
    columns = ["--output-columns", "score", "probabilities", "lengths", "layers"]
    one = predict("--threads", "1", *columns)
    assert predict("--threads", "3", *columns) == one
    assert predict("--processes", "2", *columns) == one


def test_a_worker_that_dies_ends_the_run_with_one_line(model: Path, texts: Path, tmp_path: Path) -> None:
    settings = PredictSettings(
        model=str(model),
        files=Files(input=texts),
        writing=OutputFile(output=tmp_path / "out.jsonl"),
        work=Work(shard_rows=8),
    )
    engine = ProcessEngine(_job(settings, None), processes=1, threads=1)
    try:
        results = engine.results(read_shards(settings, source_of(settings)))
        assert next(results).index == 0
        os.kill(engine._workers[0].pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"process 1 of 1 ended \(signal SIGKILL\)"):
            list(results)
    finally:
        engine.close()
    assert not any(worker.is_alive() for worker in engine._workers)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")
def test_workers_share_what_they_import(model: Path, texts: Path, tmp_path: Path) -> None:
    settings = PredictSettings(
        model=str(model), files=Files(input=texts), writing=OutputFile(output=tmp_path / "out.jsonl")
    )
    engine = ProcessEngine(_job(settings, None), processes=2, threads=1)
    try:
        for worker in engine._workers:
            lines = Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()[1:]
            kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
            shared = kilobytes["Shared_Clean"] + kilobytes["Shared_Dirty"]
            assert shared > 180e3 > kilobytes["Private_Clean"] + kilobytes["Private_Dirty"], kilobytes
    finally:
        engine.close()


def test_a_worker_says_what_a_user_did_wrong(
    model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", "--model", model, "--input", texts, "--output", tmp_path / "o.jsonl", "--processes", "2"]
    assert run_command(main, [str(word) for word in (*arguments, "--max-length", "999")]) == 2
    assert "error: max_length: 999 is not a whole number from 3 to the model's 40" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_gives_the_bytes_of_one_process(predict: Predict) -> None:
    pytest.importorskip("ray.data")
    one = predict()
    assert predict("--engine", "ray", "--processes", "2", "--threads", "1") == one


def on_ray(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: Ray is not made to begin and end several times in one."""
    command = [sys.executable, "-W", "ignore", "-m", "adapler", "predict", "--engine", "ray", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_ray_ends_what_another_engine_began(predict: Predict, model: Path, texts: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    one = predict()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 3)
        predict("--restart")
    output = tmp_path / "out.jsonl"
    done = on_ray("--model", model, "--input", texts, "--output", output, "--shard-rows", "8", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert (output.read_bytes(), (tmp_path / "out.jsonl.errors.jsonl").read_bytes()) == one


@pytest.mark.slow
def test_an_actor_says_what_a_user_did_wrong(model: Path, texts: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    done = on_ray("--model", model, "--input", texts, "--output", tmp_path / "o.jsonl", "--max-length", "999")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "logging.cc" not in line]
    assert lines == ["error: max_length: 999 is not a whole number from 3 to the model's 40"]
    assert list(tmp_path.iterdir()) == []
