"""The systems of the table, their recipes, and how the folders of a run are told apart.

A run folder belongs to a task, a backbone and a seed. All systems share its `finetuned/`. Every other folder in it with
a run.json is a trained point: one value of its system's budget. `is_point` and `cost_of` read these records; what a new
kind of record says elsewhere is read there and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from adapler.errors import ArgumentError, CheckpointError, DataError, is_number
from adapler.files import visible
from adapler.training.records import RECORD, read_json, read_record

FINETUNED = "finetuned"
TASKS = ("sst2", "mrpc", "hatexplain", "movies", "ag_news", "imdb", "dbpedia14", "qnli", "mnli")
POINTS = "points"  # folder of a run: what is measured, before it is collected
TARGETS = "saliency"  # folder of a run: what AdapLeR's predictors learn
_NO_POINTS = (FINETUNED, TARGETS, "classifier")  # folders of a run that hold no system's model
_OF_TARGETS = ("target_method", "target_layer", "target_logit", "saliency_epochs")  # what a recipe says of them
_REFUSED = {  # options that a recipe may not have
    "validation_share": "draws other rows for each seed; give the task a validation split",
    "limit": "leaves out training rows, which no table would say; give --limit to the command",
    "target_speedup": "chooses the budget that a point is known by; give that one",
}
FAMILY = "adapler"  # the systems of this name and its variants are AdapLeR


@dataclass(frozen=True)
class System:
    """A row of the table.

    Attributes:
        name: of the system and of its recipe.
        title: in tables and figures.
        policy: value of `--policy`; None: the command's default.
        budget: the option with one value for each trained point; None: the system has one point.
        frozen: whether the fine-tuned backbone stays as it is.
        variant: the system has a run folder of its own below the shared one, since its folders would be called as
            those of the system that it varies.
        passes: a guess of what one epoch costs, in forward passes of the plain classifier over the training rows, until
            a record says it.
    """

    name: str
    title: str
    policy: str | None = None
    budget: str | None = None
    frozen: bool = False
    variant: bool = False
    passes: float = 3.0

    @property
    def command(self) -> str:
        """The command that trains it."""
        return "finetune" if self.name == FINETUNED else "run"

    @property
    def is_family(self) -> bool:
        """Whether it is AdapLeR, in one of its options."""
        return self.name == FAMILY or self.name.startswith(f"{FAMILY}-")


_ALL = (
    System(FINETUNED, "Fine-tuned backbone"),
    System("distilbert", "DistilBERT", policy="distilbert", passes=2.5),
    System("power", "PoWER-BERT", policy="power", budget="policy_weight", passes=7.0),
    System("trbert", "TR-BERT", policy="trbert", budget="policy_weight", passes=25.0),
    System("transkimmer", "Transkimmer", policy="transkimmer", budget="policy_weight", passes=4.5),
    System("ltp", "LTP", policy="ltp", budget="policy_weight", passes=6.0),
    System("cls_topk", "[CLS] attention, top-k", policy="cls_topk", budget="keep"),
    System("random_topk", "Random, top-k", policy="random_topk", budget="keep"),
    System("adapler", "AdapLeR", budget="phi", passes=5.0),
    System("adapler-post-hoc", "AdapLeR, post hoc", budget="phi", frozen=True, passes=4.0),
)
SYSTEMS: Mapping[str, System] = {system.name: system for system in _ALL}


def _base(name: str) -> System:
    """The system of this name, or the one that NAME-VARIANT is a variant of; raises as `system_of`."""
    if name in SYSTEMS:
        return SYSTEMS[name]
    bases = [known for known in SYSTEMS if known != FINETUNED and name.startswith(f"{known}-") and name != f"{known}-"]
    if not bases:
        raise ArgumentError(f"--systems: {name!r} is not one of {', '.join(SYSTEMS)}, and no NAME-VARIANT of one")
    return SYSTEMS[max(bases, key=len)]


def system_of(name: str) -> System:
    """A system by its name; `NAME-ANYTHING` is a variant of NAME with a recipe of its own.

    Raises:
        ArgumentError: none of that name.
    """
    found = _base(name)
    if found.name == name:
        return found
    variant = name.removeprefix(f"{found.name}-").replace("-", " ")
    return replace(found, name=name, title=f"{found.title}, {variant}", variant=True)


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of SYSTEMS; variants after the system that they vary."""
    return sorted(set(names), key=lambda name: (_ALL.index(_base(name)), name))


@dataclass(frozen=True)
class Recipe:
    """`configs/TASK/SYSTEM.yaml`.

    Attributes:
        path: of the file.
        options: its keys without `command`, `task`, `output`, and without the budget.
        budgets: the values of the budget, a trained point each; (None,) for a system without one.
    """

    path: Path
    options: Mapping[str, Any]
    budgets: tuple[float | None, ...]

    def epochs(self, name: str) -> tuple[int, ...] | None:
        """An option that is a number of epochs, or a list with one for each stage; None if the recipe has none.

        Raises:
            DataError: not whole numbers of at least 1.
        """
        given = self.options.get(name)
        values = given if isinstance(given, list) else [given]
        if given is not None and not (values and all(is_number(value, whole=True) and value >= 1 for value in values)):
            raise DataError(
                f"{self.path}: {name} is {given!r}, must be a whole number of at least 1, or a list of them"
            )
        return None if given is None else tuple(values)


def read_system_recipe(folder: Path, task: str, system: System) -> Recipe:
    """The recipe of a system on a task.

    Raises:
        DataError: no such file, not a mapping, of another command, without a value for the budget, or with an option of
            `_REFUSED`.
    """
    path = folder / task / f"{system.name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: no recipe for {system.name} on {task} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML") from error
    if not isinstance(content, dict) or content.get("command") != system.command:
        raise DataError(f"{path}: must be a mapping with `command: {system.command}`")
    for name, why in _REFUSED.items():
        if content.get(name) is not None:
            raise DataError(f"{path}: {name} {why}")
    left_out = {"command", "task", "output", "model", system.budget}
    options = {str(key): value for key, value in content.items() if key not in left_out}
    if system.budget is None:
        return Recipe(path, options, (None,))
    given = content.get(system.budget)
    values = given if isinstance(given, list) else [given]
    try:
        budgets = tuple(math.nan if isinstance(value, bool) else float(value) for value in values)
    except (TypeError, ValueError):
        budgets = ()
    if not budgets or not all(0 <= budget < math.inf for budget in budgets):
        found = f"{system.budget} is {given!r}"
        raise DataError(f"{path}: {found}, must be a number of at least 0 or a list of them, a point of the curve each")
    if len({f"{budget:g}" for budget in budgets}) < len(budgets):  # records are named so
        raise DataError(f"{path}: {system.budget} has a value twice, or two that agree to six digits")
    return Recipe(path, options, budgets)


# Folders of a run


def run_folder(run: Path, system: System) -> Path:
    """Where a system trains: the shared folder, or a folder of its own in it."""
    return run / system.name if system.variant else run


def job_file(run: Path, system: System) -> Path:
    """What a system's point was last asked for with."""
    return run / POINTS / f"{system.name}.job.json"


def share_targets(run: Path, system: System, recipe: Recipe) -> None:
    """A link to the targets of another option of AdapLeR, where this one would make the same again.

    `adapler run` takes them only if their data, classifier and settings are its own.
    """
    own = run_folder(run, system) / TARGETS
    if own.is_symlink() and not own.exists():  # those that it led to are gone
        own.unlink()
    for file in sorted((run / POINTS).glob(f"{FAMILY}*.job.json")):
        asked = read_json(file)
        made = run_folder(run, system_of(asked["system"])) / TARGETS
        alike = all(asked["recipe"].get(name) == recipe.options.get(name) for name in _OF_TARGETS)
        if alike and (made / RECORD).is_file() and not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            own.symlink_to(made.resolve(), target_is_directory=True)


def is_point(record: Mapping[str, Any], system: System, budget: float | None) -> bool:
    """Whether a run.json is of a system's point."""
    objectives = record.get("objectives") or {}
    policy = record.get("policy") or objectives.get("policy") or FAMILY
    if policy != (system.policy or FAMILY) or bool(objectives.get("freeze_backbone")) != system.frozen:
        return False
    if system.budget is None or budget is None:
        return True
    if objectives.get("target_speedup") is not None:  # its phi is where training began, not its budget
        return False
    found = objectives.get(system.budget, record.get(system.budget))
    return found is not None and math.isclose(float(found), budget, rel_tol=1e-9)


def point_folder(run: Path, system: System, budget: float | None) -> Path:
    """The folder of a trained point.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    folder = run_folder(run, system)
    if system.name == FINETUNED:
        read_record(folder / FINETUNED)
        return folder / FINETUNED
    found = []
    for path in (one / RECORD for one in visible(folder.glob("*")) if (one / RECORD).is_file()):
        record = read_json(path)
        if path.parent.name not in _NO_POINTS and is_point(record, system, budget):
            found.append(path.parent)
    if len(found) != 1:
        number = "no folder" if not found else f"{len(found)} folders ({', '.join(path.name for path in found)})"
        at = "" if budget is None else f" at {system.budget} {budget:g}"
        raise CheckpointError(f"{folder}: {number} of {system.name}{at}; one is expected")
    return found[0]


def cost_of(run: Path, system: System, record: Mapping[str, Any]) -> dict[str, float]:
    """What a point took to train, from the encoder on.

    Returns:
        epochs, minutes: everything; own_epochs, own_minutes: without what the run's systems share (fine-tuning, and
        AdapLeR's saliency targets, which are counted in minutes only, in full for each system that learns them).
    """
    own_epochs, own = _epochs(record), float(record.get("seconds", 0)) / 60
    if system.name == FINETUNED:
        return {"epochs": own_epochs, "minutes": own, "own_epochs": own_epochs, "own_minutes": own}
    folder = run_folder(run, system)
    shared = read_record(folder / FINETUNED)
    minutes = own + float(shared.get("seconds", 0)) / 60
    if system.is_family and (folder / TARGETS / RECORD).is_file():
        minutes += float(read_json(folder / TARGETS / RECORD).get("seconds", 0)) / 60
    return {"epochs": own_epochs + _epochs(shared), "minutes": minutes, "own_epochs": own_epochs, "own_minutes": own}


def _epochs(record: Mapping[str, Any]) -> float:
    """Passes over the training rows: up to the last evaluated point of each stage, or of the only one."""
    if record.get("stages"):
        return sum(_epochs({"epochs": stage["epochs"]}) for stage in record["stages"])
    rows = record.get("epochs") or [{}]
    return float(rows[-1].get("epoch", 0)) if isinstance(rows, list) else float(rows)
