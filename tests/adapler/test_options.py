"""A dataclass as command line, recipe and record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from adapler.errors import ArgumentError, DataError
from adapler.options import Checked, from_record, option, parse, record


@dataclass
class Speed(Checked):
    """Speed of the model."""

    scale: float = option("factor of the thresholds", default=1.0, basic=True, low=0, below=10)
    budgets: list[float] = option("speedups to reach", default_factory=list, above=1)


@dataclass
class Options:
    """Label the rows of a file."""

    model: str = option("folder of the model", basic=True)
    output: Path | None = option("file to write", default=None, basic=True)
    removal: Literal["hard", "none"] = option("how tokens go, 100 % of the time", default="hard")
    columns: list[str] = option("columns to write", default_factory=lambda: ["label"], choices=["label", "score"])
    packed: bool = option("without padding", default=True)
    strict: bool = option("stop at the first bad row", default=False)
    limit: int | None = option("rows to read", default=None)
    speed: Speed = field(default_factory=Speed)


PRESETS = {"ours": {}, "paper": {"removal": "none", "scale": 0.5}}


def parsed(*words: str) -> Options:
    return parse(Options, list(words), prog="adapler label", presets=PRESETS)


def test_types_and_defaults() -> None:
    options = parsed("--model", "m", "--output", "o.csv", "--columns", "score", "label", "--budgets", "2", "4")
    assert options.output == Path("o.csv") and options.columns == ["score", "label"]
    assert options.speed == Speed(scale=1.0, budgets=[2.0, 4.0]) and options.packed and options.limit is None
    assert not parsed("--model", "m", "--no-packed").packed and parsed("--model", "m", "--strict").strict


def test_the_command_line_wins_over_recipe_over_preset(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("command: label\nmodel: m\npreset: paper\nscale: 1e-2\nlimit: 7\npacked: false\n")
    options = parsed("--config", str(recipe), "--limit", "9")
    assert (options.removal, options.speed.scale, options.limit, options.packed) == ("none", 0.01, 9, False)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("command: train\n", "recipe of 'train'"),
        ("scales: 2\n", "'scales' is no option"),
        ("- 1\n", "mapping"),
        ("a: [", "recipe"),
    ],
)
def test_recipes_that_cannot_be_meant(tmp_path: Path, text: str, error: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(DataError, match=error):
        parsed("--config", str(recipe), "--model", "m")


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: m\nlimit: many\n")
    for words in ([], ["--model", "m", "--removal", "soft"], ["--config", str(recipe)], ["--modle", "m"]):
        with pytest.raises(SystemExit) as stop:
            parsed(*words)
        assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    with pytest.raises(ArgumentError, match="^--scale: -1.0 is not at least 0 and below 10$"):
        parsed("--model", "m", "--scale", "-1")
    with pytest.raises(ArgumentError, match="^--budgets: 1.0 is not above 1$"):
        parsed("--model", "m", "--budgets", "4", "1")


def test_help_shows_the_basic_options_only(capsys: pytest.CaptureFixture[str]) -> None:
    for words, shows in (["--help"], False), (["--help-all"], True):
        with pytest.raises(SystemExit) as stop:
            parsed(*words)
        text = capsys.readouterr().out
        assert stop.value.code == 0 and "--scale SCALE" in text and ("--removal" in text) is shows


def test_a_record_gives_the_options_back() -> None:
    options = parsed("--model", "m", "--output", "o.csv", "--scale", "2")
    values = record(options)
    assert values["scale"] == 2.0 and values["output"] == "o.csv" and from_record(Options, values) == options
