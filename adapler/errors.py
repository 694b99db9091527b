"""Errors that a user's input can cause; anything else that is raised is a bug.

AdapLeRError
|-- DataError(ValueError)          files, lines, labels, evidences
|-- ArgumentError(ValueError)      an argument or an option
|-- CheckpointError(ValueError)    a model or tokenizer folder
|-- TrainingError(RuntimeError)    training that cannot go on (a loss that is not a number)
`-- WorkerError(RuntimeError)      a process or a cluster that should do a part of the work has ended

A message is one line: the file, line or argument, what was found, what is allowed.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pydantic import ValidationError


class AdapLeRError(Exception):
    """Root of every error that a user's input can cause."""


class DataError(AdapLeRError, ValueError):
    """A data file, line, label or evidence that cannot be used."""


class ArgumentError(AdapLeRError, ValueError):
    """An argument or an option outside its range."""


class CheckpointError(AdapLeRError, ValueError):
    """A model or tokenizer folder that cannot be loaded."""


class TrainingError(AdapLeRError, RuntimeError):
    """Training that cannot continue."""


class WorkerError(AdapLeRError, RuntimeError):
    """A worker process or a cluster ended before its work was done."""


class CommandParser(argparse.ArgumentParser):
    """argparse with errors of one line, which begin with `where`, and without the usage that lists every option."""

    where = ""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"error: {self.where}{' '.join(message.split())}; see {self.prog} --help\n")


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Whether a value is a finite number, or an integer; booleans are neither."""
    if isinstance(value, bool):
        return False
    try:
        return isinstance(value, Integral) if whole else isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # an integer beyond a float's range
        return False


def counted(count: int, noun: str) -> str:
    """A count and its noun, with a plural in s.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def excerpt(value: object, most: int = 40) -> str:
    """The first `most` characters of a value's repr, for an error message; "nothing" for None."""
    return "nothing" if value is None else repr(value)[:most]


def validation_reason(error: ValidationError) -> str:
    """The first of pydantic's complaints on one line: field, reason, value."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, found {excerpt(first['input'])}"


def check_drop(name: str, value: Any) -> None:
    """Raise ArgumentError for a score drop outside 0 to 1, such as 5 for five points, which would allow any loss."""
    if not (is_number(value) and 0 <= value <= 1):
        raise ArgumentError(f"{name}: {value!r} is not a number from 0 to 1 (a drop of one point is 0.01)")


def ambiguous(label: object, names: Mapping[int, str]) -> str | None:
    """Why an integer may mean two labels, as an index and as a name; None if it cannot, or is no integer.

    >>> ambiguous(1, {0: "1", 1: "2"})
    "1 is ambiguous: index 1 is '2', and there is a label called '1'; write it as text"
    """
    if not isinstance(label, Integral) or isinstance(label, bool):
        return None
    index = int(label)
    if not any(name == str(index) and other != index for other, name in names.items()):
        return None
    means = f"index {index} is {names[index]!r}, and" if index in names else "there is no such index, but"
    return f"{index} is ambiguous: {means} there is a label called {str(index)!r}; write it as text"


@contextmanager
def user_errors() -> Iterator[None]:
    """Print a user's error as one line on stderr and end the process: exit code 2, 130 after Ctrl-C, 141 if the reader
    of stdout left."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more at exit
        sys.exit(141)
    except (AdapLeRError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
