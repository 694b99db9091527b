"""Settings that somebody gives though the command would not read them, those with the default value too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapler.cli.options import chosen
from adapler.cli.parser import build_parser
from adapler.errors import ArgumentError, DataError


def settings_of(words: str) -> object:
    return chosen(build_parser().parse_args(words.split()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run --model m --policy ltp --saliency-epochs 3", "--saliency-epochs: only with --policy adapler"),
        ("run --model m --policy ltp --gamma 0.02", "--gamma: only with --policy adapler"),
        ("run --model m --policy ltp --target-layer embeddings", "--target-layer: only with --policy adapler"),
        ("run --model m --student-cosine 0", "--student-cosine: not of --policy adapler"),
        ("run --classifier c --saliency-epochs 3", "--saliency-epochs: not with --classifier"),
        ("saliency --model m --epochs 3", "--epochs: of the fine-tuning in --finetuned"),
    ],
)
def test_a_default_that_is_typed_out_is_refused_where_nothing_reads_it(words: str, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        settings_of(f"{words} --task t --output o")
    assert str(caught.value).startswith(message)


def test_a_default_takes_back_what_a_recipe_gives(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("command: run\ntask: t\nmodel: m\noutput: o\npolicy: ltp\nsaliency_epochs: 2\n", encoding="utf-8")
    settings_of(f"run --config {path} --saliency-epochs 3")
    for words in ("", "--policy power"):
        with pytest.raises(ArgumentError, match="^--saliency-epochs: only with --policy adapler$"):
            settings_of(f"run --config {path} {words}")


def test_a_policy_that_there_is_not_is_told_all_that_there_are() -> None:
    every = "adapler, cls_topk, distilbert, ltp, power, random_topk, transkimmer, trbert"
    with pytest.raises(ArgumentError, match=f"^--policy: 'nope' is not one of {every}; ADAPLER_PLUGINS"):
        settings_of("run --model m --task t --output o --policy nope")


@pytest.mark.parametrize("command", ["run", "train", "policy"])
def test_a_record_is_no_recipe(command: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"command": command, "settings": {}, "versions": {}, "arguments": []}), encoding="utf-8")
    with pytest.raises(
        DataError, match="run.json: the record of what a command did, not a recipe; its `arguments` say"
    ):
        settings_of(f"run --config {path}")


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_what_was_measured_is_no_recipe(command: str, tmp_path: Path) -> None:
    """evaluation-test.json and calibration.json, which lie beside run.json."""
    path = tmp_path / "evaluation-test.json"
    path.write_text(json.dumps({"metric": "accuracy", "task": "tiny", "data_checksum": "a"}), encoding="utf-8")
    with pytest.raises(DataError, match="evaluation-test.json: the record of what a command did, not a recipe$"):
        settings_of(f"{command} --config {path}")


def test_null_in_a_recipe_is_the_default_of_what_has_none(tmp_path: Path) -> None:
    def read(command: str, *lines: str) -> object:
        path = tmp_path / "recipe.yaml"
        path.write_text("\n".join([f"command: {command}", "task: movies", "model: m", *lines, ""]), encoding="utf-8")
        return settings_of(f"{command} --config {path}")

    nulls = ["policy_epochs: null", "policy_weight: null", "max_steps: null"]
    assert read("run", "output: o", "policy: ltp", *nulls) == read("run", "output: o", "policy: ltp")
    with pytest.raises(ArgumentError, match="^--target-speedup: only with --policy adapler$"):  # it is given
        read("run", "output: o", "policy: ltp", "target_speedup: null")
    assert read("run", "output: o", "target_speedup: null") == read("run", "output: o")
    assert read("evaluate", "threshold_scale: null", "speedup: null") == read("evaluate")
    with pytest.raises(DataError, match=r"recipe.yaml:4: threshold_scale is None, allowed: a number$"):
        read("evaluate", "threshold_scale: [1, null]")
