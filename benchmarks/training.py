"""What an epoch of AdapLeR training costs, in ratios to plain fine-tuning of the same backbone in the same run.

    python benchmarks/training.py
    python benchmarks/training.py --data data/eraser/movies --rows 64 --max-length 512 --output training.json
    python benchmarks/training.py --precision float32 bfloat16 --clock cpu

Eight kinds of AdapLeR training against what `adapler finetune` does, transformers' Trainer on the plain classifier
(without attention dropout, as everywhere here, so that it runs on the fast kernels too): full and post hoc, in the
first epoch of five (new predictors, slope 10, nothing is dropped yet) and in the last one (trained predictors and
thresholds, slope 1e5), each with exact routing of the gradients (two backward passes) and with `--routing local`
(one). Besides, the classifier with transformers' own attention, and on packed rows (`adapler finetune --packed`). Same
rows, batch, order, precision and threads. An epoch is one pass over the rows with the optimiser's steps, without
evaluation.

Every round runs all of them, one after the other, so that a slower moment of the machine meets all. The table has the
median and the range of the rounds' ratios, and the ratio of FLOPs: products of matrices, and attention, of all that is
executed, padding included. bfloat16 is autocast, in both kinds of training.

The goals are in wall clock. `--clock cpu` counts the processor's time of all threads instead: on a machine that does
other work too, wall clock measures that work. With one thread on an idle machine both are the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import datasets
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import PrinterCallback, Trainer, set_seed

from adapler import AdapLeRForSequenceClassification
from adapler.backbones import families
from adapler.distributed import device
from adapler.errors import CommandParser, run_command
from adapler.files import check_output_file, replacing
from adapler.training.arguments import AdapLeRTrainingArguments, precision_name, training_arguments
from adapler.training.collator import PaddingCollator
from adapler.training.settings import Objectives, Routing, Settings, TaskSettings, check_numbers
from adapler.training.stages.finetune import FinetuneTrainer, PackedFinetuneTrainer
from adapler.training.stages.prepare import Prepared, prepare
from adapler.training.trainer import AdapLeRTrainer

FIRST_SLOPE = 10.0  # of five epochs; the slope of a single epoch is 1e5, that of the last one


def _attention(q: Any, k: Any, v: Any, *rest: Any, **options: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(gradient: Any, q: Any, k: Any, v: Any, *rest: Any, **options: Any) -> int:
    return sdpa_backward_flop_count(gradient, q, k, v)


# FlopCounterMode knows the attention kernels of GPUs only; these are its formulas for the CPU's.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def trainers(
    trained: AdapLeRForSequenceClassification, prepared: Prepared, folder: Path, settings: Settings
) -> dict[str, Callable[[], Trainer]]:
    """A maker of a fresh trainer for each kind of training; the first is the baseline."""
    rows = prepared.encoded["train"]
    generator = np.random.default_rng(settings.seed)
    # Any targets will do: the cost is the same.
    saliency = [generator.dirichlet(np.ones(len(ids))).tolist() for ids in rows["input_ids"]]
    with_targets = datasets.Dataset.from_dict({**rows.to_dict(), "saliency": saliency})
    collator = PaddingCollator(prepared.tokenizer)
    quiet = {
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "disable_tqdm": True,
        "logging_strategy": "no",
    }

    def arguments(**extra: Any) -> Any:
        made = training_arguments(settings, folder, **extra)
        for name, value in quiet.items():
            setattr(made, name, value)
        return made

    def plain(*, sdpa: bool = False, packed: bool = False) -> Trainer:
        set_seed(settings.seed)
        model = copy.deepcopy(trained.backbone)
        model.config.problem_type = "single_label_classification"
        if packed:
            families.train_packed(model)
        elif sdpa:
            model.set_attn_implementation("sdpa")
        return (PackedFinetuneTrainer if packed else FinetuneTrainer)(
            model=model,
            metric="accuracy",
            args=arguments(),
            train_dataset=rows,
            data_collator=collator,
        )

    def adapler(*, last: bool, post_hoc: bool, routing: Routing) -> Trainer:
        set_seed(settings.seed)
        model = copy.deepcopy(trained)
        if not last:
            for predictor in model.contribution_predictors:
                predictor.reset_parameters()
            model.eta.data.fill_(model.config.eta_init)
        objectives = Objectives(freeze_backbone=post_hoc, routing=routing, max_slope=None if last else FIRST_SLOPE)
        return AdapLeRTrainer(
            model,
            arguments(kind=AdapLeRTrainingArguments, objectives=objectives, metric_for_best_model="selection"),
            train_dataset=with_targets,
            data_collator=collator,
        )

    kinds: dict[str, Callable[[], Trainer]] = {
        "plain": plain,
        "plain, transformers' attention": partial(plain, sdpa=True),
        "plain, packed": partial(plain, packed=True),
    }
    for routing, post_hoc, last in product(get_args(Routing), (False, True), (False, True)):
        name = f"{'post hoc' if post_hoc else 'full'}, {'last' if last else 'first'}, {routing}"
        kinds[name] = partial(adapler, last=last, post_hoc=post_hoc, routing=routing)
    return kinds


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
# What an epoch may cost, as a share of plain fine-tuning.
GOALS = {"full, first": 1.15, "full, last": 0.75, "post hoc, first": 0.8, "post hoc, last": 0.5}


def seconds_of(make: Callable[[], Trainer], *, clock: Callable[[], float]) -> float:
    """One epoch; building the trainer does not count."""
    trainer = make()
    trainer.remove_callback(PrinterCallback)
    start = clock()
    trainer.train()
    return clock() - start


def flops_of(make: Callable[[], Trainer]) -> int:
    """All products of one epoch."""
    trainer = make()
    trainer.remove_callback(PrinterCallback)
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        trainer.train()
    return int(counter.get_total_flops())


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("checkpoints/movies-minilm"), help="a trained AdapLeR model")
    parser.add_argument("--data", default="data/eraser/sample", help="task folder, or corpus in ERASER layout")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--rows", type=int, default=32, help="training rows of an epoch")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--precision", nargs="+", default=["float32"], choices=["auto", "float32", "bfloat16"], help="one or several"
    )
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS), help="wall clock, or CPU time of all threads")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    args = parser.parse_args(argv)
    check_numbers(args, ("rows", "batch_size", "rounds", "threads"), low=1)
    torch.set_num_threads(args.threads)
    check_output_file(args.output)
    if args.clock == "cpu" and torch.cuda.is_available():
        parser.error("--clock: cpu time says nothing about a GPU, which does the work here")
    task = TaskSettings(task=args.data, max_length=args.max_length, limit=args.rows)
    trained = AdapLeRForSequenceClassification.from_pretrained(args.model)
    prepared = prepare(task, args.model, splits=("train",), seed=Settings().seed)
    found = [measured(trained, prepared, args, precision=name) for name in dict.fromkeys(args.precision)]
    if args.output is not None:
        with replacing(args.output) as partial:
            partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def measured(
    trained: AdapLeRForSequenceClassification, prepared: Prepared, args: argparse.Namespace, *, precision: Any
) -> dict[str, Any]:
    """All kinds of training in one precision: the setting, and for each kind seconds, FLOPs and ratios. Prints them."""
    settings = Settings(epochs=1, batch_size=args.batch_size, precision=precision, warmup=0.0)
    lengths = [len(ids) for ids in prepared.encoded["train"]["input_ids"]]
    with tempfile.TemporaryDirectory() as folder:
        kinds = trainers(trained, prepared, Path(folder), settings)
        flops = {name: flops_of(make) for name, make in kinds.items()}  # this warms up as well
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(args.rounds):
            for name, make in kinds.items():
                seconds[name].append(seconds_of(make, clock=CLOCKS[args.clock]))
    table = {}
    for name in kinds:
        ratios = [own / base for own, base in zip(seconds[name], seconds["plain"], strict=True)]
        table[name] = {
            "seconds": seconds[name],
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "goal": GOALS.get(name.rpartition(", ")[0]),
            "flops": flops[name],
            "flops_ratio": flops[name] / flops["plain"],
        }
    setting = {
        "model": args.model.name,
        "data": Path(args.data).name,
        "rows": len(lengths),
        "mean_length": round(statistics.mean(lengths), 1),
        "max_length": args.max_length,
        "batch_size": args.batch_size,
        "precision": precision_name(precision),
        "clock": args.clock,
        "device": device().type,
        "threads": args.threads,
        "rounds": args.rounds,
        "torch": torch.__version__,
    }
    print(", ".join(f"{name} {value}" for name, value in setting.items()))
    print(f"{'epoch of':<32}{'seconds':>9}{'of plain':>10}{'range':>14}{'goal':>7}{'FLOPs':>8}")
    for name, row in table.items():
        spread = f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}"
        goal = "" if row["goal"] is None else f"{row['goal']:.2f}"
        time_ = statistics.median(seconds[name])
        print(f"{name:<32}{time_:9.2f}{row['ratio']:10.2f}{spread:>14}{goal:>7}{row['flops_ratio']:8.2f}")
    return {"setting": setting, "epochs": table}


if __name__ == "__main__":
    sys.exit(run_command(main))
