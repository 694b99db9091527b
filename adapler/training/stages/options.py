"""Command-line options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets

from adapler.backbones.checkpoints import is_fine_tuned, read_config
from adapler.backbones.families import max_positions
from adapler.data.encoding import encode, load_tokenizer
from adapler.data.tasks import Task, in_label_order, load_task
from adapler.distributed import is_main
from adapler.errors import ArgumentError
from adapler.training.records import PRECISIONS, Settings
from adapler.training.stages.train import Objectives

POLICIES = ("truncate", "last", "windows")


def add_task_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("task")
    group.add_argument(
        "--task",
        required=True,
        help="a task's name (sst2, mrpc, imdb, ag_news, dbpedia14, qnli, mnli, hatexplain, movies), a folder with "
        "{train,validation,test}.jsonl, or a folder or .tar.gz in ERASER layout",
    )
    group.add_argument("--data-dir", type=Path, help="where the task `movies` lies (default: data/eraser/movies)")
    group.add_argument("--max-length", type=int, help="longest input in wordpieces (default: the task's)")
    group.add_argument(
        "--long-documents",
        choices=POLICIES,
        default="truncate",
        help="what becomes of longer ones: the first wordpieces, the last ones, or overlapping windows",
    )
    group.add_argument(
        "--train-documents",
        choices=POLICIES,
        help="the same for the training split alone; `last` trains on text that fine-tuning on the first wordpieces "
        "has not seen, which is what post-hoc thresholds need (default: as --long-documents)",
    )
    group.add_argument("--stride", type=int, help="overlap of windows, in wordpieces")
    group.add_argument("--limit", type=int, help="use this many training rows only, drawn with the seed")


def add_settings(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    group = parser.add_argument_group("optimisation")
    helps = {
        "epochs": "passes over the training set",
        "batch_size": "rows of one forward pass",
        "accumulation": "forward passes of one step",
        "learning_rate": "of the backbone",
        "warmup": "share of the steps",
        "weight_decay": "of matrices",
        "seed": "of everything random",
    }
    for setting in fields(Settings):
        default = defaults.get(setting.name, setting.default)
        if setting.name == "precision":
            group.add_argument("--precision", choices=PRECISIONS, default=default, help=f"default: {default}")
        else:
            kind = type(setting.default)
            text = f"{helps[setting.name]} (default: {default})"
            group.add_argument(f"--{setting.name.replace('_', '-')}", type=kind, default=default, help=text)


def add_objectives(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    group = parser.add_argument_group("AdapLeR")
    group.add_argument("--gamma", type=float, default=Objectives.gamma, help="weight of the contribution loss")
    group.add_argument(
        "--phi",
        type=float,
        nargs="+" if several else None,
        default=[Objectives.phi] if several else Objectives.phi,
        help="weight of the length loss: the speed budget" + ("; several values give a trade-off" if several else ""),
    )
    group.add_argument(
        "--predictor-learning-rate", type=float, help="default: the backbone's, or 3e-3 with --freeze-backbone"
    )
    group.add_argument(
        "--contribution-hidden-size",
        type=int,
        default=Objectives.contribution_hidden_size,
        help="width of the predictors' hidden layer (default: 32, the paper's)",
    )
    group.add_argument("--eta-learning-rate", type=float, default=Objectives.eta_learning_rate)
    group.add_argument(
        "--gradient-slope",
        type=float,
        default=Objectives.gradient_slope,
        help="bound on the slope of soft removal's gradient; inf is the paper's (default: %(default)s)",
    )
    group.add_argument(
        "--max-slope",
        type=float,
        help="bound on the slope itself (default: none, the paper's schedule)",
    )
    group.add_argument(
        "--average-decay",
        type=float,
        default=Objectives.average_decay,
        help="of a running average of the weights, which is then what is evaluated and kept, such as .99; "
        "it needs as many more bytes as what trains (default: 0, no average)",
    )
    group.add_argument("--max-drop", type=float, default=Objectives.max_drop, help="of the validation score")
    group.add_argument(
        "--freeze-backbone",
        action="store_true",
        help="post-hoc mode: train predictors and thresholds on a fine-tuned classifier, which stays as it is",
    )


def settings_of(args: argparse.Namespace) -> Settings:
    return Settings(**{setting.name: getattr(args, setting.name) for setting in fields(Settings)})


def objectives_of(args: argparse.Namespace, *, phi: float | None = None) -> Objectives:
    values = {name.name: getattr(args, name.name) for name in fields(Objectives)}
    return Objectives(**(values if phi is None else {**values, "phi": phi}))


@dataclass(frozen=True)
class Prepared:
    """A task, a tokenizer, the encoded splits, and how they were encoded (JSON-ready)."""

    task: Task
    tokenizer: Any
    encoded: datasets.DatasetDict
    encoding: dict[str, Any]


def _max_length(args: argparse.Namespace, config: Any, *, task: Task, model: str | Path) -> int:
    """The longest input: what was asked for, or the task's own as far as the model has positions."""
    limit = max_positions(getattr(config, "backbone_config", config))
    asked: int | None = args.max_length
    if asked is None:
        return min(task.max_length, limit)
    if not 3 <= asked <= limit:
        raise ArgumentError(f"--max-length: {asked} is not between 3 and the {limit} positions of {model}")
    return asked


def prepare(args: argparse.Namespace, model: str | Path, *, splits: tuple[str, ...]) -> Prepared:
    """Load and encode what the task options name, with a model's tokenizer, for its positions and in its label order.

    Raises:
        ArgumentError: a split that the task does not have, a limit below 1, a length that the model cannot read,
            or a kind of model that is not supported.
        DataError, CheckpointError: from the readers.
    """
    task = load_task(args.task, data_dir=args.data_dir)
    missing = [split for split in splits if split not in task.dataset]
    if missing:
        raise ArgumentError(f"--task: {args.task} has no split {missing[0]!r}; it has {', '.join(task.dataset)}")
    config = read_config(model)
    if is_fine_tuned(config):
        task = in_label_order(task, [str(config.id2label[index]) for index in range(config.num_labels)])
    max_length = _max_length(args, config, task=task, model=model)
    tokenizer = load_tokenizer(model)
    if is_main():
        for note in task.notes:
            print(f"note: {note}")
    encoded = {}
    for split in splits:
        rows = task.dataset[split]
        if split == "train" and args.limit is not None:
            if args.limit < 1:
                raise ArgumentError(f"--limit: {args.limit} is not at least 1")
            rows = rows.shuffle(seed=getattr(args, "seed", 0)).select(range(min(args.limit, rows.num_rows)))
        encoded[split] = encode(
            rows,
            tokenizer,
            columns=task.columns,
            max_length=max_length,
            policy=(args.train_documents if split == "train" else None) or args.long_documents,
            stride=args.stride,
        )
    names = ("long_documents", "train_documents", "stride")
    encoding = {"max_length": max_length, **{name: getattr(args, name) for name in names}}
    return Prepared(task, tokenizer, datasets.DatasetDict(encoded), {**encoding, "limit": args.limit})
