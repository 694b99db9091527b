"""Train every system to every speed of docs/explanation/protocol.md: `python -m benchmarks.sweep PLAN.yaml`.

A plan is a list of blocks, each `tasks x systems x speeds x seeds`, done in this order; it is read again before each
training, so it may change while the sweep runs. What has a record is skipped, and a killed sweep goes on where it was:

    - {tasks: [hatexplain], systems: [cls_topk, adapler], speeds: [4, 2], seeds: [42]}

Records are OUTPUT/TASK/SYSTEM-4x-seed-42.json, their test predictions OUTPUT/TASK.parquet. Everything that is trained
or read is an `adapler` command in a process of its own; its log is RUNS/TASK/seed-SEED/log.txt.

Dimensions: B texts, L layers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

NEAR = 0.1  # how far from the wanted speed a training may end, as a share of it
MOST_BUDGETS = 3
SPEEDS = (2.0, 3.0, 4.0, 6.0)
TEXTS = ("text", "text_a", "text_b")


@dataclass(frozen=True)
class Task:
    """A task of the comparison: rows of training and validation (None: all), and passes over them."""

    data: str
    epochs: int
    train: int | None = None
    validation: int | None = None
    metric: str = "accuracy"


TASKS = {
    "hatexplain": Task("hatexplain", 2, 4000, 640),
    "sst2": Task("sst2", 2, 4000),
    "ag_news": Task("ag_news", 2, 4000, 500),
    "mrpc": Task("mrpc", 3, metric="f1"),
    "news20": Task("news20", 4, 4000, 500),
    "imdb_full": Task("imdb_full", 2, 4000, 500),
    "imdb": Task("imdb", 3),
    "dbpedia14": Task("dbpedia14_subset", 2, 4000, 500),
    "qnli": Task("qnli_dev", 3),
    "mnli": Task("mnli_dev", 3, 4000),
}


@dataclass(frozen=True)
class System:
    """Recipe of a system.

    Attributes:
        options: of `adapler run`, in terms of S (steps of a stage), n (mean length) and E (epochs).
        budget: the option that decides its speed; None: whole layers.
        first: where the search begins, {speed: budget}.
        on: what it starts from: the classifier, or a student of `distilbert` at a speed.
    """

    options: dict[str, Any] = field(default_factory=dict)
    budget: str | None = None
    first: dict[float, float] = field(default_factory=dict)
    on: float | None = None


def _policy(name: str, rate: str, epochs: str, first: Sequence[float], **more: Any) -> System:
    options = {"policy": name, "policy_learning_rate": rate, "policy_epochs": epochs, **more}
    return System(options, "policy_weight", dict(zip(SPEEDS, first, strict=True)))


def _top_k(name: str) -> System:
    return System(
        {"policy": name, "policy_epochs": "E"}, "keep", dict(zip(SPEEDS, (0.755, 0.63, 0.525, 0.37), strict=True))
    )


_THRESHOLDS = {
    **{"epochs": "E", "predictor_learning_rate": 2e-3, "eta_learning_rate": "2 / S", "max_slope": 50},
    **{"gamma": 0.02, "phi": "1 / (4 * n)"},
}
_PAPER = {**_THRESHOLDS, "preset": "paper"}
_OURS = {
    **_THRESHOLDS,
    **{"start": "finetuned", "predictor": "contextual"},
    **{"target_method": "decomposition", "target_layer": "own", "target_logit": "contrast"},
}
SYSTEMS = {
    "classifier": System(),
    "distilbert": System({"policy": "distilbert", "policy_epochs": "E"}),
    "power": _policy("power", "2.5 / S", "E E", (3e-3, 6e-3, 1e-2, 4e-2)),
    "trbert": _policy("trbert", ".7 / (S / E)", "1 1", (0.15, 0.3, 0.6, 1.5)),
    "transkimmer": _policy("transkimmer", ".4 / S", "E", (0.3, 0.5, 0.8, 1.5)),
    "ltp": _policy("ltp", "3 / (n * S)", "E E", (0.15, 0.4, 1.0, 4.0), policy_temperature="1 / (20 * n)"),
    "adapler-paper": System(_PAPER, "target_speedup"),
    "adapler": System(_OURS, "target_speedup"),
    "student-adapler": System(_OURS, "target_speedup", on=2.0),
    "cls_topk": _top_k("cls_topk"),
    "random_topk": _top_k("random_topk"),
}
# A student's speed, and that of the student which it is made of; None: the classifier.
DEPTHS = {2.0: None, 3.0: 2.0, 6.0: 3.0}


@dataclass(frozen=True)
class Cell:
    """A trained model of the comparison."""

    task: str
    system: str
    speed: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell's record."""
        return f"{self.system}-{self.speed:g}x-seed-{self.seed}"


def cells(plan: Sequence[dict[str, Any]]) -> Iterator[Cell]:
    """All models of a plan, in order, each after what it starts from."""
    for block in plan:
        for seed in block["seeds"]:
            for task in block["tasks"]:
                yield Cell(task, "classifier", 1.0, seed)
                for speed in map(float, block["speeds"]):
                    for system in block["systems"]:
                        on = DEPTHS.get(speed, 0.0) if system == "distilbert" else SYSTEMS[system].on
                        if on == 0:
                            continue  # a student has no such speed
                        while on:
                            yield Cell(task, "distilbert", on, seed)
                            on = DEPTHS[on]
                        yield Cell(task, system, speed, seed)


class Sweep:
    """Trains cells and writes their records.

    Args:
        data: folder of the tasks.
        runs: folder of trainings, parts of the data and logs.
        output: folder of records and predictions.
        encoder: folder of the pre-trained encoder.
    """

    def __init__(self, *, data: Path, runs: Path, output: Path, encoder: str) -> None:
        self.data, self.runs, self.output, self.encoder = data, runs, output, encoder

    def record_file(self, cell: Cell) -> Path:
        """Path of a cell's record."""
        return self.output / cell.task / f"{cell.name}.json"

    # Data

    def part(self, task: str) -> tuple[Path, float, int]:
        """Folder with the rows that train and validate, `test/test.jsonl` beside them; mean length n; training rows."""
        folder, facts = self.runs / "data" / task, self.runs / "data" / task / "facts.json"
        if not facts.is_file():
            source, chosen = self.data / TASKS[task].data, TASKS[task]
            (folder / "test").mkdir(parents=True, exist_ok=True)
            splits = read_splits(source)
            for split, most in (("train", chosen.train), ("validation", chosen.validation)):
                rows = splits[split]
                splits[split] = rows if most is None or most >= len(rows) else rows.sample(most, random_state=0)
                splits[split].to_json(folder / f"{split}.jsonl", orient="records", lines=True)
            splits["test"].to_json(folder / "test" / "test.jsonl", orient="records", lines=True)
            meta = json.loads((source / "meta.json").read_text())
            length = meta.get("max_length") or int(
                max(12, round(_lengths(self.encoder, splits["train"]).quantile(0.998)))
            )
            meta = {name: meta[name] for name in ("name", "labels") if name in meta}
            meta |= {"metric": chosen.metric, "max_length": min(512, length)}
            (folder / "meta.json").write_text(json.dumps(meta))
            mean = float(_lengths(self.encoder, splits["train"]).clip(upper=meta["max_length"]).mean())
            facts.write_text(json.dumps({"n": mean, "rows": {name: len(rows) for name, rows in splits.items()}}))
        said = json.loads(facts.read_text())
        return folder, said["n"], said["rows"]["train"]

    # Training

    def train(self, cell: Cell) -> None:
        """Train a cell to its speed and write its record."""
        run = self.runs / cell.task / f"seed-{cell.seed}"
        run.mkdir(parents=True, exist_ok=True)
        started, attempts = time.time(), []
        for budget in self.budgets(cell, attempts):
            folder, command = self.attempt(cell, run, budget)
            base, metric = 1.0, TASKS[cell.task].metric
            if cell.system == "classifier":
                point = {"score": _record(folder)["validation"][metric], "speedup": 1.0}
            else:
                point = json.loads((folder / "evaluation-validation.json").read_text())["hard"][0]
            if (on := self.on(cell)) is not None:
                base = json.loads(self.record_file(Cell(cell.task, "distilbert", on, cell.seed)).read_text())["trained"]
            attempts.append((budget, base * point["speedup"], point["score"], folder, command))
        budget, speed, score, folder, command = min(attempts, key=lambda one: abs(math.log(one[1] / cell.speed)))
        test = self.test(cell, run, folder)
        record = {
            **{"task": cell.task, "system": cell.system, "seed": cell.seed, "target": cell.speed, "budget": budget},
            **{"trained": speed, "near": abs(speed / cell.speed - 1) <= NEAR + 1e-9, "validation": score, **test},
            "attempts": [[tried, reached] for tried, reached, *_ in attempts],
            "minutes": {"training": _record(folder)["seconds"] / 60, "all": (time.time() - started) / 60},
            "rows": json.loads((self.runs / "data" / cell.task / "facts.json").read_text())["rows"],
            **{"metric": metric, "command": command},
        }
        write(self.record_file(cell), record)

    def on(self, cell: Cell) -> float | None:
        """The speed of the student that a cell starts from; None: the classifier."""
        return DEPTHS[cell.speed] if cell.system == "distilbert" else SYSTEMS[cell.system].on

    def budgets(self, cell: Cell, attempts: list[Any]) -> Iterator[float]:
        """Budgets to try, given what the attempts so far ended at (speeds only); ends within NEAR, or after three."""
        system = SYSTEMS[cell.system]
        if system.budget is None:
            yield 0.0
        elif system.budget == "target_speedup":
            yield max(1.05, cell.speed / (system.on or 1.0))
        else:
            files = sorted((self.output / cell.task).glob(f"{cell.system}-*.json"))
            known = [pair for file in files for pair in json.loads(file.read_text())["attempts"]]
            for _ in range(MOST_BUDGETS):
                own = [(budget, speed) for budget, speed, *_ in attempts]
                if any(abs(speed / cell.speed - 1) <= NEAR for _, speed in own):
                    return
                yield next_budget(own, known, cell.speed, first=system.first, share=system.budget == "keep")

    def attempt(self, cell: Cell, run: Path, budget: float) -> tuple[Path, list[str]]:
        """Train a cell with a budget; its folder and the command."""
        data, n, rows = self.part(cell.task)
        task, system, on = TASKS[cell.task], SYSTEMS[cell.system], self.on(cell)
        steps = math.ceil(rows / 32) * task.epochs
        common = ["--task", data, "--seed", cell.seed, "--batch-size", 32, "--learning-rate", 5e-5]
        if cell.system == "classifier":
            words = ["finetune", *common, "--model", self.encoder, "--epochs", task.epochs, "--packed"]
            return run / "finetuned", self.call(run, [*words, "--output", run / "finetuned"])
        values = {"S": steps, "n": n, "E": task.epochs}
        options = {name: _evaluated(value, values) for name, value in system.options.items()}
        folder = run / (f"distilbert-{cell.speed:g}x" if cell.system == "distilbert" else cell.system)
        if on is None:
            folder.mkdir(exist_ok=True)
            if not (folder / "finetuned").is_symlink():
                (folder / "finetuned").symlink_to(run / "finetuned", target_is_directory=True)
            start = ["--model", self.encoder, "--finetune-epochs", task.epochs, "--finetune-learning-rate", 5e-5]
            start.append("--finetune-packed")
        else:
            start = ["--classifier", run / f"distilbert-{on:g}x" / "distilbert"]
            options.pop("start", None)
        if system.budget:
            options[system.budget] = f"{budget:.3g}"
        name = {
            "target_speedup": f"speedup-{budget:.3g}",
            "keep": f"{cell.system}-keep-{budget:.3g}",
            None: cell.system,
        }
        given = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", *str(value).split())]
        words = self.call(run, ["run", *common, *start, *given, "--output", folder])
        return folder / name.get(system.budget, f"{cell.system}-{float(f'{budget:.3g}'):g}"), words

    def test(self, cell: Cell, run: Path, folder: Path) -> dict[str, Any]:
        """Read test once: the score, and FLOPs of the classifier over the model's in both conventions."""
        data, output = self.part(cell.task)[0], folder / "test-predictions.parquet"
        rows = pd.read_json(data / "test" / "test.jsonl", lines=True)
        meta = json.loads((data / "meta.json").read_text())
        names = {str(name): index for index, name in enumerate(meta["labels"])}
        plain = cell.system in ("classifier", "distilbert")
        if plain:
            predicted, lengths_in, lengths = read_plain(folder, rows, max_length=meta["max_length"])
        else:
            words = ["predict", "--model", folder, "--input", data / "test" / "test.jsonl", "--dtype", "float32"]
            self.call(run, [*words, "--output-columns", "label", "length", "lengths", "--quiet", "--output", output])
            found = pd.read_parquet(output)
            predicted = found["label"].astype(str).map(names)
            if len(found) != len(rows) or predicted.isna().any():
                raise OSError(f"{output}: not one known label for each of {len(rows)} rows")
            lengths_in, lengths = (torch.tensor(np.stack(found[name].to_list())) for name in ("length", "lengths"))
        gold = rows["label"]
        write_predictions(self.output / f"{cell.task}.parquet", gold, cell.name, predicted)
        speeds = speedups(AutoConfig.from_pretrained(run / "finetuned"), folder, lengths_in, lengths, plain=plain)
        return {
            "test": score(predicted, gold, TASKS[cell.task].metric),
            **speeds,
            "lengths": lengths.double().mean(0).tolist(),
        }

    def call(self, run: Path, words: Sequence[Any]) -> list[str]:
        """Run an `adapler` command; its words without folders of this machine."""
        given = [str(word) for word in words]
        with (run / "log.txt").open("a") as log:
            print("$ adapler", *given, file=log, flush=True)
            subprocess.run([sys.executable, "-m", "adapler", *given], stdout=log, stderr=log, check=True)
        return [word if not os.path.isabs(word) else Path(word).name for word in given]


def read_plain(folder: Path, rows: pd.DataFrame, *, max_length: int) -> tuple[pd.Series, torch.Tensor, torch.Tensor]:
    """Predicted labels of a plain classifier, the texts' lengths (B,), and the lengths that enter its layers (B, L)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [rows[name].tolist() for name in TEXTS if name in rows]
    ids = tokenizer(*texts, truncation=True, max_length=max_length)
    lengths = torch.tensor([len(one) for one in ids["input_ids"]])
    found = torch.empty(len(rows), dtype=torch.long)
    with torch.inference_mode():
        for batch in lengths.argsort().split(32):
            inputs = tokenizer.pad({name: [ids[name][row] for row in batch] for name in ids}, return_tensors="pt")
            found[batch] = model(**inputs).logits.argmax(-1)
    return pd.Series(found.numpy()), lengths, lengths[:, None].expand(-1, model.config.num_hidden_layers)


def next_budget(
    own: Sequence[tuple[float, float]],
    known: Sequence[tuple[float, float]],
    speed: float,
    *,
    first: dict[float, float],
    share: bool,
) -> float:
    """A budget that should end at a speed: log(speed - 1) is taken as linear in log(budget) between what was tried.

    Args:
        own: (budget, speed) of this cell's trainings; the answer lies between its neighbours there.
        known: of other cells, other seeds or speeds, of the same system and task.
        speed: the one that is wanted.
        first: budget of each speed, where nothing is known.
        share: the budget is the share that is kept: the axis is that which is dropped, 1 - budget.
    """

    def axis(budget: float) -> float:
        return math.log(1 - budget if share else budget)

    def height(reached: float) -> float:
        return math.log(max(0.03, reached - 1))

    points = [(axis(budget), height(reached)) for budget, reached in (own or known)]
    wanted, slope = height(speed), 2.0 if share else 0.8
    if not points:
        return first[speed]
    below = max((point for point in points if point[1] <= wanted), key=lambda point: point[1], default=None)
    above = min((point for point in points if point[1] > wanted), key=lambda point: point[1], default=None)
    if below and above and above[0] > below[0]:
        x = below[0] + (wanted - below[1]) / (above[1] - below[1]) * (above[0] - below[0])
    else:
        near = min(points, key=lambda point: abs(point[1] - wanted))
        others = [point for point in points if point[0] != near[0] and (point[1] - near[1]) * (point[0] - near[0]) > 0]
        if others:
            other = min(others, key=lambda point: abs(point[1] - wanted))
            slope = min(3.0, max(0.3, (other[1] - near[1]) / (other[0] - near[0])))
        x = near[0] + min(2.0, max(-2.0, (wanted - near[1]) / slope))
    return 1 - math.exp(min(x, -0.02)) if share else math.exp(x)


def speedups(
    full: Any, folder: Path, lengths_in: torch.Tensor, lengths: torch.Tensor, *, plain: bool
) -> dict[str, float]:
    """FLOPs of the whole classifier over those of a model, in both conventions; lengths (B, L) enter its layers."""
    from adapler.flops import adapler_flops, backbone_flops

    own, found = AutoConfig.from_pretrained(folder), {}
    for name, convention in (("speedup", "paper"), ("speedup_executed", "executed")):
        theirs = backbone_flops(full, lengths_in, convention=convention).sum()
        spent = (
            backbone_flops(own, lengths_in, convention=convention)
            if plain
            else adapler_flops(own, lengths_in, lengths, convention=convention)
        )
        found[name] = float(theirs / spent.sum())
    return found


def score(predicted: Any, gold: Any, metric: str) -> float:
    """Accuracy, or F1 of label 1."""
    from sklearn.metrics import accuracy_score, f1_score

    return float((f1_score if metric == "f1" else accuracy_score)(gold, predicted))


def read_splits(source: Path) -> dict[str, pd.DataFrame]:
    """Texts and label indices of a task's folder; where there is no validation, it is a tenth of the training rows."""
    splits: dict[str, pd.DataFrame] = {}
    names = {str(name): index for index, name in enumerate(json.loads((source / "meta.json").read_text())["labels"])}
    for split in ("train", "validation", "test"):
        parquet, lines = source / f"{split}.parquet", source / f"{split}.jsonl"
        if parquet.is_file() or lines.is_file():
            rows = pd.read_parquet(parquet) if parquet.is_file() else pd.read_json(lines, lines=True)
            if not pd.api.types.is_integer_dtype(rows["label"]):
                rows["label"] = rows["label"].astype(str).map(names).astype(int)
            splits[split] = rows[[name for name in (*TEXTS, "label") if name in rows]]
    if "validation" not in splits:
        splits["validation"] = splits["train"].sample(frac=0.1, random_state=0)
        splits["train"] = splits["train"].drop(splits["validation"].index)
    return splits


def _lengths(encoder: str, rows: pd.DataFrame) -> pd.Series:
    texts = [rows[name].tolist() for name in TEXTS if name in rows]
    return pd.Series([len(ids) for ids in AutoTokenizer.from_pretrained(encoder)(*texts)["input_ids"]])


def _evaluated(value: Any, names: dict[str, Any]) -> Any:
    """A rate such as "2 / S", or epochs such as "E E"."""
    if not isinstance(value, str) or not set(value) & set("SnE1") or any(c.islower() and c != "n" for c in value):
        return value
    if "/" in value:
        return f"{eval(value, {}, names):.3g}"  # noqa: S307 (our own table)
    return " ".join(str(names.get(word, word)) for word in value.split())


def _record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(path)


def write_predictions(path: Path, gold: Any, name: str, predicted: Any) -> None:
    """Add a column of predicted labels to a task's file."""
    table = pd.read_parquet(path) if path.is_file() else pd.DataFrame({"label": np.asarray(gold, dtype=np.int8)})
    if not np.array_equal(table["label"], gold):
        raise SystemExit(f"{path}: predictions on other test rows")
    table[name] = np.asarray(predicted, dtype=np.int8)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path.with_suffix(".partial"), index=False, compression="zstd")
    path.with_suffix(".partial").replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Work through a plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tasks")
    parser.add_argument("--encoder", required=True, help="pre-trained encoder, a folder")
    parser.add_argument("--runs", type=Path, default=Path("runs/sweep"))
    parser.add_argument("--output", type=Path, default=Path("results/tradeoff/trained"))
    args = parser.parse_args(argv)
    sweep, failed = Sweep(data=args.data, runs=args.runs, output=args.output, encoder=args.encoder), set[Cell]()
    while True:
        plan = list(cells(yaml.safe_load(args.plan.read_text())))
        left = [cell for cell in dict.fromkeys(plan) if cell not in failed and not sweep.record_file(cell).is_file()]
        if not left:
            return 1 if failed else 0
        cell, started = left[0], time.time()
        print(f"{time.strftime('%H:%M')} {cell.task} {cell.name}, {len(left)} left", flush=True)
        try:
            sweep.train(cell)
        except (subprocess.CalledProcessError, OSError, KeyError) as error:
            failed.add(cell)
            print(f"failed: {cell.task} {cell.name}: {error}", flush=True)
            continue
        record = json.loads(sweep.record_file(cell).read_text())
        print(
            f"  {record['trained']:.2f}x, test {record['test']:.3f}, {(time.time() - started) / 60:.1f} min", flush=True
        )


if __name__ == "__main__":
    sys.exit(main())
