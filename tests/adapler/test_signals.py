"""SIGTERM where Python swallows what a handler raises."""

from __future__ import annotations

import os
import signal
import sys
import time
import weakref
from collections.abc import Sequence

import pytest

from adapler.errors import run_command


class _Thing:
    pass


def test_a_signal_in_a_destructor_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that is raised in the callback of a weak reference is printed and forgotten."""
    before = sys.unraisablehook

    def main(_: Sequence[str] | None) -> int:
        def gone(_: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)  # the handler runs in here

        thing = _Thing()
        reference = weakref.ref(thing, gone)
        del thing
        assert reference() is None
        time.sleep(10)
        return 0

    assert run_command(main) == 143
    assert capsys.readouterr().err == "terminated\n"
    assert sys.unraisablehook is before
