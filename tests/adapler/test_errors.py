"""Errors of users, and commands that end with one line."""

from __future__ import annotations

import os

import pytest

from adapler.errors import ArgumentError, CheckpointError, DataError, TrainingError
from adapler.options import CommandParser
from tests.conftest import run_command


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("corpus/docs/a: missing"), "error: corpus/docs/a: missing\n"),
        (ArgumentError("several\nlines"), "error: several lines\n"),
        (CheckpointError("x"), "error: x\n"),
        (TrainingError("loss is NaN"), "error: loss is NaN\n"),
        (PermissionError(13, "Permission denied", "out.csv"), "error: [Errno 13] Permission denied: 'out.csv'\n"),
    ],
)
def test_a_users_error_is_one_line(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise error

    assert run_command(main) == 2 and capsys.readouterr().err == line


def test_bugs_pass_through_and_interrupts_do_not() -> None:
    def main() -> int:
        raise kind

    kind: BaseException = KeyError("bug")
    with pytest.raises(KeyError):
        run_command(main)
    kind = KeyboardInterrupt()
    assert run_command(main) == 130
    assert run_command(lambda argv: len(argv or ()), ["a", "b", "c"]) == 3


def test_a_reader_that_left_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> int:
        raise BrokenPipeError

    calls: list[int] = []
    monkeypatch.setattr(os, "dup2", lambda old, new: calls.append(new))
    assert run_command(main) == 141 and len(calls) == 1


def test_an_unknown_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        CommandParser(prog="adapler").parse_args(["--nothing"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --nothing; see adapler --help\n"
