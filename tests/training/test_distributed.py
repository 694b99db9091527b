"""Two processes give the gradients that one process gives for the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]


def gradients(folder: Path, tokenizer: Path, *, processes: int) -> dict[str, torch.Tensor]:
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    command += ["-m", "tests.training.ddp_worker", str(folder), str(tokenizer), str(8 // processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
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
