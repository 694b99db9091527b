"""How long a training took, whatever stopped it in between."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from adapler.distributed import is_main

CLOCK = "seconds.json"  # in a checkpoint


class Clock(TrainerCallback):  # type: ignore[misc]
    """Keeps the seconds of a training in its checkpoints. What was lost in a stop is not counted, what is redone is.

    Attributes:
        started: when the training would have started without a stop; for `record_of`.
    """

    def __init__(self, *, started: float, checkpoint: str | None) -> None:
        """
        Args:
            started: when this process started, as `time.time()` gives it.
            checkpoint: that training goes on from, or None. One of an older version does not say how long it took.
        """
        self.started = started - (0.0 if checkpoint is None else _seconds(Path(checkpoint)))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the seconds so far."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if is_main() and folder.is_dir():
            (folder / CLOCK).write_text(json.dumps({"seconds": time.time() - self.started}), encoding="utf-8")


def _seconds(checkpoint: Path) -> float:
    try:
        return float(json.loads((checkpoint / CLOCK).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
