"""Systems, the recipes in configs/, and how a run's folders are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapler.cli.options import chosen
from adapler.cli.parser import build_parser
from adapler.errors import ArgumentError, CheckpointError, DataError
from adapler.training.records import write_record
from benchmarks.tradeoff.systems import (
    SYSTEMS,
    TASKS,
    Recipe,
    cost_of,
    in_order,
    is_point,
    job_file,
    point_folder,
    read_system_recipe,
    run_folder,
    share_targets,
    system_of,
)
from benchmarks.tradeoff.work import _last_line
from tests.test_layering import ROOT

CONFIGS = ROOT / "configs"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_recipes_of_its_classifier_and_of_adapler(task: str) -> None:
    family = [system.name for system in SYSTEMS.values() if system.is_family or system.name == "finetuned"]
    assert [name for name in family if not (CONFIGS / task / f"{name}.yaml").is_file()] == []


@pytest.mark.parametrize(("folder", "task"), [*((".", task) for task in TASKS), ("mpnet", "movies")])
def test_the_recipes_of_a_task_share_their_classifier(folder: str, task: str) -> None:
    """`adapler run` refuses a run folder whose classifier was fine-tuned with other settings."""
    found: dict[str, Any] = {}
    for path in sorted((CONFIGS / folder / task).glob("*.yaml")):
        try:
            system = system_of(path.stem)
        except ArgumentError:
            continue  # a recipe for something else
        recipe = read_system_recipe(CONFIGS / folder, task, system)
        if "classifier" in recipe.options:
            continue  # of a classifier that somebody published, and of no run folder of the benchmark's
        words = [system.command, "--config", str(recipe.path), "--model", "m", "--output", "o"]
        settings = chosen(build_parser().parse_args(words))
        tuning = settings.settings if system.command == "finetune" else settings.finetuning()
        found[system.name] = (tuning, settings.task, settings.reinit_head, settings.half)
        assert settings.task.task == task
    assert len(found) >= 3
    for name, shared in found.items():
        assert shared == found["finetuned"], (
            f"configs/{folder}/{task}/{name}.yaml fine-tunes in another way than finetuned.yaml"
        )


def test_systems_and_their_variants() -> None:
    assert system_of("adapler-post-hoc").frozen and not system_of("adapler-post-hoc").variant
    variant = system_of("adapler-post-hoc-contextual")
    assert variant.frozen and variant.variant and variant.is_family
    assert variant.title == "AdapLeR, post hoc, contextual" and variant.budget == "phi"
    assert run_folder(Path("run"), variant) == Path("run/adapler-post-hoc-contextual")
    assert run_folder(Path("run"), system_of("power")) == Path("run")
    assert not system_of("power").is_family
    assert in_order(["adapler-x", "trbert", "adapler", "trbert", "power-y", "power", "finetuned"]) == [
        *("finetuned", "power", "power-y", "trbert", "adapler", "adapler-x")
    ]
    for wrong in ("finetuned-x", "adaplerx", "power-", "bert"):
        with pytest.raises(ArgumentError, match=rf"--systems: '{wrong}' is not one of finetuned, distilbert"):
            system_of(wrong)


def test_a_recipe_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "sst2").mkdir()
    path, adapler = tmp_path / "sst2" / "adapler.yaml", system_of("adapler")
    with pytest.raises(DataError, match="adapler.yaml: no recipe for adapler on sst2"):
        read_system_recipe(tmp_path, "sst2", adapler)
    for text, message in (
        ("command: train\n", "must be a mapping with `command: run`"),
        ("command: run\n", "phi is None, must be a number of at least 0 or a list of them"),
        ("command: run\nphi: [1, x]\n", r"phi is \[1, 'x'\], must be"),
        *(
            (f"command: run\nphi: {wrong}\n", "must be a number of at least 0")
            for wrong in ("[]", "-1", ".nan", ".inf", "yes")
        ),
        ("command: run\nphi: [1, 1.0]\n", "phi has a value twice"),
        ("command: run\nphi: [0.001, 0.0010000000001]\n", "phi has a value twice, or two that agree to six digits"),
        ("- a\n", "must be a mapping"),
        ("a: [\n", "not YAML"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_system_recipe(tmp_path, "sst2", adapler)
    path.write_text("command: run\ntask: sst2\nphi: [1e-3, 0]\nepochs: 4\n", encoding="utf-8")
    recipe = read_system_recipe(tmp_path, "sst2", adapler)
    assert recipe.budgets == (0.001, 0.0) and recipe.options == {"epochs": 4}  # YAML takes 1e-3 for text
    assert recipe.epochs("epochs") == (4,) and recipe.epochs("policy_epochs") is None
    for wrong in ("abc", "[a, b]", "{a: 1}", "[1.5, 2]", "-2", ".nan", "yes", "0", "[]"):
        path.write_text(f"command: run\nphi: 1\nepochs: {wrong}\n", encoding="utf-8")
        with pytest.raises(
            DataError, match="adapler.yaml: epochs is .*, must be a whole number of at least 1, or a li"
        ):
            read_system_recipe(tmp_path, "sst2", adapler).epochs("epochs")


def run_json(folder: Path, **record: Any) -> None:
    write_record(folder / "run.json", record)


def test_points_are_found_by_their_records(tmp_path: Path) -> None:
    run_json(tmp_path / "finetuned", command="finetune", seconds=60.0, epochs=[{"epoch": 1.0}, {"epoch": 2.0}])
    run_json(tmp_path / "saliency", command="saliency", seconds=30.0)
    run_json(tmp_path / "a", command="train", objectives={"phi": 1e-3, "freeze_backbone": False, "policy": "adapler"})
    run_json(tmp_path / "b", command="train", objectives={"phi": 1e-3, "freeze_backbone": True})
    run_json(tmp_path / "c", command="train", objectives={"phi": 1e-3, "policy": "power", "policy_weight": 0.5})
    run_json(tmp_path / "d", command="train", policy="distilbert")
    run_json(tmp_path / "e", command="train", objectives={"phi": 2e-3, "target_speedup": 4.0})
    for name, system, budget in (
        ("finetuned", "finetuned", None),
        ("a", "adapler", 1e-3),
        ("b", "adapler-post-hoc", 1e-3),
        ("c", "power", 0.5),
        ("d", "distilbert", None),
    ):
        assert point_folder(tmp_path, system_of(system), budget) == tmp_path / name
    with pytest.raises(CheckpointError, match=r"no folder of adapler at phi 0\.002; one is expected"):
        point_folder(tmp_path, system_of("adapler"), 2e-3)  # that one was trained to a speedup
    run_json(tmp_path / "a2", command="train", objectives={"phi": 1e-3})
    with pytest.raises(CheckpointError, match=r"2 folders \(a, a2\) of adapler at phi 0\.001"):
        point_folder(tmp_path, system_of("adapler"), 1e-3)


def test_what_training_cost(tmp_path: Path) -> None:
    run_json(tmp_path / "finetuned", command="finetune", seconds=60.0, epochs=[{"epoch": 1.0}, {"epoch": 2.0}])
    run_json(tmp_path / "saliency", command="saliency", seconds=30.0)
    own = {"command": "train", "seconds": 120.0, "epochs": [{"epoch": 3.0}]}
    cost = cost_of(tmp_path, system_of("adapler"), own)
    assert cost == {"epochs": 5.0, "minutes": 3.5, "own_epochs": 3.0, "own_minutes": 2.0}
    search, retraining = {"epochs": [{"epoch": 1.0}, {"epoch": 6.0}]}, {"epochs": [{"epoch": 3.0}]}
    staged = cost_of(tmp_path, system_of("power"), {**own, "stages": [search, retraining]})
    assert staged["epochs"] == 11 and staged["own_epochs"] == 9
    assert cost_of(tmp_path, system_of("power"), own)["minutes"] == 3.0  # it needs no saliency


def test_a_record_of_another_policy_is_no_point() -> None:
    record = {"objectives": {"phi": 1e-3, "policy": "ltp", "policy_weight": 1e-3}}
    assert is_point(record, system_of("ltp"), 1e-3) and not is_point(record, system_of("power"), 1e-3)
    assert not is_point(record, system_of("adapler"), 1e-3)


def test_a_failure_is_told_by_its_own_command(tmp_path: Path) -> None:
    """A log has what earlier commands said, too."""
    log = tmp_path / "x.log"
    log.write_text(
        "$ python -m adapler run\nerror: --phi: an old one\n$ python -m adapler run\nRuntimeError: no memory\n"
    )
    assert _last_line(log) == "RuntimeError: no memory"
    log.write_text("$ python -m adapler run\nerror: --phi: the one\nmore\n")
    assert _last_line(log) == "error: --phi: the one"
    log.write_text("$ python -m adapler run\nerror: --phi: an old one\n$ python -m adapler run\n")
    assert _last_line(log) == "no output"


def test_targets_that_are_gone_are_made_again(tmp_path: Path) -> None:
    run, recipe = tmp_path / "seed-1", Recipe(tmp_path, {}, (None,))
    own, other = system_of("adapler-wide"), system_of("adapler")
    for name in (own, other):
        job_file(run, name).parent.mkdir(parents=True, exist_ok=True)
        job_file(run, name).write_text(json.dumps({"system": name.name, "recipe": {}}))
    (run / "saliency").mkdir()
    (run / "saliency" / "run.json").write_text("{}")
    (run / "adapler-wide").mkdir()
    (run / "adapler-wide" / "saliency").symlink_to(tmp_path / "gone")
    share_targets(run, own, recipe)
    assert (run / "adapler-wide" / "saliency").resolve() == (run / "saliency").resolve()
