"""The command `adapler`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers

from adapler.cli import commands as does
from adapler.cli import predict
from adapler.data import command as data_command
from adapler.distributed import is_main
from adapler.errors import run_command
from adapler.training.stages.options import add_objectives, add_settings, add_task_options

# Commands that several processes do together; of the others, one process does all and the rest have nothing to do.
SHARED = ("finetune", "train", "run")


def _example(text: str) -> dict[str, Any]:
    return {"epilog": f"example:\n  {text}", "formatter_class": argparse.RawDescriptionHelpFormatter}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adapler", description="Train and use classifiers that drop tokens.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, **_example(example))
        sub.set_defaults(run=run)
        return sub

    model = "google-bert/bert-base-uncased"
    sub = command(
        "run",
        does.run_command,
        "the whole pipeline of a task: fine-tune, saliency, train, evaluate; goes on where it was stopped",
        f"adapler run --task sst2 --model {model} --output runs/sst2 --gamma 0.005 --phi 0.0005\n"
        "  adapler run --task sst2 --classifier distilbert/distilbert-base-uncased-finetuned-sst-2-english \\\n"
        "    --freeze-backbone --output runs/sst2",
    )
    group = sub.add_mutually_exclusive_group(required=True)
    group.add_argument("--model", help="pre-trained encoder: hub name or folder")
    group.add_argument("--classifier", help="instead, a classifier fine-tuned already: hub name or folder")
    sub.add_argument("--output", type=Path, required=True, help="run folder")
    sub.add_argument("--start", choices=("pretrained", "finetuned"), default="pretrained", help="of AdapLeR training")
    sub.add_argument("--finetune-epochs", type=int, help="default: --epochs")
    sub.add_argument("--finetune-learning-rate", type=float, help="default: --learning-rate")
    sub.add_argument("--reinit-head", choices=("auto", "yes", "no"), default="auto")
    sub.add_argument("--half", action="store_true", help="round the fine-tuned weights to float16's grid")
    sub.add_argument("--saliency-epochs", type=int, default=3, help="fine-tuning epochs to average (default: 3)")
    add_task_options(sub)
    add_settings(sub)
    add_objectives(sub, several=True)

    sub = command(
        "finetune",
        does.finetune_command,
        "fine-tune the plain backbone: the baseline, and the source of saliency",
        f"adapler finetune --task sst2 --model {model} --output runs/sst2/finetuned",
    )
    sub.add_argument("--model", required=True, help="pre-trained encoder: hub name or folder")
    sub.add_argument("--output", type=Path, required=True)
    sub.add_argument("--reinit-head", choices=("auto", "yes", "no"), default="auto", help="new pooler and classifier")
    sub.add_argument("--half", action="store_true", help="round the weights to float16's grid")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")
    add_task_options(sub)
    add_settings(sub)

    sub = command(
        "saliency",
        does.saliency_command,
        "saliency targets of the training set from the best fine-tuning epochs, or from any classifier",
        "adapler saliency --task sst2 --finetuned runs/sst2/finetuned --output runs/sst2/saliency",
    )
    group = sub.add_mutually_exclusive_group(required=True)
    group.add_argument("--finetuned", type=Path, help="what `adapler finetune` wrote")
    group.add_argument("--model", help="instead, a classifier fine-tuned elsewhere: hub name or folder")
    sub.add_argument("--output", type=Path, required=True)
    sub.add_argument("--epochs", type=int, default=3, help="how many epochs to average (default: 3)")
    sub.add_argument("--seed", type=int, default=42, help="of --limit")
    sub.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    add_task_options(sub)

    sub = command(
        "train",
        does.train_command,
        "train AdapLeR",
        "adapler train --task sst2 --finetuned runs/sst2/finetuned --saliency runs/sst2/saliency "
        "--freeze-backbone --output runs/sst2/post-hoc",
    )
    sub.add_argument("--finetuned", type=Path, help="what `adapler finetune` wrote: start and reference score")
    sub.add_argument(
        "--model",
        help="where the backbone starts instead: the pre-trained encoder, as in the paper, or a classifier fine-tuned "
        "elsewhere (hub name or folder)",
    )
    sub.add_argument(
        "--reference-score",
        type=float,
        help="default: the best validation score in --finetuned, or that of the classifier in --model, measured",
    )
    sub.add_argument("--saliency", type=Path, required=True, help="what `adapler saliency` wrote")
    sub.add_argument("--output", type=Path, required=True)
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")
    sub.add_argument("--keep-epochs", action="store_true", help="keep every epoch's checkpoint")
    add_task_options(sub)
    add_settings(sub)
    add_objectives(sub)

    sub = command(
        "evaluate",
        does.evaluate_command,
        "score and FLOPs speedup of a trained model on a split",
        "adapler evaluate --model runs/sst2/adapler --task sst2 --split test --threshold-scale 0.5 1 1.5",
    )
    sub.add_argument("--model", type=Path, required=True, help="AdapLeR model folder")
    sub.add_argument("--split", default="test", choices=("train", "validation", "test"))
    sub.add_argument("--threshold-scale", type=float, nargs="+", default=[1.0], help="factors on every eta")
    sub.add_argument("--token-budget", type=int, default=8192, help="padded tokens in a batch")
    sub.add_argument("--output", type=Path, help="write the result as JSON")
    add_task_options(sub)

    sub = command("predict", predict.run, "classify texts", "")
    predict.add_arguments(sub)

    sub = command(
        "export",
        does.export_command,
        "copy a model with its backbone's weights stored as float16",
        "adapler export --model runs/movies/post-hoc --output checkpoints/movies",
    )
    sub.add_argument("--model", type=Path, required=True)
    sub.add_argument("--output", type=Path, required=True)

    sub = command(
        "tradeoff",
        does.tradeoff_command,
        "collect score and speedup of several runs, epoch by epoch, into one CSV",
        "adapler tradeoff runs/sst2/phi-0.0005 runs/sst2/phi-0.001 --output tradeoff.csv",
    )
    sub.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="what `adapler train` or `run` wrote")
    sub.add_argument("--split", choices=("validation", "test"), default="validation", help="default: validation")
    sub.add_argument("--output", type=Path, required=True, metavar="FILE.csv")

    sub = command("data", data_command.run, "download and describe data", "adapler data stats data/eraser/sample")
    data_command.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    transformers.logging.set_verbosity_error()
    if args.command not in SHARED and not is_main():
        return 0
    return int(args.run(args))


def entry() -> None:
    sys.exit(run_command(main))


if __name__ == "__main__":
    entry()
