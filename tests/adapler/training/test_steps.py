"""Training by steps: when it evaluates, how the slope grows, and that a killed training goes on exactly."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapler.cli.parser import main
from adapler.errors import ArgumentError, CheckpointError
from adapler.training.arguments import report_callbacks, training_arguments
from adapler.training.resume import last_checkpoint
from adapler.training.schedule import slope_at_step
from adapler.training.settings import Objectives, Settings
from adapler.training.stages.finetune import FinetuneTrainer, best_epochs
from adapler.training.trainer import AdapLeRTrainer
from tests.adapler.training.common import stopped, trainer

BASE = ["--max-length", "16", "--precision", "float32", "--batch-size", "4", "--learning-rate", "1e-3"]


def test_the_slope_by_steps() -> None:
    slopes = [slope_at_step(step, 101) for step in range(101)]
    assert slopes[0] == 10 and slopes[100] == pytest.approx(1e5) and slope_at_step(0, 1) == 10
    ratios = [later / earlier for earlier, later in zip(slopes, slopes[1:], strict=False)]
    assert max(ratios) == pytest.approx(min(ratios)), "it grows by the same factor in every step"
    with pytest.raises(ArgumentError, match=r"^step: 3 is not in \[0, 3\)$"):
        slope_at_step(3, 3)


@pytest.mark.parametrize(
    ("settings", "schedule", "first"),
    [
        ({"epochs": 1}, None, 1e5),
        ({"epochs": 1}, "steps", 10.0),
        ({"epochs": 3, "eval_steps": 2}, None, 10.0),
        ({"epochs": 3, "eval_steps": 2}, "epochs", 50.0),
        ({"max_steps": 3}, None, 10.0),
    ],
)
def test_which_schedule(
    settings: dict[str, Any], schedule: Any, first: float, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    made = trainer(tmp_path, tiny_tokenizer, settings=settings, slope_schedule=schedule)
    seen: list[float] = []
    step = made.training_step
    made.training_step = lambda *args: seen.append(made.slope) or step(*args)  # type: ignore[method-assign]
    made.train()
    assert seen[0] == first
    if settings.get("max_steps"):
        assert len(seen) == 3 and seen == pytest.approx([10.0, 1e3, 1e5])


@pytest.mark.parametrize("target", [None, "1.3"])
def test_a_training_by_steps_that_was_stopped(
    target: str | None, task_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    """In the middle of an epoch; dropout is on, and phi changes in every step."""
    train = ["train", "--task", str(task_folder), "--finetuned", str(run_folder / "finetuned"), *BASE]
    train += ["--saliency", str(run_folder / "saliency"), "--max-steps", "10", "--eval-steps", "4", "--phi", "0.1"]
    train += ["--eta-learning-rate", "0.1"] + ([] if target is None else ["--target-speedup", target])
    assert main([*train, "--output", str(tmp_path / "straight")]) == 0
    stopped(AdapLeRTrainer, [*train, "--output", str(tmp_path / "cut")], after=5)
    epochs = tmp_path / "cut" / "epochs"
    assert last_checkpoint(epochs) == str(epochs / "checkpoint-4"), "an epoch has six steps"
    assert (epochs / "checkpoint-4" / "controller.json").exists() == (target is not None)
    assert main([*train, "--output", str(tmp_path / "cut"), "--resume"]) == 0
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("straight", "cut")]
    assert records[0]["epochs"] == records[1]["epochs"]
    assert [row["step"] for row in records[0]["epochs"]] == [4, 8, 10]
    assert records[0]["settings"]["max_steps"] == 10 and records[0]["settings"]["eval_steps"] == 4
    straight, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "cut"))
    assert [name for name, tensor in straight.items() if not torch.equal(tensor, cut[name])] == []


def test_fine_tuning_by_steps_keeps_the_best_points(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    command = ["finetune", "--task", str(task_folder), "--model", str(run_folder / "finetuned"), *BASE]
    command += ["--max-steps", "12", "--eval-steps", "2"]
    assert main([*command, "--output", str(tmp_path / "straight")]) == 0
    stopped(FinetuneTrainer, [*command, "--output", str(tmp_path / "cut")], after=7)
    assert main([*command, "--output", str(tmp_path / "cut"), "--resume"]) == 0
    for name in ("straight", "cut"):
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert [row["step"] for row in record["epochs"]] == [2, 4, 6, 8, 10, 12]
        best = {path.name for path in best_epochs(tmp_path / name)}
        there = {path.name for path in (tmp_path / name / "epochs").iterdir() if path.is_dir()}
        assert best | {"checkpoint-12"} == there
    # Fine-tuning again would keep as many.
    with pytest.raises(CheckpointError, match=r"were not kept \(--eval-steps .*; average over the best [34] at most$"):
        best_epochs(tmp_path / "straight", most=6)
    straight, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "cut"))
    assert all(torch.equal(tensor, cut[name]) for name, tensor in straight.items())


@pytest.mark.parametrize("frozen", [False, True])
def test_recomputed_activations_and_workers_change_no_number(frozen: bool, tmp_path: Path, tiny_tokenizer: Any) -> None:
    plain = trainer(tmp_path / "plain", tiny_tokenizer, freeze_backbone=frozen)
    settings = {"gradient_checkpointing": True, "workers": 1}
    other = trainer(tmp_path / "other", tiny_tokenizer, freeze_backbone=frozen, settings=settings)
    assert other.args.dataloader_num_workers == 1
    for one in (plain, other):
        torch.manual_seed(0)  # of dropout
        one.train()
    assert getattr(other.args, "activation_checkpointing", False) or other.args.gradient_checkpointing  # its older name
    for (name, a), (_, b) in zip(plain.core.named_parameters(), other.core.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapler.training.arguments.find_spec", lambda name: None)
    for name in ("tensorboard", "wandb"):
        with pytest.raises(ArgumentError, match=f"^--report-to: {name} is not installed; `pip install {name}`$"):
            training_arguments(Settings(report_to=name), tmp_path)  # type: ignore[arg-type]
    assert training_arguments(Settings(), tmp_path).report_to == []
    monkeypatch.setattr("adapler.training.arguments.find_spec", lambda name: name)
    assert training_arguments(Settings(report_to="wandb"), tmp_path).report_to == ["wandb"]
    assert report_callbacks(Settings(), tmp_path) == []
    made: list[str] = []
    writer = SimpleNamespace(SummaryWriter=lambda log_dir: made.append(log_dir))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)
    monkeypatch.setattr("transformers.integrations.TensorBoardCallback", lambda writer: writer)
    for stage in ("", "1-train"):
        report_callbacks(Settings(report_to="tensorboard"), tmp_path, stage=stage)
    assert made == [str(tmp_path / "tensorboard"), str(tmp_path / "tensorboard" / "1-train")]
    with pytest.raises(ArgumentError, match="^--report-to: 'x' is not one of none, tensorboard, wandb$"):
        Settings(report_to="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Settings(max_steps=0), "^--max-steps: 0 is not at least 1$"),
        (lambda: Settings(eval_steps=0), "^--eval-steps: 0 is not at least 1$"),
        (lambda: Settings(workers=-1), "^--workers: -1 is not at least 0$"),
        (lambda: Objectives(target_speedup=1), "^--target-speedup: 1 is not above 1 and at most 100$"),
        (lambda: Objectives(target_speedup=4, phi=0), "^--phi: 0 is no start for --target-speedup"),
    ],
)
def test_settings_out_of_bounds(made: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        made()
