"""One job in several processes (`torchrun`, `accelerate launch`): who writes, and waiting for it."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import PartialState

# One process may compute saliency for hours while the others wait; NCCL alone would give up after ten minutes.
LONGEST_WAIT = timedelta(days=7)


def device() -> torch.device:
    """Where a command's model runs: this process's own GPU where there is one, as in training; the CPU otherwise."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def is_main() -> bool:
    """Whether this process is the one that prints and writes; the only one there is, without a launcher."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_everyone() -> None:
    """Returns when every process is here; at once, without a launcher."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Used only when this call opens the group; a group that training opened has training's time limit.
        PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT).wait_for_everyone()
