"""Fixtures of the command line's tests: a model to predict with, and commands that must fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapler.cli import main
from adapler.errors import run_command
from tests.adapler.cli.predicting import EVERYTHING, Predict
from tests.adapler.cli.refusals import Refuse


@pytest.fixture
def model(run_folder: Path) -> Path:
    return run_folder / "phi-0.1-post-hoc"


@pytest.fixture
def rows_of(model: Path, tmp_path: Path) -> Predict:
    """Writes a file, classifies it, and returns the rows of the output."""

    def call(name: str, content: str | bytes | None, *options: str | Path) -> list[dict[str, Any]]:
        path, out = tmp_path / name, tmp_path / "out.jsonl"
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        arguments = ["--input", str(path), "--output", str(out), *EVERYTHING, *map(str, options)]
        assert main(["predict", "--model", str(model), *arguments]) == 0
        return [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n") if line]

    return call


@pytest.fixture
def refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of a command that must fail, and leave no output."""

    def call(*arguments: str | Path) -> str:
        capsys.readouterr()
        before = sorted(tmp_path.rglob("*"))
        assert run_command(main, ["predict", "--model", str(model), *map(str, arguments)]) == 2
        errors = [
            line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "%|" not in line and line
        ]
        assert len(errors) == 1 and errors[0].startswith("error: "), errors
        assert sorted(tmp_path.rglob("*")) == before
        return errors[0]

    return call


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Runs a command that must fail; returns its one line. `{out}` stands for a path that must not come to exist."""

    def run(*arguments: str | Path) -> str:
        out = tmp_path / "out"
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert run_command(main, [str(argument).replace("{out}", str(out)) for argument in arguments]) == 2
        written = capsys.readouterr().err.replace("\r", "\n").splitlines()
        errors = [line for line in written if line.startswith("error: ")]
        others = [line for line in written if line.strip() and line not in errors and "%|" not in line]
        assert len(errors) == 1 and others == [], f"more than one line: {written}"
        assert sorted(tmp_path.rglob("*")) == before, "something was left behind"
        return errors[0]

    return run
