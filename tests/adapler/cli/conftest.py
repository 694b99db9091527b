"""Fixtures of the command line's tests: a model to predict with, and commands that must fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapler.cli import main
from tests.adapler.cli.refusals import Refuse
from tests.conftest import run_command


@pytest.fixture
def model(run_folder: Path) -> Path:
    return run_folder / "phi-0.1-post-hoc"


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
