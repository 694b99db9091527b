"""Trainings that break and outputs that cannot be written: one line, and nothing half-written or lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapler.cli.parser import main
from adapler.errors import ArgumentError, run_command
from adapler.outputs import check_writable_folder
from tests.adapler.cli.refusals import Refuse
from tests.adapler.training.common import QUICK
from tests.conftest import tiny_adapler


def test_outputs_that_are_something_else(
    refuse: Refuse, task_folder: Path, run_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    model, task_options = run_folder / "phi-0.1-post-hoc", ["--task", task_folder]
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        for command in ("finetune", "run"):
            line = refuse(command, *task_options, "--model", tiny_classifier_folder, "--output", path, *QUICK)
            assert "cannot be a folder" in line and "file is a file" in line
        assert "cannot be a folder" in refuse("export", "--model", model, "--output", path)
    folder = ["--output", tmp_path / "folder"]
    assert "folder is a folder" in refuse("evaluate", *task_options, "--model", model, *folder)
    for command in ("evaluate", "calibrate"):
        refused = refuse(command, *task_options, "--model", model, "--limit", "3")
        assert "--limit: is of training rows, and only " in refused
    assert "folder is a folder" in refuse("predict", "x", "--model", model, *folder)
    for name in (".", "..", "/"):
        assert f"--output: {name} is a folder" in refuse("predict", "x", "--model", model, "--output", name)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "run.json"])
def test_a_model_s_own_file_is_no_output(name: str, refuse: Refuse, task_folder: Path, run_folder: Path) -> None:
    model = run_folder / "phi-0.1-post-hoc"
    before = (model / name).read_bytes()
    for command in ("evaluate", "calibrate"):
        line = refuse(command, "--task", task_folder, "--model", model, "--output", model / name)
        assert f"{name} is a file of the model in that folder; choose another name" in line
    assert (model / name).read_bytes() == before


@pytest.mark.parametrize("command", ["finetune", "train"])
def test_a_rate_that_breaks_the_weights(
    command: str, refuse: Refuse, task_folder: Path, run_folder: Path, tiny_classifier_folder: Path
) -> None:
    """The only update of the run does it, so no step's own loss shows it."""
    options = {
        "finetune": ["--model", tiny_classifier_folder],
        "train": ["--finetuned", run_folder / "finetuned", "--saliency", run_folder / "saliency"],
    }[command]
    quick = [*QUICK, "--epochs", "1", "--batch-size", "24", "--warmup", "0", "--learning-rate", "1e38"]
    line = refuse(command, "--task", task_folder, *options, "--output", "{out}", *quick)
    assert "the validation loss is" in line and "'backbone'" in line and "no checkpoint was written yet" in line


def test_the_last_good_checkpoint_is_kept(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from adapler.training.stages.finetune import FinetuneTrainer

    step = FinetuneTrainer.training_step

    def poisoned(self: Any, model: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == 4:  # the second epoch's second step
            with torch.no_grad():
                model.classifier.weight.fill_(float("nan"))
        return step(self, model, *args, **kwargs)

    monkeypatch.setattr(FinetuneTrainer, "training_step", poisoned)
    arguments = ["finetune", "--task", task_folder, "--model", tiny_classifier_folder, "--output", tmp_path / "out"]
    assert run_command(main, [str(argument) for argument in [*arguments, *QUICK]]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "stopped at step 5: the loss is nan (group 'backbone')" in line and "checkpoint-3" in line
    weights = load_file(tmp_path / "out" / "epochs" / "checkpoint-3" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_real_process_ends_with_one_line_and_a_code(tmp_path: Path) -> None:
    tiny_adapler().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    done = subprocess.run(
        [sys.executable, "-m", "adapler", "predict", "--model", str(tmp_path), "x"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"error: {tmp_path}: the weights cannot be")


def test_outputs_that_cannot_be_made(
    refuse: Refuse, task_folder: Path, run_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    model, long = run_folder / "phi-0.1-post-hoc", tmp_path / ("x" * 300)
    for path in (Path("/proc/nowhere/out"), long, long / "below"):
        options = ["--task", task_folder, "--model", tiny_classifier_folder, "--output", path]
        assert "cannot be a folder (" in refuse("finetune", *options, *QUICK)
        assert "cannot be a folder (" in refuse("run", *options, *QUICK)
        assert "cannot be" in refuse("evaluate", "--task", task_folder, "--model", model, "--output", path)
        assert "cannot be a folder (" in refuse("export", "--model", model, "--output", path)


def test_a_home_directory_that_no_shell_has_put_in_is_no_folder(
    refuse: Refuse, task_folder: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    model, said = run_folder / "phi-0.1-post-hoc", "stands for no home directory here, write it out: "
    for name, options in (
        ("runs/x", ["run", "--task", task_folder, "--classifier", model, "--gamma", "0.1"]),
        ("half", ["export", "--model", model]),
        ("labels.csv", ["predict", "--model", model, "--input", task_folder / "test.jsonl"]),
    ):
        assert refuse(*options, f"--output=~/{name}") == f"error: --output: ~/{name} {said}{tmp_path}/me/{name}"
    with pytest.raises(ArgumentError, match=rf"^--figures: ~ {said}.*/me$"):
        check_writable_folder(Path("~"), name="--figures")
    (tmp_path / "~").mkdir()  # then it is meant
    assert main(["export", "--model", str(model), "--output=~/half"]) == 0
    assert (tmp_path / "~" / "half" / "config.json").is_file()
