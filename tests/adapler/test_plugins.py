"""Modules of one's own that a command imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapler import contribution
from adapler.cli import main as cli_main
from adapler.contribution import predictor_class
from adapler.errors import ArgumentError
from adapler.options import load_plugins
from analysis.rationale_eval import main as evaluation_main
from tests.conftest import run_command

OWN = '''
from adapler.contribution import ContributionPredictor, predictor
from analysis.scores.base import IN_LAYER, scoring_method

@predictor("mine")
class Mine(ContributionPredictor):
    """The paper's by another name."""
'''


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = dict(contribution.PREDICTORS.classes)
    load_plugins.cache_clear()
    yield
    contribution.PREDICTORS.classes.clear()
    contribution.PREDICTORS.classes.update(known)
    monkeypatch.undo()
    load_plugins.cache_clear()


def test_a_named_module_is_imported_when_a_name_is_not_known(
    anew: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_predictor.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ArgumentError, match="^predictor: 'mine' is not one of .*ADAPLER_PLUGINS names"):
        predictor_class("mine")
    load_plugins.cache_clear()
    monkeypatch.setenv("ADAPLER_PLUGINS", " my_own_predictor ,")
    assert predictor_class("mine").__name__ == "Mine"


def test_a_module_that_is_not_there_or_broken(anew: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_module.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("ADAPLER_PLUGINS", "no_such_module_of_mine")
    with pytest.raises(ArgumentError, match=r"^ADAPLER_PLUGINS: 'no_such_module_of_mine' cannot be imported"):
        predictor_class("mine")
    monkeypatch.setenv("ADAPLER_PLUGINS", "my_broken_module")
    with pytest.raises(ArgumentError, match=r"^ADAPLER_PLUGINS: 'my_broken_module' cannot be imported \(division by"):
        predictor_class("mine")


def test_a_command_tells_of_a_module_that_is_not_there_before_it_begins(
    anew: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADAPLER_PLUGINS", "no_such_module_of_mine")
    for main, words in ((cli_main, ["data", "show", "nowhere"]), (evaluation_main, ["--data", "nowhere"])):
        assert run_command(main, words) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ADAPLER_PLUGINS: 'no_such_module_of_mine' cannot") and line.count("\n") == 1


@pytest.mark.slow
def test_the_command_knows_it(tmp_path: Path) -> None:
    (tmp_path / "my_own_predictor.py").write_text(OWN, encoding="utf-8")
    words = [sys.executable, "-m", "adapler", "train", "--task", "nothing", "--model", "nothing"]
    words += ["--targets", "nothing", "--output", str(tmp_path / "out"), "--predictor", "mine"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    for plugins, message in (("my_own_predictor", "nothing"), ("", "predictor: 'mine' is not one of")):
        done = subprocess.run(
            words,
            env={**os.environ, "PYTHONPATH": path, "ADAPLER_PLUGINS": plugins},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode and message in done.stderr.splitlines()[-1], done.stderr
