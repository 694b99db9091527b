"""Errors that a user's input can cause; anything else that is raised is a bug.

AdapLeRError
|-- DataError(ValueError)          files, lines, labels, evidences
|-- ArgumentError(ValueError)      an argument or an option
|-- CheckpointError(ValueError)    a model or tokenizer folder
|-- TrainingError(RuntimeError)    training that cannot go on (a loss that is not a number)
`-- WorkerError(RuntimeError)      a process or a cluster that should do a part of the work has ended

Every message is one line: the file, line or argument, what was found, what is allowed.
"""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, NoReturn

__all__ = [
    "AdapLeRError",
    "ArgumentError",
    "CheckpointError",
    "CommandParser",
    "DataError",
    "TrainingError",
    "WorkerError",
    "ambiguous",
    "counted",
    "is_number",
    "run_command",
]

# System errors that say something about the user's disk, not about this program.
_DISK_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG}
)


class AdapLeRError(Exception):
    """Root of every error that a user's input can cause."""


class DataError(AdapLeRError, ValueError):
    """A data file, line, label or evidence that cannot be used."""


class ArgumentError(AdapLeRError, ValueError):
    """An argument or an option outside what is allowed."""


class CheckpointError(AdapLeRError, ValueError):
    """A model or tokenizer folder that cannot be loaded."""


class TrainingError(AdapLeRError, RuntimeError):
    """Training that cannot go on."""


class WorkerError(AdapLeRError, RuntimeError):
    """A process or a cluster that should do a part of the work has ended."""


class CommandParser(argparse.ArgumentParser):
    """argparse, whose errors are one line like all others, without the list of all options that argparse prints."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        self.exit(2, f"error: {' '.join(message.split())}; {self.prog} --help lists what there is\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Ends the process for an option that there is not: a sub-command names itself, not the command above it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Whether an argument is a finite number, or a whole one; True and False are none."""
    if isinstance(value, bool):
        return False
    try:
        return isinstance(value, Integral) if whole else isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float can hold
        return False


def counted(number: int, noun: str) -> str:
    """How many there are, in the words of a message; the plural is in s.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def check_drop(name: str, value: Any) -> None:
    """Raises ArgumentError for a drop of a score that is no number from 0 to 1; 5, for five points, allows any loss."""
    if not (is_number(value) and 0 <= value <= 1):
        raise ArgumentError(f"{name}: {value!r} is not a number from 0 to 1 (a drop of one point is 0.01)")


def ambiguous(label: object, names: Mapping[int, str]) -> str | None:
    """Why it cannot be known which label a number means; None where it can, and for what is no number.

    >>> ambiguous(1, {0: "1", 1: "2"})
    "1 is ambiguous: index 1 is '2', and there is a label called '1'; write it as text"
    """
    if not isinstance(label, Integral) or isinstance(label, bool):
        return None
    number = int(label)
    if not any(name == str(number) and index != number for index, name in names.items()):
        return None
    means = f"index {number} is {names[number]!r}, and" if number in names else "there is no such index, but"
    return f"{number} is ambiguous: {means} there is a label called {str(number)!r}; write it as text"


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what ends other processes or removes half-written files after Ctrl-C does so after `kill`, too."""


@contextmanager
def _terminating() -> Iterator[None]:
    """Within it the first SIGTERM raises _Terminated and a second one ends the process at once."""

    def terminate(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return

    def lost(unraisable: Any) -> None:
        """Python drops what is raised in a destructor or a weak reference's callback: the signal comes once more."""
        if not isinstance(unraisable.exc_value, _Terminated):
            told(unraisable)
            return
        signal.signal(signal.SIGTERM, terminate)
        again.append(threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)))  # when the callback has ended
        again[-1].daemon = True
        again[-1].start()

    again: list[threading.Timer] = []
    before, told = signal.signal(signal.SIGTERM, terminate), sys.unraisablehook
    sys.unraisablehook = lost
    try:
        yield
    finally:
        for one in again:  # what has ended by itself is not to be killed afterwards
            one.cancel()
        sys.unraisablehook = told
        signal.signal(signal.SIGTERM, before)


def run_command(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command's `main` and turns a user's error into one line on stderr.

    Returns `main`'s own exit code, 2 after an error, 130 after Ctrl-C, 143 after SIGTERM (`kill`) and 141 when the
    reader of stdout left (`adapler data show ... | head`).
    """
    if sys.platform == "win32":  # where what is piped would be in the code page, which has no letter of most languages
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8")
    try:
        with _terminating():
            return main(argv)
    except AdapLeRError as error:
        return _report(str(error))
    except _Terminated:
        print("terminated", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; without this it prints a second traceback there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = "" if error.filename is None else f"{shortened(error.filename)}: "
        return _report(f"{where}{error.strerror}")


def shortened(path: object) -> str:
    """The path, or of a very long one what fits a line."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-40:]}"


def _report(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
