"""Two processes do what one process does with the same global batch: gradients, and a whole run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapler.cli import main
from tests.conftest import tiny_classifier

pytestmark = pytest.mark.slow  # each of two processes loads PyTorch

ROOT = Path(__file__).parents[3]


def gradients(folder: Path, tokenizer: Path, *, processes: int) -> dict[str, torch.Tensor]:
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    command += ["-m", "tests.adapler.training.ddp_worker", str(folder), str(tokenizer), str(8 // processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, torch.Tensor] = torch.load(folder / "gradients.pt", weights_only=True)
    return found


def test_two_processes_equal_one(tmp_path: Path, tiny_tokenizer: Any) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    one = gradients(tmp_path / "one", tmp_path / "tokenizer", processes=1)
    two = gradients(tmp_path / "two", tmp_path / "tokenizer", processes=2)
    assert one.keys() == two.keys() and {"eta", "theta"} <= one.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def launched(folder: Path, arguments: list[str], *, processes: int) -> subprocess.CompletedProcess[str]:
    """`adapler ...` as torchrun starts it, in a folder of its own."""
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command += ["-m", "adapler", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("start", "mode"),
    [("--model", []), ("--model", ["--freeze-backbone"]), ("--classifier", ["--freeze-backbone"])],
    ids=["full", "post-hoc", "classifier"],
)
def test_a_whole_run_of_two_processes(
    start: str, mode: list[str], task_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """Fine-tuning or measuring, saliency, training and evaluation; dropout off, since each process draws its own.

    Five validation rows are not as many for each process.
    """
    task = shutil.copytree(task_folder, tmp_path / "task")
    lines = (task / "validation.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (task / "validation.jsonl").write_text("".join(lines[:5]), encoding="utf-8")
    classifier = tiny_classifier(num_labels=2, hidden_dropout_prob=0.0)
    classifier.save_pretrained(tmp_path / "classifier")
    tiny_tokenizer.save_pretrained(tmp_path / "classifier")
    arguments = ["run", "--task", str(task), start, str(tmp_path / "classifier"), "--output", "out", *mode]
    arguments += ["--max-length", "16", "--precision", "float32", "--epochs", "3", "--phi", "0.1"]
    arguments += ["--learning-rate", "1e-3", "--preset", "paper", "--gamma", "0.2", "--eta-learning-rate", "1e-2"]
    two = launched(tmp_path / "two", [*arguments, "--batch-size", "4"], processes=2)
    assert two.returncode == 0, two.stderr[-3000:]
    (tmp_path / "one").mkdir()
    with contextlib.chdir(tmp_path / "one"):
        assert main([*arguments, "--batch-size", "8"]) == 0

    fine_tunes = start == "--model"
    assert two.stdout.count("fine-tuned: best validation accuracy") == 1, "both processes print"
    files = [{str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*")} for name in ("one", "two")]
    assert files[0] == files[1], "files of one process only"
    assert not [name for name in files[1] if "rng_state" in name or "optimizer" in name]
    expected = files[0]
    folder = next(name for name in expected if re.search(r"out/phi-0.1[^/]*$", name))
    for name in ("out/finetuned", folder) if fine_tunes else (folder,):
        one, other = (load_file(tmp_path / run / name / "model.safetensors") for run in ("one", "two"))
        for key, tensor in one.items():
            if key.endswith(("key.bias", "score.bias")):
                continue  # a softmax does not depend on them: their gradient is rounding noise, which Adam makes large
            torch.testing.assert_close(other[key], tensor, atol=2e-4, rtol=1e-3, msg=lambda m, n=key: f"{n}: {m}")
        records = [json.loads((tmp_path / run / name / "run.json").read_text()) for run in ("one", "two")]
        for a, b in zip(records[0]["epochs"], records[1]["epochs"], strict=True):
            assert a["loss"] == pytest.approx(b["loss"], abs=1e-4) and a["step"] == b["step"]
            assert {k: v for k, v in a.items() if k in ("accuracy", "lengths")} == {
                k: v for k, v in b.items() if k in ("accuracy", "lengths")
            }
    for split in ("validation", "test"):
        one, other = (
            json.loads((tmp_path / run / folder / f"evaluation-{split}.json").read_text()) for run in ("one", "two")
        )
        # The weights are equal to rounding, see above, so their checksums are not.
        assert one.pop("model_checksum") and other.pop("model_checksum")
        assert one == other


def test_other_commands_are_done_by_one_process(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", "--model", str(run_folder / "phi-0.1-post-hoc"), "a good film"]
    printed = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert main(arguments) == 0
        printed.append(len(capsys.readouterr().out.splitlines()))
    assert printed == [1, 0]
