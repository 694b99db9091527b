"""Fine-tuning of the plain backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapler.cli import main
from adapler.errors import CheckpointError
from adapler.training.pipeline import best_epochs
from tests.conftest import tiny_classifier


@pytest.fixture(scope="module")
def still_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """A tiny classifier without dropout."""
    folder = tmp_path_factory.mktemp("still")
    tiny_classifier(num_labels=2, hidden_dropout_prob=0.0).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def finetuned(folder: Path, task: Path, model: Path, *options: str) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """Weights and logged training entries."""
    arguments = ["finetune", "--task", str(task), "--model", str(model), "--output", str(folder), "--epochs", "2"]
    arguments += ["--max-length", "16", "--precision", "float32", "--learning-rate", "1e-3", *options]
    assert main(arguments) == 0
    state = max(folder.glob("epochs/*/trainer_state.json"), key=lambda path: int(path.parent.name.split("-")[1]))
    history = json.loads(state.read_text())["log_history"]
    return load_file(folder / "model.safetensors"), [entry for entry in history if "loss" in entry]


def test_accumulated_batches_equal_one(task_folder: Path, still_folder: Path, tmp_path: Path) -> None:
    whole, log = finetuned(tmp_path / "whole", task_folder, still_folder, "--batch-size", "8")
    parts, parts_log = finetuned(
        tmp_path / "parts", task_folder, still_folder, "--batch-size", "4", "--accumulation", "2"
    )
    for one, other in zip(log, parts_log, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    for name, tensor in whole.items():
        if not name.endswith("key.bias"):  # no gradient but rounding noise, which Adam makes large
            torch.testing.assert_close(parts[name], tensor, atol=2e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_same_seed_same_result_and_another_seed_another(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    results = [
        finetuned(tmp_path / name, task_folder, tiny_classifier_folder, "--batch-size", "8", "--seed", seed)[0]
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    ]
    assert all(torch.equal(tensor, results[1][name]) for name, tensor in results[0].items())
    assert not all(torch.equal(tensor, results[2][name]) for name, tensor in results[0].items())


def test_packed_rows_train_alike(task_folder: Path, still_folder: Path, tmp_path: Path) -> None:
    padded, log = finetuned(tmp_path / "padded", task_folder, still_folder, "--batch-size", "8")
    packed, packed_log = finetuned(tmp_path / "packed", task_folder, still_folder, "--batch-size", "8", "--packed")
    for one, other in zip(log, packed_log, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    for name, tensor in padded.items():
        if not name.endswith("key.bias"):  # as above
            torch.testing.assert_close(packed[name], tensor, atol=2e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_a_run_fine_tunes_on_packed_rows_too(task_folder: Path, still_folder: Path, tmp_path: Path) -> None:
    options = ["--batch-size", "8", "--max-length", "16", "--epochs", "1", "--precision", "float32"]
    options += ["--learning-rate", "1e-3"]
    alone, _ = finetuned(tmp_path / "alone", task_folder, still_folder, *options, "--packed")
    command = ["run", "--task", str(task_folder), "--model", str(still_folder), "--output", str(tmp_path / "run")]
    assert main([*command, *options, "--phi", "0.1", "--finetune-packed"]) == 0
    inside = load_file(tmp_path / "run" / "finetuned" / "model.safetensors")
    assert all(torch.equal(tensor, inside[name]) for name, tensor in alone.items())
    assert json.loads((tmp_path / "run" / "finetuned" / "run.json").read_text())["packed"] is True


def test_packed_leaves_mpnets_relative_positions(task_folder: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
    folder = tmp_path / "mpnet"
    tiny_classifier("mpnet", num_labels=2).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    before = load_file(folder / "model.safetensors")
    after, _ = finetuned(tmp_path / "out", task_folder, folder, "--batch-size", "8", "--packed")
    biases = [name for name in before if "relative_attention_bias" in name]
    assert len(biases) == 1 and torch.equal(after[biases[0]], before[biases[0]])
    moved = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert len(moved) >= len(before) - 3, "all else trains, but for what has no gradient"


def test_half_rounds_the_weights_to_float16(task_folder: Path, still_folder: Path, tmp_path: Path) -> None:
    weights, _ = finetuned(tmp_path / "half", task_folder, still_folder, "--half")
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    assert all(torch.equal(tensor, tensor.half().float()) for tensor in weights.values())


def test_by_steps_the_best_points_are_kept(task_folder: Path, still_folder: Path, tmp_path: Path) -> None:
    finetuned(
        tmp_path / "out", task_folder, still_folder, "--batch-size", "4", "--max-steps", "12", "--eval-steps", "2"
    )
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [row["step"] for row in record["epochs"]] == [2, 4, 6, 8, 10, 12]
    best = {path.name for path in best_epochs(tmp_path / "out")}
    assert best | {"checkpoint-12"} == {path.name for path in (tmp_path / "out" / "epochs").iterdir()}
    with pytest.raises(CheckpointError, match=r"were not kept \(--eval-steps keeps those of the best 3\)"):
        best_epochs(tmp_path / "out", most=6)
