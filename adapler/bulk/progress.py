"""One line on the terminal while a long run works, and its totals at the end."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """Counts rows and tokens, and shows them.

    Attributes:
        rows, bad, tokens: of all shards that are done.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.rows = self.bad = self.tokens = 0
        self._begin = time.perf_counter()
        self._own_rows = self._own_tokens = 0  # of this run; what an earlier one did took none of its time
        self._share_before: float | None = None
        hidden = quiet or not sys.stderr.isatty()
        self._bar = tqdm(disable=hidden, bar_format="{desc}", file=sys.stderr, leave=False)

    def restart_clock(self) -> None:
        """Leaves out the time until now: the model was loaded."""
        self._begin = time.perf_counter()

    def add(self, *, rows: int, bad: int, tokens: int, share_read: float | None, own: bool) -> None:
        """Counts a shard; `own` is False for one that an earlier run did."""
        self.rows, self.bad, self.tokens = self.rows + rows, self.bad + bad, self.tokens + tokens
        if not own:
            self._share_before = share_read
            return
        self._own_rows, self._own_tokens = self._own_rows + rows, self._own_tokens + tokens
        if not self._bar.disable:
            self._bar.set_description_str(self._line(share_read))

    def close(self) -> None:
        """Takes the line off the terminal."""
        self._bar.close()

    def speed(self) -> str:
        """Rows and tokens a second in this run."""
        seconds = max(time.perf_counter() - self._begin, 1e-6)
        return f"{self._own_rows / seconds:,.0f} rows/s, {self._own_tokens / seconds:,.0f} tokens/s"

    def seconds(self) -> float:
        """Seconds since the model was loaded."""
        return time.perf_counter() - self._begin

    def _line(self, share: float | None) -> str:
        parts = [f"{self.rows:,} rows", self.speed()]
        before = self._share_before or 0.0
        if share is not None and share > before:
            left = self.seconds() * (1 - share) / (share - before)
            parts += [f"{100 * share:.0f} %", f"{_clock(left)} left"]
        if self.bad:
            parts.append(f"{self.bad:,} without a prediction")
        return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
