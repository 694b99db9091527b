"""The command `adapler`: its sub-commands, each with the options that its settings make.

Nothing heavy is imported here: `adapler --help` needs neither torch nor transformers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from adapler import __version__
from adapler.cli import commands
from adapler.cli.options import add_options
from adapler.distributed import is_main
from adapler.errors import ArgumentError, CommandParser, run_command
from adapler.registry import load_plugins
from adapler.training.stages import settings

# Commands that several processes do together; of the others, one process does all and the rest have nothing to do.
SHARED = ("finetune", "train", "run")

_MODEL = "google-bert/bert-base-uncased"


def _example(text: str) -> dict[str, Any]:
    return {"epilog": f"example:\n  {text}", "formatter_class": argparse.RawDescriptionHelpFormatter}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands but `data`, which has its own."""
    parser = CommandParser(prog="adapler", description="Train and use classifiers that drop tokens.")
    parser.add_argument("--version", action="version", version=f"adapler {__version__}")
    found = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, example: str, cls: type | None = None) -> argparse.ArgumentParser:
        sub = found.add_parser(name, help=text, description=text, **_example(example))
        sub.set_defaults(run=run)
        if cls is not None:
            add_options(sub, cls)
        return sub

    command(
        "run",
        commands.pipeline_command,
        "the whole pipeline of a task: fine-tune, saliency, train, evaluate; goes on where it was stopped",
        f"adapler run --task sst2 --model {_MODEL} --output runs/sst2 --gamma 0.005 --phi 0.0005\n"
        "  adapler run --config configs/sst2/distilbert-post-hoc.yaml --output runs/sst2",
        settings.RunSettings,
    )
    command(
        "finetune",
        commands.finetune_command,
        "fine-tune the plain backbone: the baseline, and the source of saliency",
        f"adapler finetune --task sst2 --model {_MODEL} --output runs/sst2/finetuned",
        settings.FinetuneSettings,
    )
    command(
        "saliency",
        commands.saliency_command,
        "saliency targets of the training set from the best fine-tuning epochs, or from any classifier",
        "adapler saliency --task sst2 --finetuned runs/sst2/finetuned --output runs/sst2/saliency",
        settings.SaliencySettings,
    )
    command(
        "train",
        commands.train_command,
        "train AdapLeR",
        "adapler train --task sst2 --finetuned runs/sst2/finetuned --saliency runs/sst2/saliency "
        "--freeze-backbone --output runs/sst2/post-hoc",
        settings.TrainSettings,
    )
    command(
        "evaluate",
        commands.evaluate_command,
        "score and FLOPs speedup of a trained model on a split",
        "adapler evaluate --model runs/sst2/phi-0.0005 --task sst2 --split test --threshold-scale 0.5 1 1.5",
        settings.EvaluateSettings,
    )
    command(
        "calibrate",
        commands.calibrate_command,
        "measure score, FLOPs and time over threshold scales, so that a speed or a score can be asked for",
        "adapler calibrate --model runs/sst2/phi-0.0005 --task sst2",
        settings.CalibrateSettings,
    )
    command("predict", None, "classify texts", "adapler predict --model checkpoints/movies-minilm 'superb acting'")
    command(
        "export",
        commands.export_command,
        "copy a model with its backbone's weights stored as float16, or as ONNX graphs",
        "adapler export --model runs/movies/post-hoc --output checkpoints/movies\n"
        "  adapler export --onnx --int8 --model runs/movies/post-hoc --output movies-onnx",
        settings.ExportSettings,
    )
    command(
        "card",
        commands.card_command,
        "write a model card, README.md, from what was recorded and measured of a model",
        "adapler card --model runs/sst2/phi-0.0005 --license apache-2.0 --language en",
        settings.CardSettings,
    )
    command(
        "tradeoff",
        commands.tradeoff_command,
        "collect score and speedup of several runs, epoch by epoch, into one CSV",
        "adapler tradeoff runs/sst2/phi-0.0005 runs/sst2/phi-0.001 --output tradeoff.csv",
        settings.TradeoffSettings,
    )
    command("data", None, "download and describe data", "adapler data show data/eraser/sample")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Errors are raised as AdapLeRError.

    Args:
        argv: the words after `adapler`; default: those of this process.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    _check_text(words)
    if words[:1] == ["data"]:
        from adapler.data_command import main as data_main

        return data_main(words[1:]) if is_main() else 0
    if words[:1] == ["predict"]:
        from adapler.predict import main as predict_main

        return predict_main(words[1:]) if is_main() else 0
    args = build_parser().parse_args(words)
    if args.command not in SHARED and not is_main():
        return 0
    load_plugins()  # a misspelt module is told of now, and not when a name is looked up
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()  # of loading weights, which takes less than a second
    return int(args.run(args))


def _check_text(words: Sequence[str]) -> None:
    """Raises ArgumentError for a word that was no text: bytes that are not UTF-8 become half characters."""
    for number, word in enumerate(words, start=1):
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise ArgumentError(f"argument {number}: {ascii(word)[:80]} holds bytes that are not UTF-8 text")


def entry() -> None:
    """`adapler` from a shell: errors become one line on stderr and an exit code."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    entry()
