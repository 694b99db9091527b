"""One job in several processes (`torchrun`, `accelerate launch`): who writes, and waiting for it."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState


def device() -> torch.device:
    """Where a command's model runs: the GPU where there is one, as in training; the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_main() -> bool:
    """Whether this process is the one that prints and writes; the only one there is, without a launcher."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_everyone() -> None:
    """Returns when every process is here; at once, without a launcher."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
