"""The command `adapler`.

Each command has an options class (`adapler.options` makes its command line and recipes) and a function that does it.
Both are imported when the command runs, so that `adapler --help` answers at once. A user's error is raised as
AdapLeRError and ends as one line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from adapler import __version__
from adapler.distributed import is_main
from adapler.errors import CommandParser, counted, run_command


def run(config: Any) -> None:
    """Run the whole pipeline of a task: fine-tune, compute targets, train, evaluate."""
    from adapler.training import pipeline

    pipeline.run(config)


def finetune(config: Any) -> None:
    """Fine-tune the plain classifier."""
    from adapler.training.pipeline import run_finetune

    record = run_finetune(config)
    if is_main():
        print(f"best validation {record['metric']} {record['best']:.4f}; model in {config.output}")


def targets(config: Any) -> None:
    """Compute the training targets from the best fine-tuning epochs, or from any classifier."""
    from adapler.training.pipeline import run_targets

    record = run_targets(config)
    print(f"targets of {counted(record['rows']['train'], 'row')} in {config.output}")


def train(config: Any) -> None:
    """Train one model with a removal policy."""
    from adapler.training.pipeline import run_train, shortfall

    record = run_train(config)
    if not is_main():
        return
    epoch, metric, exact = record["selected"], record["metric"], record["validation"]
    print(
        f"epoch {epoch['epoch']:g}, step {epoch['step']}: validation {metric} {epoch[metric]:.4f} "
        f"(fine-tuned {record['reference_score']:.4f}), speedup {epoch['speedup']:.2f}x; model in {config.output}"
    )
    if end := record.get("reached"):
        print(f"eta times {end['factor']:.3g}: speedup {end['before']:.2f}x -> {end['speedup']:.2f}x on validation")
    print(f"in {exact['precision']}: {metric} {exact[metric]:.4f}, speedup {exact['speedup']:.2f}x")
    if missed := shortfall(record):
        print(missed)


def speed_up(config: Any) -> None:
    """Make a fine-tuned classifier faster without changing its weights."""
    from adapler.training import pipeline

    folder = pipeline.speed_up(config)
    if is_main():
        print(f"the faster model is in {folder}")


def evaluate(config: Any) -> None:
    """Measure score and FLOPs speedup of a trained model on a split."""
    from adapler.evaluation import evaluation_table
    from adapler.training.evaluation import run_evaluate

    result = run_evaluate(config)
    print(f"{result['task']}, {result['split']}: {counted(result['examples'], 'example')}, in {result['precision']}")
    print(evaluation_table(result))


def calibrate(config: Any) -> None:
    """Measure score, FLOPs and time over threshold scales: the curve behind --speedup and --max-drop."""
    from adapler.calibrate import curve_table
    from adapler.training.evaluation import run_calibrate

    curve, path = run_calibrate(config)
    print(f"{curve.task}, {curve.split}: {counted(curve.examples, 'example')}; {curve.machine}")
    print(curve_table(curve.none, curve.points, metric=curve.metric))
    print(f"{100 * curve.slower_texts:.2g} % of single steps to the next scale cost a text more FLOPs; curve in {path}")


def export(config: Any) -> None:
    """Export a model with its backbone in float16, or as ONNX graphs."""
    from adapler import AdapLeRForSequenceClassification
    from adapler.export import INDEX, export, scale_eta
    from adapler.files import check_output_folder
    from adapler.onnx import DESCRIPTION
    from adapler.text import load_tokenizer

    check_output_folder(config.output, former=(DESCRIPTION if config.onnx else INDEX,))  # which it replaces
    model = AdapLeRForSequenceClassification.from_pretrained(config.model)
    tokenizer, record = load_tokenizer(config.model, words=False), config.model / "run.json"
    scale = config.threshold_scale
    if scale != 1:
        scale_eta(model, scale)
    if not config.onnx:
        size = export(model, config.output, tokenizer=tokenizer, record=record, threshold_scale=scale)
        print(f"{config.output}: {size / 1e6:.1f} MB")
        return
    from adapler.onnx import export_onnx

    options: dict[str, Any] = {"int8": config.int8, "record": record, "threshold_scale": scale}
    written = export_onnx(model, config.output, tokenizer=tokenizer, **options)
    kind = "int8, from float32, nothing dropped" if config.int8 else "float32, from PyTorch"
    for name, size in written.sizes.items():
        difference = written.differences[name]
        print(f"{config.output / name}: {size / 1e6:.1f} MB; logits differ by at most {difference:.1g} ({kind})")


def card(config: Any) -> None:
    """Write a model card, README.md, from a model's records and evaluations."""
    from adapler.card import write_card

    path, notes = write_card(config)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{path}; read it, and say under Limits what the model is not for")


def predict(words: Sequence[str]) -> None:
    """Classify texts."""
    from adapler.predict import main

    main(words)


def data(words: Sequence[str]) -> None:
    """Download and describe data."""
    from adapler.data_command import main

    main(words)


_RUN = "adapler run --task sst2 --model google-bert/bert-base-uncased --output runs/sst2"
_TRAIN = "adapler train --task sst2 --finetuned runs/sst2/finetuned --targets runs/sst2/targets --output runs/sst2/one"
_TARGETS = "adapler targets --task sst2 --finetuned runs/sst2/finetuned --output runs/sst2/targets"
_SPEED_UP = "adapler speed-up MODEL --task sst2 --target-speedup 4 --output runs/fast"
_EVALUATE = "adapler evaluate --model runs/sst2/phi-0.0002 --task sst2 --split test --threshold-scale 0.5 1 1.5"
_EXPORT = "adapler export --model runs/movies/post-hoc --output checkpoints/movies"
# What a command does, the name of its options class in `adapler.training.config`, and an example for its help.
COMMANDS: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "run": (run, "RunConfig", _RUN),
    "finetune": (finetune, "FinetuneConfig", _RUN.replace("run ", "finetune ", 1)),
    "targets": (targets, "TargetsConfig", _TARGETS),
    "train": (train, "TrainConfig", _TRAIN),
    "speed-up": (speed_up, "SpeedUpConfig", _SPEED_UP),
    "evaluate": (evaluate, "EvaluateConfig", _EVALUATE),
    "calibrate": (calibrate, "CalibrateConfig", "adapler calibrate --model runs/sst2/phi-0.0002 --task sst2"),
    "export": (export, "ExportConfig", _EXPORT),
    "card": (card, "CardConfig", "adapler card --model runs/sst2/phi-0.0002 --license apache-2.0 --language en"),
}
OTHERS: dict[str, Callable[[Sequence[str]], None]] = {"predict": predict, "data": data}  # parse their words themselves
ALIASES = {"saliency": "targets"}
SHARED = ("finetune", "train", "run", "speed-up")  # done by several processes together; the others by one of them


def options_of(name: str, words: Sequence[str]) -> Any:
    """The options of a command, from the words after its name."""
    from adapler.options import parse, read_recipe
    from adapler.policies import training_class
    from adapler.training import config

    _, options, example = COMMANDS[name]
    cls, presets, known = getattr(config, options), {}, set()
    if name in ("run", "train", "targets"):
        first = CommandParser(add_help=False, allow_abbrev=False)  # the policy decides which options there are
        first.add_argument("--config")
        first.add_argument("--policy")
        given, _ = first.parse_known_args(words)
        recipe = read_recipe(given.config, command=None) if given.config and not given.policy else {}
        kind = training_class(given.policy or recipe.get("policy", config.ADAPLER))
        if name != "targets":
            cls = config.with_options_of(cls, kind.Settings)
            known = {one.name for one in fields(kind.Settings)}
        known |= {one.name for group in (cls, config.TargetOptions) for one in fields(group)}
        presets = {name: {k: v for k, v in values.items() if k in known} for name, values in kind.presets.items()}
    return parse(cls, words, prog=f"adapler {name}", example=example, presets=presets, positional="model")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Errors are raised as AdapLeRError.

    Args:
        argv: the words after `adapler`; default: those of this process.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    name = ALIASES.get(words[0], words[0]) if words else "--help"
    if name == "--version":
        print(f"adapler {__version__}")
        return 0
    if name in ("-h", "--help"):
        print("usage: adapler COMMAND ...\n\nTrain and use classifiers that drop tokens.\n\ncommands:")
        for each, function in ({one: command[0] for one, command in COMMANDS.items()} | OTHERS).items():
            print(f"  {each:<10} {(function.__doc__ or '').splitlines()[0]}")
        print("\nadapler COMMAND --help shows the options of a command.")
        return 0
    if name not in COMMANDS and name not in OTHERS:
        print(f"error: {name!r} is not one of {', '.join([*COMMANDS, *OTHERS])}", file=sys.stderr)
        return 2
    if name not in SHARED and not is_main():
        return 0
    from adapler.registry import load_plugins

    load_plugins()  # first, so that a misspelt module is reported before a name is looked up
    options = options_of(name, words[1:]) if name in COMMANDS else None
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()  # loading weights takes less than a second
    if name in COMMANDS:
        COMMANDS[name][0](options)
    else:
        OTHERS[name](words[1:])
    return 0


def entry() -> None:
    """`adapler` from a shell: errors become one line on stderr and an exit code."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    entry()
