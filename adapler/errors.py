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

from typing import TYPE_CHECKING

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


def excerpt(value: object, most: int = 40) -> str:
    """The first `most` characters of a value's repr, for an error message; "nothing" for None."""
    return "nothing" if value is None else repr(value)[:most]


def validation_reason(error: ValidationError) -> str:
    """The first of pydantic's complaints on one line: field, reason, value."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, found {excerpt(first['input'])}"
