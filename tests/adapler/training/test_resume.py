"""A training that was killed goes on where it was, to the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapler.cli.parser import main
from adapler.errors import ArgumentError
from adapler.training.records import write_record
from adapler.training.resume import finished_record, last_checkpoint
from adapler.training.settings import Objectives, Settings, option_name
from adapler.training.trainer import AdapLeRTrainer
from adapler.training.trainer.clock import CLOCK
from tests.adapler.training.common import trainer

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["--freeze-backbone"], ["--average-decay", "0.9"]], ids=" ".join)
def test_a_process_killed_in_mid_training(
    extra: list[str], task_folder: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL leaves no chance to tidy up; dropout is on, so the random state must be restored too."""
    options = ["train", "--task", str(task_folder), "--max-length", "16", "--precision", "float32"]
    options += ["--finetuned", str(run_folder / "finetuned"), "--saliency", str(run_folder / "saliency")]
    options += [
        "--epochs",
        "6",
        "--batch-size",
        "2",
        "--learning-rate",
        "1e-3",
        "--phi",
        "0.1",
        "--eta-learning-rate",
        "0.1",
    ]
    options += extra
    assert main([*options, "--output", str(tmp_path / "straight")]) == 0

    command = [sys.executable, "-m", "adapler", *options, "--output", str(tmp_path / "killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    epochs = tmp_path / "killed" / "epochs"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 600
        while last_checkpoint(epochs) is None and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()[-2000:]
    assert not (tmp_path / "killed" / "run.json").exists(), "it ended before it was killed"

    done = int(str(last_checkpoint(epochs)).rpartition("-")[2])
    steps = []
    step = AdapLeRTrainer.training_step
    monkeypatch.setattr(AdapLeRTrainer, "training_step", lambda *args: steps.append(1) or step(*args))
    assert main([*options, "--output", str(tmp_path / "killed"), "--resume"]) == 0
    assert 12 <= done and len(steps) == 6 * 12 - done, "it began anew"
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("straight", "killed")]
    assert records[0]["epochs"] == records[1]["epochs"] and records[0]["selected"] == records[1]["selected"]
    straight, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    assert (
        straight.keys() == killed.keys() and records[0]["epochs"][-1]["lengths"] != records[0]["epochs"][0]["lengths"]
    )
    different = [name for name, tensor in straight.items() if not torch.equal(tensor, killed[name])]
    assert different == []


@pytest.mark.parametrize(("first", "then", "held"), [(0.0, 0.9, "no average"), (0.9, 0.0, "an average")])
def test_an_average_is_not_made_up_or_forgotten(
    first: float, then: float, held: str, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    trainer(tmp_path, tiny_tokenizer, average_decay=first).train()
    last = last_checkpoint(tmp_path)
    with pytest.raises(ArgumentError, match=f"average_decay: {then}, but .*checkpoint-8 was written with {held}"):
        trainer(tmp_path, tiny_tokenizer, average_decay=then).train(resume_from_checkpoint=last)


def test_the_last_whole_checkpoint(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None and last_checkpoint(tmp_path) is None
    for step, state in ((9, '{"global_step": 9}'), (10, '{"global_step": 10}'), (11, '{"glo'), (120, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    (tmp_path / "checkpoint-200").write_text("a file", encoding="utf-8")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10"), "by number, whole ones only"


def _interrupt(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def test_a_checkpoint_that_was_being_written(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    """Resuming passes over it and writes it anew."""
    finetune = ["finetune", "--task", str(task_folder), "--model", str(run_folder / "finetuned"), "--max-length", "16"]
    finetune += ["--precision", "float32", "--batch-size", "8", "--epochs", "3", "--learning-rate", "1e-3"]
    assert main([*finetune, "--output", str(tmp_path / "straight")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapler.training.stages.finetune.finish_stage", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            main([*finetune, "--output", str(tmp_path / "cut")])
    last = Path(str(last_checkpoint(tmp_path / "cut" / "epochs")))
    (last / "trainer_state.json").unlink()
    (last / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:100])
    whole = Path(str(last_checkpoint(tmp_path / "cut" / "epochs")))
    assert 0 < json.loads((whole / CLOCK).read_text())["seconds"] < 600
    (whole / CLOCK).write_text(json.dumps({"seconds": 1000.0}))
    assert main([*finetune, "--output", str(tmp_path / "cut"), "--resume"]) == 0
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["seconds"] > 1000, "the time before the stop"
    for file in ("model.safetensors", f"epochs/{last.name}/model.safetensors"):
        straight, cut = (load_file(tmp_path / name / file) for name in ("straight", "cut"))
        assert all(torch.equal(tensor, cut[name]) for name, tensor in straight.items()), file


def test_a_checkpoint_that_counts_has_the_time(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    """Killed right after the trainer's state was written, which makes a checkpoint whole, before any callback."""
    words = ["--task", str(task_folder), "--max-length", "16", "--precision", "float32", "--batch-size", "8"]
    commands = {
        "finetune": ["finetune", "--model", str(run_folder / "finetuned")],
        "phi-0.1": ["run", "--classifier", str(run_folder / "finetuned"), "--phi", "0.1", "--average-decay", "0.9"],
        "transkimmer-0.5": ["run", "--classifier", str(run_folder / "finetuned"), "--policy", "transkimmer"],
    }
    for name, command in commands.items():
        output = tmp_path / name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("transformers.trainer_callback.CallbackHandler.on_save", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                main([*command, *words, "--output", str(output)])
        (epochs,) = output.rglob("epochs")
        assert 0 < json.loads((Path(str(last_checkpoint(epochs))) / CLOCK).read_text())["seconds"] < 600


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("finetune", ["finetune", "--model", "CLASSIFIER", "--resume"]),
        ("train", ["run", "--classifier", "CLASSIFIER", "--phi", "0.1", "--average-decay", "0.9"]),
        ("policies.train", ["run", "--classifier", "CLASSIFIER", "--policy", "transkimmer"]),
    ],
)
def test_a_training_by_steps_stopped_after_its_last_one(
    stage: str, options: list[str], task_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    """No step is added: 5 steps are not a whole number of epochs of 3."""
    words = [str(run_folder / "finetuned") if word == "CLASSIFIER" else word for word in options]
    words += ["--task", str(task_folder), "--max-length", "16", "--precision", "float32", "--batch-size", "8"]
    words += ["--max-steps", "5", "--eval-steps", "2", "--learning-rate", "1e-2", "--output"]
    assert main([*words, str(tmp_path / "straight")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"adapler.training.stages.{stage}.finish_stage", _interrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                main([*words, str(tmp_path / "cut")])
    assert main([*words, str(tmp_path / "cut")]) == 0
    files = [sorted((tmp_path / name).rglob("model.safetensors")) for name in ("straight", "cut")]
    assert len(files[0]) == len(files[1]) > 0
    for straight, cut in zip(*files, strict=True):
        assert straight.read_bytes() == cut.read_bytes(), cut
        if "epochs" in straight.parts:
            continue
        records = [json.loads((path.parent / "run.json").read_text()) for path in (straight, cut)]
        assert [epoch["step"] for epoch in records[0]["epochs"]] == [2, 4, 5]
        for name in ("epochs", "selected", "best", "validation"):
            assert records[0].get(name) == records[1].get(name)


@pytest.mark.parametrize(("by", "options"), [("steps", ["--max-steps", "5", "--eval-steps", "2"]), ("epochs", [])])
def test_the_best_point_is_found_in_a_folder_that_was_moved(
    by: str, options: list[str], task_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    """Transformers looks for it where training began, and would keep the last point's weights without a word."""
    words = ["finetune", "--model", str(run_folder / "finetuned"), "--resume", "--task", str(task_folder)]
    words += ["--max-length", "16", "--precision", "float32", "--batch-size", "8", "--learning-rate", "0.5"]
    words += [*options, "--output"]
    assert main([*words, str(tmp_path / "straight")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapler.training.stages.finetune.finish_stage", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            main([*words, str(tmp_path / "cut")])
    (tmp_path / "cut").rename(tmp_path / "moved")
    assert main([*words, str(tmp_path / "moved")]) == 0
    epochs = json.loads((tmp_path / "straight" / "run.json").read_text())["epochs"]
    scores = [epoch["accuracy"] for epoch in epochs]
    assert scores.index(max(scores)) < len(scores) - 1, "the last point is not the best"
    assert (tmp_path / "moved" / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model.safetensors"
    ).read_bytes()


def test_a_setting_that_an_older_record_lacks_was_off(tmp_path: Path) -> None:
    """That of the model in checkpoints/ has no `routing`, and was taken for one that was trained with `local`."""
    groups: dict[str, Any] = {"settings": Settings(), "objectives": Objectives()}
    new = ("max_steps", "eval_steps", "group_by_length", "target_speedup", "slope_schedule", "routing")
    old = {name: {n: v for n, v in asdict(one).items() if n not in new} for name, one in groups.items()}
    write_record(tmp_path / "run.json", {"command": "train", **old})
    plain: dict[str, Any] = {"command": "train", **{name: asdict(one) for name, one in groups.items()}}
    assert finished_record(tmp_path, plain, resume=True, keep_epochs=True) is not None
    others: dict[str, Any] = {"max_steps": 9, "eval_steps": 3, "group_by_length": True}
    others |= {"target_speedup": 4.0, "slope_schedule": "steps", "routing": "local"}
    for name, value in others.items():
        group = "settings" if name in plain["settings"] else "objectives"
        asked = {**plain, group: {**plain[group], name: value}}
        with pytest.raises(ArgumentError, match=f"finished run with {option_name(name)} .*, not {value}; "):
            finished_record(tmp_path, asked, resume=True, keep_epochs=True)
