"""A folder that a training writes into is its own for as long as it runs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapler.budgets.stored import CALIBRATION
from adapler.cli.parser import main
from adapler.errors import ArgumentError, CheckpointError
from adapler.files import locked_file, unlock
from adapler.inference.evaluation import evaluate_rows
from adapler.model.modeling import AdapLeRForSequenceClassification
from adapler.outputs import claimed_file, claimed_folder
from adapler.training.records import model_checksum
from adapler.training.stages import evaluate
from tests.adapler.cli.refusals import Refuse
from tests.adapler.training.common import QUICK
from tests.conftest import AS_COMMAND

KILLED = f"""{AS_COMMAND}
import os, signal, sys
from pathlib import Path
from adapler.outputs import claimed_folder
with claimed_folder(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""

# As with --workers: a process that loads data outlives by some seconds the training that forked it.
OUTLIVED = f"""{AS_COMMAND}
import os, signal, sys, time
from pathlib import Path
from adapler.outputs import claimed_folder
ready, started = os.pipe()
with claimed_folder(Path(sys.argv[1])):
    if child := os.fork():
        os.read(ready, 1)  # what a child does first has been done
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(started, b"x")
    time.sleep(60)
"""


@pytest.mark.parametrize("command", ["finetune", "run", "saliency", "train"])
def test_a_second_training_is_refused(
    command: str, refuse: Refuse, task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ["--task", task_folder, "--model", tiny_classifier_folder, "--output", out]
    options += [] if command == "saliency" else QUICK
    if command == "train":
        options += ["--saliency", tmp_path / "saliency", "--reference-score", "0.5"]
    (tmp_path / "link").symlink_to(out)
    with claimed_folder(tmp_path / "link"):
        line = refuse(command, *options)
    assert line.endswith("out is in use by another process; wait for it, or choose another folder")
    assert not out.exists()


def test_the_lock_goes_with_its_training(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "out"
    with pytest.raises(KeyboardInterrupt), claimed_folder(out):
        assert [path.name for path in out.parent.iterdir()] == [".out.lock"]
        raise KeyboardInterrupt
    assert not out.parent.exists(), "what was made for the lock is left"
    assert subprocess.run([sys.executable, "-c", KILLED, str(out)]).returncode == -signal.SIGKILL
    with claimed_folder(out), claimed_folder(tmp_path / "runs" / "other"):
        out.mkdir()
    assert list(out.parent.iterdir()) == [out]


def test_who_outlives_a_training_does_not_hold_its_folder(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OUTLIVED, str(tmp_path / "out")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert process.wait() == -signal.SIGKILL
            with claimed_folder(tmp_path / "out"):
                os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_folder_in_use_is_so_with_what_lies_in_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with claimed_folder(run, replaced=False):
        for stage in (run / "finetuned", run / "policy" / "0.1"):
            with pytest.raises(ArgumentError, match="lies in .*run, which is in use"), claimed_folder(stage):
                pass
    for inner in ("finetuned", "movies/seed-42/finetuned"):
        with claimed_folder(run / inner):
            with pytest.raises(ArgumentError, match=f"run has {inner}/ in it, which is in use"), claimed_folder(run):
                pass
            (run / ".left.lock").touch()  # of a process that was killed
    with claimed_folder(run), claimed_folder(tmp_path / "run2" / "finetuned"):
        pass


def test_the_processes_of_one_launcher_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claimed_folder(tmp_path / "out"):
        monkeypatch.setenv("RANK", "1")
        with claimed_folder(tmp_path / "out"):
            pass
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(ArgumentError, match="in use"), claimed_folder(tmp_path / "out"):
            pass


def test_nobody_is_refused_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*args: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    for module in (None, type(sys)("fcntl")):
        if module is not None:
            module.flock, module.LOCK_EX, module.LOCK_NB = unsupported, 2, 4  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fcntl", module)
        with claimed_folder(tmp_path / "out"), claimed_folder(tmp_path / "out"):
            pass
        long = tmp_path / ("x" * 252)  # too long a name for a lock beside it
        with claimed_folder(long), claimed_folder(long):
            pass
    assert not list(tmp_path.iterdir())


def test_a_lock_on_a_file_that_its_holder_removes_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, path = [], tmp_path / "lock"
    real = os.open

    def removed_at_first(*args: Any) -> int:
        opened.append(real(*args))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(os, "open", removed_at_first)
    handle = locked_file(path)
    assert os.path.samestat(os.fstat(handle), path.stat()) and len(opened) == 2
    unlock(handle)


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_a_second_measurement_into_one_file_is_refused(
    command: str, refuse: Refuse, task_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    model, out = run_folder / "phi-0.1-post-hoc", tmp_path / "new" / "out.json"
    options = ["--model", model, "--task", task_folder, "--output", tmp_path / "link" / "out.json"]
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with claimed_file(out):
        assert [path.name for path in out.parent.iterdir()] == [".out.json.writing"]
        line = refuse(command, *options)
    assert line.endswith("out.json is in use by another process; wait for it, or choose another file")
    assert not out.parent.exists(), "what was made for the lock is left"
    if command == "calibrate":  # beside the model, which no training is kept out of
        with claimed_file(model / CALIBRATION), claimed_folder(model), claimed_file(tmp_path / "other.json"):
            line = refuse(command, "--model", model, "--task", task_folder)
        assert f"{model / CALIBRATION} is in use" in line


def test_a_measurement_is_written_where_there_is_no_room_for_a_lock(tmp_path: Path) -> None:
    long = tmp_path / f"{'x' * 245}.json"
    with claimed_file(None), claimed_file(long), claimed_file(long):
        long.touch()
    assert list(tmp_path.iterdir()) == [long]


def test_an_evaluation_is_of_the_model_that_was_loaded(
    task_folder: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(run_folder / "phi-0.1-post-hoc", model)
    before = model_checksum(model)

    def beside_a_training(*args: Any, **options: Any) -> dict[str, Any]:
        shutil.copy(run_folder / "phi-0.001-post-hoc" / "model.safetensors", model)
        return evaluate_rows(*args, **options)

    monkeypatch.setattr(evaluate, "evaluate_rows", beside_a_training)
    out = tmp_path / "out.json"
    assert main(["evaluate", "--model", str(model), "--task", str(task_folder), "--output", str(out)]) == 0
    assert json.loads(out.read_text())["model_checksum"] == before != model_checksum(model)


def test_a_model_that_changes_while_it_is_read_is_not_evaluated(
    task_folder: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(run_folder / "phi-0.1-post-hoc", model)
    whole = AdapLeRForSequenceClassification.from_pretrained

    def beside_a_training(*args: Any, **options: Any) -> Any:
        loaded = whole(*args, **options)
        shutil.copy(run_folder / "phi-0.001-post-hoc" / "model.safetensors", model)
        return loaded

    monkeypatch.setattr(AdapLeRForSequenceClassification, "from_pretrained", beside_a_training)
    with pytest.raises(CheckpointError, match="changed while they were read; evaluate again$"):
        main(["evaluate", "--model", str(model), "--task", str(task_folder)])
