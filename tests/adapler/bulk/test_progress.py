"""The line on the terminal while `adapler predict` works."""

from __future__ import annotations

import pytest

from adapler.bulk import progress
from adapler.bulk.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time; a test sets its only element."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_speed_and_time_left_are_of_this_run(clock: list[float]) -> None:
    """A run that goes on with a quarter of the input done takes no credit for it."""
    one = Progress(quiet=True)
    clock[0] = 5.0  # the model was loaded
    one.restart_clock()
    one.add(rows=250, bad=0, tokens=9000, share_read=0.25, own=False)
    clock[0] = 15.0
    one.add(rows=250, bad=2, tokens=1000, share_read=0.5, own=True)
    assert one.speed() == "25 rows/s, 100 tokens/s"
    assert one._line(0.5) == "500 rows, 25 rows/s, 100 tokens/s, 50 %, 0:20 left, 2 without a prediction"
    assert one._line(None) == "500 rows, 25 rows/s, 100 tokens/s, 2 without a prediction"
    clock[0] = 5.0 + 3600
    assert one._line(0.5).endswith("50 %, 2:00:00 left, 2 without a prediction")
    one.close()


def test_it_is_shown_on_a_terminal_only(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for terminal, quiet, shown in ((True, False, True), (True, True, False), (False, False, False)):
        monkeypatch.setattr(progress.sys.stderr, "isatty", lambda terminal=terminal: terminal)
        one = Progress(quiet=quiet)
        clock[0] += 100.0
        one.add(rows=3, bad=0, tokens=30, share_read=None, own=True)
        one.close()
        assert ("3 rows" in capsys.readouterr().err) is shown
