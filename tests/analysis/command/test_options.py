"""Options, keywords, recipe keys and fields are one and the same set."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from adapler.errors import ArgumentError, DataError
from analysis import rationale_eval
from analysis.command.options import Inputs, build_parser, field_texts, parse, read_recipe
from analysis.evaluation.protocols import PROTOCOLS
from analysis.evaluation.settings import Settings
from analysis.scores import get_method

ROOT = Path(__file__).parents[3]

SETTINGS = {one.name for one in fields(Settings)}
INPUTS = {one.name for one in fields(Inputs)}


def test_every_setting_is_declared_once() -> None:
    options = {action.dest for action in build_parser()._actions} - {"help", "config"}
    assert options == SETTINGS | INPUTS
    keywords = set(inspect.signature(rationale_eval.evaluate).parameters)
    assert keywords == SETTINGS | INPUTS - {"output", "no_cache", "no_figures"} | {
        "tokenizer",
        "settings",
        "progress",
        "command",
        "begin",
    }
    for name in SETTINGS:
        assert f"\n    {name}: " in str(rationale_eval.evaluate.__doc__)


def test_every_field_has_a_text_and_every_option_a_help() -> None:
    for cls in (Settings, Inputs):
        assert field_texts(cls).keys() == {one.name for one in fields(cls)}
        assert all(len(text) > 10 for text in field_texts(cls).values())
    assert all(action.help for action in build_parser()._actions)


def test_defaults_without_any_option() -> None:
    assert parse([]) == (Inputs(), Settings())
    assert Settings() == Settings.of("paper")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_fills_in_what_is_not_given(name: str) -> None:
    preset = PROTOCOLS[name]
    for settings in (Settings(protocol=name), Settings.of(name), Settings().with_options(protocol=name)):
        assert (settings.policy, settings.aggregation) == (preset.policy, preset.aggregation)
        assert (settings.metrics, settings.faithfulness) == (preset.metrics, preset.faithfulness)
    other = parse(["--protocol", name, "--policy", "rationale-windows", "--faithfulness-variant", "mask"])[1]
    assert (other.policy, other.metrics) == ("rationale-windows", preset.metrics)
    assert other.faithfulness.variant == "mask" and other.faithfulness.bins == preset.faithfulness.bins


def test_options_become_fields() -> None:
    argv = ["--methods", "cp", "lime(n_samples=9)", "--queries", "no", "--limit", "3", "--threshold-scale", "1.5"]
    inputs, settings = parse([*argv, "--aggregate", "max", "--predictions", "a.jsonl", "--no-cache"])
    assert settings == Settings(
        methods=("cp", "lime(n_samples=9)"), queries=False, limit=3, threshold_scale=1.5, aggregation="max"
    )
    assert inputs == Inputs(predictions=("a.jsonl",), no_cache=True)
    assert parse(["--methods"])[1].methods == ()


def test_a_recipe_is_overridden_by_the_command_line(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: films\nprotocol: eraser\nmethods: [cp, random]\nqueries: auto\nseed: 3\nlimit: 5\n")
    inputs, settings = parse(["--config", str(recipe), "--seed", "7", "--methods", "cp"])
    assert inputs.data == "films" and settings.methods == ("cp",)
    assert (settings.seed, settings.limit, settings.queries, settings.policy) == (7, 5, None, "all-windows")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nmethod: cp\n", r"recipe.yaml:2: 'method' is no option, there are adapler, model, data"),
        ("seed: one\n", "recipe.yaml:1: seed: got 'one', must be a whole number"),
        ("seed: true\n", "recipe.yaml:1: seed: got True, must be a whole number"),
        ("\nmetrics: auprc\n", "recipe.yaml:2: metrics: got 'auprc', must be a list of texts"),
        ("seed: 1\nseed: 2\n", "recipe.yaml:2: seed comes twice"),
        ("queries: maybe\n", "recipe.yaml:1: queries: got 'maybe', must be true or false"),
        ("[1, 2]\n", "recipe.yaml: a mapping of settings to values is expected"),
        ("", "recipe.yaml: a mapping of settings to values is expected"),
        ("a: [\n", "recipe.yaml:2: not YAML"),
        ("seed: !!python/object:os.system {}\n", r"recipe.yaml:1: not YAML \(could not determine a constructor"),
        ("seed: 1\nlimit: 2024-13-01\n", r"recipe.yaml:2: not YAML \(month must be in 1..12"),
        ("[a, b]: 3\n", r"recipe.yaml:1: \"\['a', 'b'\]\" is no option, there are adapler, model, data"),
        ("{[a]: 1}: 3\n", r"recipe.yaml:1: not YAML \(found unhashable key"),
        ("limit: !!int foo\n", r"recipe.yaml:1: not YAML \(invalid literal for int\(\)"),
        ("limit: !!int ''\n", r"recipe.yaml:1: not YAML \(string index out of range"),
        ("limit: !!bool foo\n", r"recipe.yaml:1: not YAML \('foo'"),
        ("limit: !!timestamp foo\n", r"recipe.yaml:1: not YAML \("),
    ],
)
def test_a_recipe_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_recipe(path)
    with pytest.raises(DataError, match="none.yaml: no such recipe"):
        read_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": ["cp"]}, "method: no such option, there are split, limit, methods"),
        ({"limit": "3"}, "limit: got '3', must be a whole number"),
        ({"seed": True}, "seed: got True, must be a whole number"),
        ({"metrics": 3}, "metrics: got 3, must be a list of texts"),
        ({"device": "abacus"}, "device: 'abacus' cannot be used here"),
        ({"settings": {"limit": 3}}, "settings: got a dict, must be Settings"),
        ({"predictions": 5}, "predictions: got a int, must be a path, a dict"),
    ],
)
def test_keywords_that_are_wrong(corpus_folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        rationale_eval.evaluate(data=corpus_folder, progress=False, **options)


def test_one_name_is_a_list_of_one() -> None:
    assert Settings.of(metrics="auprc", methods="saliency") == Settings.of(metrics=["auprc"], methods=["saliency"])


def test_numbers_of_numpy_are_numbers() -> None:
    settings = Settings.of(limit=np.int64(3), threshold_scale=np.float32(0.5), faithfulness_layers=[np.int64(0), 1])
    found = (settings.limit, settings.threshold_scale, *settings.faithfulness_layers)
    assert found == (3, 0.5, 0, 1) and {type(one) for one in found} == {int, float}


def test_data_that_is_none() -> None:
    with pytest.raises(ArgumentError, match="^data: got a int, must be a corpus, a folder or a file$"):
        rationale_eval.evaluate(data=5)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "rationales").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_repository(path: Path) -> None:
    inputs, settings = parse(["--config", str(path)])
    assert inputs.output is not None and inputs.output.startswith("reports/")
    said = f"in {settings.dtype}, unlike the others" in path.read_text(encoding="utf-8").lower()
    assert settings.dtype == "float32" or said, "published numbers are float32; an exception says so"
    assert [get_method(one).name for one in settings.methods or ()][-2:] == ["cp", "random"]
    command = f"# python -m analysis.rationale_eval --config {path.relative_to(ROOT)}"
    assert command in path.read_text(encoding="utf-8").splitlines()


def test_absolute_paths_stay_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--data", str(tmp_path / "films"), f"--human={tmp_path / 'deep' / 'h.jsonl'}", "--adapler", "/secret/m"]
    assert rationale_eval.public_command([*argv, "--methods", "lime(n=1)"]) == (
        "python -m analysis.rationale_eval --data films --human=deep/h.jsonl --adapler m --methods 'lime(n=1)'"
    )
