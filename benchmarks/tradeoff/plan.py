"""The runs that are left, in their order, and how long each will take.

A run's time is estimated from its epochs, of all stages, and from the FLOPs of one forward pass over its rows, whose
lengths are measured on a sample. FLOPs become minutes by what finished records took (of the same system, else of
fine-tuning or of all others, times the system's guess in `systems`), and before there are any, by RATE.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets

from adapler.backbones.checkpoints import read_config
from adapler.backbones.families import max_positions
from adapler.data import load_task
from adapler.errors import ArgumentError
from adapler.model.flops import backbone_flops
from adapler.text import encode_dataset, load_tokenizer
from adapler.training.policies.base import training_class
from adapler.training.policies.settings import PolicySettings
from adapler.training.records import RECORD, model_checksum, read_json
from adapler.training.settings import Settings as Training
from benchmarks.tradeoff.data import coverage, data_of
from benchmarks.tradeoff.records import Key, check_encoder, check_rows, check_same
from benchmarks.tradeoff.systems import FINETUNED, Recipe, System, read_system_recipe, system_of

SAMPLED = 200  # rows of a split whose lengths are measured
# Forward FLOPs a minute of one core (a 2.5 GHz Xeon, float32, otherwise idle: docs/performance.md); records replace it.
RATE = 2.5e12
MEASURING = 8.0  # forward passes over validation and over test that a point's measurement takes, timing included
SALIENCY = 9.0  # three classifiers, forward and backward


@dataclass(frozen=True)
class Settings:
    """What the command was asked for.

    Attributes:
        tasks, systems, seeds: by name; a run for each combination.
        backbone: folder or hub name of the encoder; `name` is what tables call it.
        root, data: see `data.data_of`.
        configs: folder of the recipes.
        output: results, to be kept. runs: weights, which may be deleted.
        limit, epochs: quick runs; see `changes`.
        further_seeds_below: minutes that a system's run on the first seed may take, for it to be run on the others.
        jobs: runs at once.
        timed, timed_single, rounds: see `timing`.
        max_drop: see `selection`.
        delete_weights: of a point, when it has its record; the classifiers that systems share stay.
    """

    tasks: tuple[str, ...]
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    backbone: str
    name: str
    root: Path | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    configs: Path = Path("configs")
    output: Path = Path("results/tradeoff")
    runs: Path = Path("runs/tradeoff")
    limit: int | None = None
    epochs: int | None = None
    further_seeds_below: float | None = None
    jobs: int = 1
    timed: int = 256
    timed_single: int = 50
    rounds: int = 5
    max_drop: float = 0.01
    delete_weights: bool = False

    @property
    def changes(self) -> dict[str, int]:
        """In what the runs differ from their recipes."""
        given = {"limit": self.limit, "epochs": self.epochs}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class TaskFacts:
    """What the plan knows of a task's rows.

    Attributes:
        data: what `--task` gets. checksum: of its rows.
        coverage: whether it is the whole data set.
        rows: examples by split.
        lengths: their mean length in wordpieces, by split.
        flops: of one forward pass of the backbone over all rows, by split.
    """

    data: str
    checksum: str
    coverage: str
    rows: Mapping[str, int]
    lengths: Mapping[str, float]
    flops: Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """A system on a task with a seed: one training for all its points without a record.

    Attributes:
        budgets: of those points.
        folder: of the run, which all systems of the task, backbone and seed share.
        minutes: expected. source: where they come from: "records" of this system, "other records" times a guess, or a
            "guess" alone.
    """

    task: str
    system: System
    seed: int
    budgets: tuple[float | None, ...]
    recipe: Recipe
    facts: TaskFacts
    folder: Path
    minutes: float
    source: str

    @property
    def title(self) -> str:
        """For a line of progress."""
        return f"{self.task}, {self.system.name}, seed {self.seed}"

    @property
    def points(self) -> str:
        """The points, in words."""
        if self.system.budget is None:
            return "1 point"
        return f"{self.system.budget} " + " ".join(f"{value:g}" for value in self.budgets if value is not None)


def facts_of(task: str, settings: Settings) -> TaskFacts:
    """Read a task and measure the lengths of a sample of its rows.

    Raises:
        ArgumentError: no test split, or a backbone that is an AdapLeR model. DataError: from the readers.
    """
    config = read_config(settings.backbone)
    if config.model_type == "adapler":
        raise ArgumentError(f"--backbone: {settings.backbone} is an AdapLeR model, and a pre-trained encoder is needed")
    data = data_of(task, root=settings.root, given=settings.data)
    loaded = load_task(data)
    if "test" not in loaded.dataset:
        raise ArgumentError(f"--tasks: {task} ({data}) has no test split, so there is nothing to report")
    tokenizer = load_tokenizer(settings.backbone, words=loaded.is_split_into_words)
    rows, lengths, flops = {}, {}, {}
    for split in ("train", "validation", "test"):
        dataset = loaded.dataset[split]
        rows[split] = len(dataset) if split != "train" or settings.limit is None else min(settings.limit, len(dataset))
        step = max(1, len(dataset) // SAMPLED)
        sample = encode_dataset(
            dataset.select(range(0, len(dataset), step)),
            tokenizer,
            columns=loaded.columns,
            max_length=min(loaded.max_length, max_positions(config)),
        )
        each = [len(ids) for ids in sample["input_ids"]]
        lengths[split] = statistics.mean(each)
        flops[split] = rows[split] * float(backbone_flops(config, each).mean())
    full = {split: rows[split] if split != "train" else len(loaded.dataset[split]) for split in ("train", "test")}
    return TaskFacts(data, loaded.checksum, coverage(task, data, full, limit=settings.limit), rows, lengths, flops)


def epochs_of(task: str, system: System, recipe: Recipe, *, asked: int | None = None) -> int:
    """Passes over the training rows that a point of a system takes, fine-tuning not counted.

    Args:
        task: by name; some policies train longer on a small one.
        system, recipe: of the point.
        asked: epochs of every training, or of every stage of one, in place of the recipe's.

    Raises:
        ArgumentError: `policy_epochs` for more or fewer stages than the policy's training has. DataError: see
            `Recipe.epochs`.
    """
    if system.policy is None:
        return asked or sum(recipe.epochs("epochs") or (Training.epochs,))
    policy = PolicySettings(policy=system.policy, policy_epochs=recipe.epochs("policy_epochs"))
    epochs = training_class(system.policy).stage_epochs(policy, task=task)
    return asked * len(epochs) if asked else sum(epochs.values())


class Rates:
    """Minutes for FLOPs, out of finished records.

    A record's own rate is its minutes of training over its epochs times the FLOPs of one forward pass over the training
    rows: forward, backward and everything around them are in it.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]], *, backbone: str) -> None:
        by_system: dict[str, list[float]] = {}
        for record in records:
            spent = record["cost"]["own_epochs"] * record["epoch_flops"]
            if record["backbone"] == backbone and spent > 0 and record["cost"]["own_minutes"] > 0:
                by_system.setdefault(record["system"], []).append(record["cost"]["own_minutes"] / spent)
        self._known = {name: statistics.median(rates) for name, rates in by_system.items()}

    @property
    def one_pass(self) -> float:
        """Minutes for a FLOP of a forward pass: by fine-tuning, else by all systems that have a record."""
        by = [FINETUNED] if FINETUNED in self._known else list(self._known)
        return statistics.median(self._known[name] / system_of(name).passes for name in by) if by else 1 / RATE

    def minutes(self, system: System, facts: TaskFacts, *, points: int, epochs: int) -> float:
        """Expected minutes of a run and of the measurement of its points, each of so many epochs (`epochs_of`)."""
        rate = self._known.get(system.name, system.passes * self.one_pass)
        once = SALIENCY * facts.flops["train"] * self.one_pass if system.is_family else 0.0
        measured = MEASURING * (facts.flops["validation"] + facts.flops["test"]) * self.one_pass
        return once + points * (epochs * rate * facts.flops["train"] + measured)

    def source(self, system: System) -> str:
        """What says how long an epoch takes; see `Job`."""
        if system.name in self._known:
            return "records"
        return "other records" if self._known else "guess"


def plan(settings: Settings, records: Sequence[Mapping[str, Any]]) -> list[Job]:
    """The jobs that are left, in order: first seeds first, of those cheap tasks first, of a task fine-tuning first,
    then the cheap systems. So there is a whole table with one seed before there is a second seed of anything.
    Fine-tuning is planned for all runs that something is left of, and where its record is there but its weights are
    not, its minutes are those of the run that makes it anew, the first in the folder.

    Raises:
        ArgumentError, DataError: of a system, a task, a recipe, or a record of a quick run, other rows or another
            encoder.
    """
    datasets.disable_progress_bars()  # a bar for each sample that is tokenised says nothing
    rates = Rates(records, backbone=settings.name)
    systems = [system_of(name) for name in dict.fromkeys((FINETUNED, *settings.systems))]
    encoder = model_checksum(settings.backbone)
    jobs: list[Job] = []
    if_needed: set[Path] = set()  # folders whose classifier nobody asked for
    again: dict[Path, float] = {}  # minutes of a classifier that has a record and no weights
    totals: dict[str, float] = {}
    for task in settings.tasks:
        facts = facts_of(task, settings)
        of_task = [record for record in records if record["task"] == task]
        check_rows(of_task, facts.checksum, data=facts.data, output=settings.output)
        check_encoder([record for record in of_task if record["backbone"] == settings.name], encoder, settings.output)
        recipes = {system.name: read_system_recipe(settings.configs, task, system) for system in systems}
        for number, seed in enumerate(settings.seeds):
            for system in systems:
                recipe = recipes[system.name]
                epochs = epochs_of(task, system, recipe, asked=settings.epochs)
                whole = rates.minutes(system, facts, points=len(recipe.budgets), epochs=epochs)
                totals[task] = totals.get(task, 0.0) + (whole if number == 0 else 0.0)
                limit = settings.further_seeds_below
                long = bool(number) and limit is not None and whole > limit
                if long and system.name != FINETUNED:
                    continue
                left = missing(settings, task, system, seed=seed, recipe=recipe)
                folder = settings.runs / settings.name / task / f"seed-{seed}"
                if not left:
                    if system.name == FINETUNED and not (folder / FINETUNED / RECORD).is_file():
                        again[folder] = whole
                    continue
                minutes = rates.minutes(system, facts, points=len(left), epochs=epochs)
                jobs.append(Job(task, system, seed, left, recipe, facts, folder, minutes, rates.source(system)))
                if long or FINETUNED not in settings.systems:
                    if_needed.add(folder)
    needed = {job.folder for job in jobs if job.system.name != FINETUNED}
    jobs = [job for job in jobs if job.system.name != FINETUNED or job.folder in needed or job.folder not in if_needed]

    def order(job: Job) -> tuple[Any, ...]:
        late = job.system.name != FINETUNED
        return settings.seeds.index(job.seed), totals[job.task], job.task, late, job.minutes, job.system.name

    return [replace(job, minutes=job.minutes + again.pop(job.folder, 0.0)) for job in sorted(jobs, key=order)]


def missing(settings: Settings, task: str, system: System, *, seed: int, recipe: Recipe) -> tuple[float | None, ...]:
    """The budgets of a recipe whose point has no record.

    Raises:
        ArgumentError: see records.check_same.
    """
    left = []
    for budget in recipe.budgets:
        path = Key(settings.name, task, system.name, seed, budget).path(settings.output)
        if not path.is_file():
            left.append(budget)
            continue
        record = read_json(path)
        check_same(record, changes=settings.changes, path=path, max_drop=settings.max_drop)
        if record.get("recipe") != dict(recipe.options):
            print(f"note: {path} was made with other settings than {recipe.path} has now; delete it to make it anew")
    return tuple(left)


def table_of(jobs: Sequence[Job], *, workers: int) -> str:
    """The plan as text."""
    lines = [
        f"{'task':<12}{'rows':>17}{'tokens':>8}  {'system':<24}{'seed':>5}  {'points':<34}{'minutes':>9}  from",
    ]
    for job in jobs:
        rows = f"{job.facts.rows['train']} {job.facts.coverage}"
        lines.append(
            f"{job.task:<12}{rows:>17}{job.facts.lengths['train']:>8.0f}  {job.system.name:<24}{job.seed:>5}  "
            f"{job.points:<34}{job.minutes:>9.1f}  {job.source}"
        )
    lines.append(f"{len(jobs)} runs, {hours(jobs, workers=workers)} on {workers} core{'s' if workers > 1 else ''}")
    return "\n".join(lines)


def hours(jobs: Iterable[Job], *, workers: int) -> str:
    """The expected time of jobs that share the cores evenly."""
    minutes = sum(job.minutes for job in jobs) / workers
    return f"{minutes / 60:.1f} h" if minutes >= 60 else f"{minutes:.0f} min"
