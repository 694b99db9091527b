"""Settings are declared once: options, recipes and Python calls all come from the same dataclasses."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from adapler.cli.options import chosen
from adapler.cli.parser import build_parser
from adapler.errors import AdapLeRError, ArgumentError, DataError
from adapler.training.recipes import field_docstrings, options_of, read_recipe, settings_from
from adapler.training.settings import Execution, Inference, Objectives, Settings, TaskSettings
from adapler.training.stages import settings as of_commands
from adapler.training.stages.settings import EvaluateSettings, FinetuneSettings, RunSettings, TrainSettings

ROOT = Path(__file__).parents[3]
NAMES = ("run", "finetune", "saliency", "train", "evaluate", "calibrate", "export", "card", "tradeoff")
COMMANDS = {name: getattr(of_commands, f"{name.capitalize()}Settings") for name in NAMES}
# What a command reads and writes is named alike and means something else in each.
INPUTS_AND_OUTPUTS = {"model", "finetuned", "saliency", "output", "runs", "split", "classifier"}
# Passes over the training set, best epochs to average; scales to evaluate, the one of an exported copy; what a
# selection allows, what is asked of a calibration.
TWO_MEANINGS = {"epochs", "threshold_scale", "max_drop"}
NO_DROP = "is not a number from 0 to 1 (a drop of one point is 0.01)"


def actions(command: str) -> list[argparse.Action]:
    parser = build_parser()
    choices = next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return [action for action in choices[command]._actions if action.dest not in ("help", "config")]


def names(cls: type) -> list[str]:
    """Field names, those of groups in their place."""
    found: list[str] = []
    for one in fields(cls):
        hint = get_type_hints(cls)[one.name]
        inner = hint if is_dataclass(hint) else next((arg for arg in get_args(hint) if is_dataclass(arg)), None)
        found += [one.name] if inner is None else [part.name for part in fields(inner)]
    return found


def settings_of(*words: str) -> Any:
    return chosen(build_parser().parse_args(list(words)))


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_the_fields_of_the_settings(command: str) -> None:
    found = actions(command)
    assert sorted(action.dest for action in found) == sorted(names(COMMANDS[command]))
    texts = {option.name: option.help for option in options_of(COMMANDS[command])}
    for action in found:
        assert action.default is argparse.SUPPRESS, f"{action.dest} has a default of its own"
        assert (action.help or "").startswith(texts[action.dest].replace("%", "%%")[:30])


def test_no_setting_is_declared_twice() -> None:
    public = [cls for cls in vars(of_commands).values() if isinstance(cls, type) and is_dataclass(cls)]
    classes = {base for cls in public for base in cls.__mro__ if is_dataclass(base)}  # what they share is in bases
    assert len(classes) > len(public)
    declared = Counter(
        name
        for cls in classes
        for name in cls.__dict__["__annotations__"]
        if not is_dataclass(get_type_hints(cls)[name])
    )
    twice = {name for name, number in declared.items() if number > 1} - {"objectives"}
    assert twice <= INPUTS_AND_OUTPUTS | TWO_MEANINGS
    for cls in classes:
        undocumented = set(cls.__dict__["__annotations__"]) - set(field_docstrings(cls))
        assert undocumented <= {"task", "targets", "settings", "objectives", "policies", "execution"}, cls


def test_options_become_settings() -> None:
    settings = settings_of(
        "run", "--task", "sst2", "--model", "m", "--output", "o", "--phi", "1e-3", "2e-3", "--epochs", "3",
        "--finetune-epochs", "2", "--freeze-backbone", "--train-documents", "last", "--device", "cpu",
    )  # fmt: skip
    assert settings == RunSettings(
        task=TaskSettings(task="sst2", train_documents="last"),
        model="m",
        output=Path("o"),
        finetune_epochs=2,
        settings=Settings(epochs=3, device="cpu"),
        objectives=(Objectives(phi=1e-3, freeze_backbone=True), Objectives(phi=2e-3, freeze_backbone=True)),
    )
    assert settings.finetuning() == Settings(epochs=2, device="cpu")
    by_steps = replace(settings, settings=Settings(max_steps=100))
    assert by_steps.finetuning() == Settings(epochs=2), "the epochs that are asked for are not replaced by the steps"
    assert replace(by_steps, finetune_epochs=None).finetuning() == Settings(max_steps=100)
    evaluate = settings_of("evaluate", "--model", "m", "--task", "sst2", "--threshold-scale", "0.5", "2")
    assert evaluate.threshold_scale == (0.5, 2) and evaluate.execution == Inference(dtype="auto", seed=42)
    given = settings_of("evaluate", "--model", "m", "--task", "sst2", "--seed", "7", "--dtype", "bfloat16")
    assert given.execution == Inference(dtype="bfloat16", seed=7)
    tradeoff = settings_of("tradeoff", "a", "b", "--output", "c.csv")
    assert tradeoff.runs == (Path("a"), Path("b"))


TRAINED = ["--task", "t", "--output", "o", "--model", "m"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "--model", "m", "--output", "o"], "--task: needed, and not given"),
        (["finetune", "--task", "t", "--output", "o"], "--model: needed, and not given"),
        (["run", "--task", "t", "--output", "o"], "--model or --classifier: one of them is needed, none is given"),
        (
            ["run", "--task", "t", "--output", "o", "--model", "m", "--classifier", "c"],
            "--model or --classifier: one of them is needed, --model and --classifier are given",
        ),
        (["tradeoff", "--output", "o"], "RUN: needed, and not given"),
        (["run", "--task", "t", "--output", "o", "--model", "m", "--phi", "1", "1"], "--phi: a value is given twice"),
        (["run", *TRAINED, "--phi", "0.0005000001", "0.0005000002"], "--phi: a value is given twice, to six digits"),
        (["run", *TRAINED, "--target-speedup", "2", "--max-drop", "0.5"], "--max-drop: has no effect with --target-s"),
        (["evaluate", "--task", "t", "--model", "m", "--token-budget", "0"], "--token-budget: 0 is not at least 1"),
        (["evaluate", "--task", "t", "--model", "m", "--threshold-scale", "-1"], "--threshold-scale: -1.0 is not a"),
        (["evaluate", "--task", "t", "--model", "m", "--max-drop", "0.1", "5"], f"--max-drop: 5.0 {NO_DROP}"),
        (["calibrate", "--task", "t", "--model", "m", "--most-drop", "15"], f"--most-drop: 15.0 {NO_DROP}"),
        (["predict", "--model", "m", "--max-drop", "5", "text"], f"--max-drop: 5.0 {NO_DROP}"),
        (["run", "--task", "t", "--model", "m", "--output", "o", "--max-drop", "5"], f"--max-drop: 5.0 {NO_DROP}"),
        (["evaluate", "--task", "t", "--model", "m", "--device", "gpu"], "--device: 'gpu' is not one of auto, cpu"),
        (["saliency", "--task", "t", "--model", "m", "--output", "o", "--seed", "-1"], "--seed: -1 is not between 0"),
    ],
)
def test_what_is_missing_or_wrong(words: list[str], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        settings_of(*words)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model m --policy ltp --phi 0.1", "--phi: only with --policy adapler"),
        ("--model m --policy ltp --routing local", "--routing: only with --policy adapler"),
        ("--model m --policy ltp --average-decay 0.9", "--average-decay: only with --policy adapler"),
        ("--model m --policy ltp --logit-distillation 1", "--logit-distillation: only with --policy adapler"),
        ("--model m --policy ltp --saliency-epochs 2", "--saliency-epochs: only with --policy adapler"),
        ("--model m --policy ltp --target-method decomposition", "--target-method: only with --policy adapler"),
        ("--classifier c --policy ltp --epochs 2", "--epochs: of fine-tuning, and --classifier is fine-tuned already"),
        ("--model m --finetune-epochs 2 --policy ltp --epochs 3", "--epochs: of fine-tuning, which --finetune-epochs"),
        ("--classifier c --policy ltp --policy-epochs 1 2 --max-steps 3", "--max-steps: of fine-tuning, and --class"),
        ("--model m --policy ltp --finetune-epochs 2 --policy-epochs 1 2 --max-steps 3", "--max-steps: of fine-tuning"),
        ("--classifier c --half", "--half: not with --classifier, which is fine-tuned already"),
        ("--classifier c --finetune-epochs 2", "--finetune-epochs: not with --classifier, which is fine-tuned already"),
        ("--classifier c --saliency-epochs 2", "--saliency-epochs: not with --classifier, which is fine-tuned already"),
        ("--classifier c --reinit-head yes", "--reinit-head: yes, but --classifier keeps its head"),
        ("--classifier c --start pretrained", "--start: pretrained, but --classifier starts from the fine-tuned"),
        ("--model m --start pretrained --freeze-backbone", "--start: pretrained, but --freeze-backbone starts from"),
    ],
)
def test_what_a_run_would_not_read_is_refused(words: str, message: str) -> None:
    run = ["run", "--task", "t", "--output", "o"]
    with pytest.raises(ArgumentError) as caught:
        settings_of(*run, *words.split())
    assert str(caught.value).startswith(message)
    settings_of(*run, "--model", "m", "--policy", "ltp", "--max-drop", "0.02", "--start", "pretrained")
    settings_of(*run, "--classifier", "c", "--start", "finetuned", "--reinit-head", "no")
    settings_of(*run, "--model", "m", "--policy", "ltp", "--policy-epochs", "1", "2", "--max-steps", "3")


def test_settings_check_themselves_in_python_too() -> None:
    with pytest.raises(ArgumentError, match="^--precision: 'float16' is not one of auto, float32, bfloat16$"):
        Execution(precision="float16")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="^--long-documents: 'middle' is not one of truncate, last, windows$"):
        TaskSettings(task="sst2", long_documents="middle")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="^--learning-rate: 0 is not a number above 0$"):
        Settings(learning_rate=0)


# Recipes

RECIPE = """# A comment
command: train
task: movies
finetuned: runs/finetuned
saliency: runs/saliency
output: runs/model
phi: 1e-3
max_slope: 50
freeze_backbone: true
reinit_head: no
"""


def recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_gives_what_the_command_line_leaves_out(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    settings = settings_of("train", "--config", str(path), "--output", "mine", "--no-freeze-backbone", "--epochs", "2")
    assert settings == TrainSettings(
        task=TaskSettings(task="movies"),
        finetuned=Path("runs/finetuned"),
        saliency=Path("runs/saliency"),
        output=Path("mine"),
        reinit_head="no",
        settings=Settings(epochs=2),
        objectives=Objectives(phi=1e-3, max_slope=50.0),
    )
    same = settings_from(TrainSettings, read_recipe(path, TrainSettings, command="train"))
    assert same.objectives.freeze_backbone and same.output == Path("runs/model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("phi: 1e-3", "fi: 1e-3"), r"recipe.yaml:7: 'fi' is no setting of `adapler train`, which takes resume, .*phi"),
        (("phi: 1e-3", "phi: high"), r"recipe.yaml:7: phi is 'high', allowed: a number$"),
        (("phi: 1e-3", "phi: [1e-3]"), r"recipe.yaml:7: phi is \['1e-3'\], allowed: a number$"),
        (("phi: 1e-3", f"phi: {10**400}"), r"recipe.yaml:7: phi is 10{79}, allowed: a number$"),
        (("phi: 1e-3", "epochs: 2.5"), r"recipe.yaml:7: epochs is 2.5, allowed: a whole number$"),
        (("phi: 1e-3", "epochs: true"), r"recipe.yaml:7: epochs is True, allowed: a whole number$"),
        (("true", "maybe"), r"recipe.yaml:9: freeze_backbone is 'maybe', allowed: true or false$"),
        (("reinit_head: no", "precision: half"), r"recipe.yaml:10: precision is 'half', allowed: auto, float32, bfl"),
        (("reinit_head: no", "phi: 2.0"), r"recipe.yaml:10: 'phi' is there twice$"),
        (("command: train", "command: run"), r"recipe.yaml:2: a recipe of `adapler run`, not of `adapler train`$"),
        (("command: train\n", ""), r"recipe.yaml: has no `command`, which says whose recipe it is: `command: train`$"),
        (("phi: 1e-3", "phi: ["), r"recipe.yaml:\d+: not YAML \("),
        (("phi: 1e-3", "phi: !!float ''"), r"recipe.yaml:7: not YAML \(string index out of range\)$"),
        (("phi: 1e-3", "phi: 2024-13-01"), r"recipe.yaml:7: not YAML \(month must be in 1..12"),
        (("task: movies", "task: !!python/object:os.system x"), r"recipe.yaml:3: not YAML \(could not determine"),
        ((RECIPE, "- 1\n"), r"recipe.yaml: a mapping of settings to values is expected$"),
        ((RECIPE, ""), r"recipe.yaml: a mapping of settings to values is expected$"),
        (("phi: 1e-3", "phi: -1"), r"--phi: -1.0 is not a number of at least 0$"),
    ],
)
def test_recipes_that_are_refused(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = recipe(tmp_path, RECIPE.replace(*change))
    with pytest.raises((DataError, ArgumentError), match=message) as caught:
        settings_of("train", "--config", str(path))
    assert "\n" not in str(caught.value)


def test_recipes_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.yaml: no such recipe$"):
        settings_of("train", "--config", str(tmp_path / "none.yaml"))
    with pytest.raises(DataError, match="cannot be read"):
        settings_of("train", "--config", str(tmp_path))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AdapLeRError, match="bytes.yaml"):
        settings_of("train", "--config", str(tmp_path / "bytes.yaml"))


def test_an_empty_list_is_refused_where_it_stands(tmp_path: Path) -> None:
    path = recipe(tmp_path, "command: run\ntask: movies\nmodel: m\noutput: o\npolicy: ltp\npolicy_weight: []\n")
    with pytest.raises(DataError, match=r"recipe.yaml:6: policy_weight is an empty list, allowed: one value or sev"):
        settings_of("run", "--config", str(path))


RECIPES = [p for p in sorted((ROOT / "configs").rglob("*.yaml")) if p.parent.name != "rationales"]  # the analysis' own


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_repository(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    command = content["command"]
    given = [] if content.keys() & {"model", "classifier", "finetuned"} else ["--model", "encoder"]
    settings = settings_of(command, "--config", str(path), *given)
    assert isinstance(settings, COMMANDS[command])
    shown = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# adapler ")]
    assert shown, "says no command"
    for line in shown:
        assert line.split()[2] == command and line.split()[4].rstrip("`") == str(path.relative_to(ROOT))
    if command != "evaluate":
        assert settings.output.parts[0] == "runs"


def test_defaults_of_a_recipe_are_those_of_the_settings(tmp_path: Path) -> None:
    path = recipe(tmp_path, "command: finetune\ntask: movies\nmodel: m\noutput: o\n")
    assert settings_of("finetune", "--config", str(path)) == FinetuneSettings(
        task=TaskSettings(task="movies"), model="m", output=Path("o")
    )
    path = recipe(tmp_path, "command: evaluate\ntask: movies\nmodel: m\nthreshold_scale: [1, 2]\n")
    found = settings_of("evaluate", "--config", str(path))
    assert found == EvaluateSettings(task=TaskSettings(task="movies"), model="m", threshold_scale=(1.0, 2.0))


@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["run", "--help"]], ids=" ".join)
def test_help_needs_neither_torch_nor_transformers(words: list[str]) -> None:
    script = (
        "import sys, runpy; sys.orig_argv = ['python', '-m', 'adapler']; sys.argv = ['adapler', *sys.argv[1:]]\n"
        "try:\n    runpy.run_module('adapler', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n    print('code', end.code)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "print('heavy', sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-2:] == ["code 0", "heavy []"], done.stderr


def test_auto_classes_know_adapler_after_the_import() -> None:
    script = (
        "import adapler\nfrom transformers import AutoConfig, AutoModelForSequenceClassification as A\n"
        "from transformers import CONFIG_MAPPING\n"
        "print(CONFIG_MAPPING['adapler'].__name__, A._model_mapping[CONFIG_MAPPING['adapler']].__name__)\n"
        "print(adapler.AdapLeRForSequenceClassification.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["AdapLeRConfig", *["AdapLeRForSequenceClassification"] * 2], done.stderr
