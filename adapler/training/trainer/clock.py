"""How long a training took, whatever stopped it in between."""

from __future__ import annotations

import json
import time
from pathlib import Path

CLOCK = "seconds.json"  # in a checkpoint


class Clock:
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

    def save(self, folder: Path) -> None:
        """Write the seconds so far into a checkpoint."""
        (folder / CLOCK).write_text(json.dumps({"seconds": time.time() - self.started}), encoding="utf-8")


def _seconds(checkpoint: Path) -> float:
    try:
        return float(json.loads((checkpoint / CLOCK).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
