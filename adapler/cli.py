"""The command `adapler`.

Each command has an options class (`adapler.options` makes its command line and recipes) and a function that does it.
Both are imported when the command runs, so that `adapler --help` answers at once. A user's error is raised as
AdapLeRError and ends as one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from adapler import __version__
from adapler.options import CommandParser, load_plugins, parse, read_recipe, user_errors
from adapler.system import is_main

_RUN = "--task sst2 --model google-bert/bert-base-uncased --output runs/sst2"
_TRAIN = "--task sst2 --finetuned runs/sst2/finetuned --targets runs/sst2/targets --output runs/sst2/one"
_TARGETS = "--task sst2 --finetuned runs/sst2/finetuned --output runs/sst2/targets"
_SPEED_UP = "MODEL --task sst2 --target-speedup 4 --output runs/fast"
_EVALUATE = "--model runs/sst2/phi-0.0002 --task sst2 --split test --threshold-scale 0.5 1 1.5"
_CARD = "--model runs/sst2/phi-0.0002 --license apache-2.0 --language en"
# What a command does, its function, its options class (None: it reads its words itself), and its words in an example.
COMMANDS = {
    "run": ("Run the whole pipeline: fine-tune, compute targets, train, evaluate", "pipeline.run", "RunConfig", _RUN),
    "finetune": ("Fine-tune the plain classifier", "pipeline.run_finetune", "FinetuneConfig", _RUN),
    "targets": ("Compute the training targets", "pipeline.run_targets", "TargetsConfig", _TARGETS),
    "train": ("Train one model with a removal policy", "pipeline.run_train", "TrainConfig", _TRAIN),
    "speed-up": ("Make a classifier faster, not changing its weights", "pipeline.speed_up", "SpeedUpConfig", _SPEED_UP),
    "evaluate": ("Measure score and FLOPs speedup", "evaluation.run_evaluate", "EvaluateConfig", _EVALUATE),
    "calibrate": (
        "Measure score, FLOPs and time over threshold scales: the curve behind --speedup and --max-drop",
        "evaluation.run_calibrate",
        "CalibrateConfig",
        "--model runs/sst2/phi-0.0002 --task sst2",
    ),
    "export": (
        "Export a model with its backbone in float16, or as ONNX graphs",
        "export.run_export",
        "ExportConfig",
        "--model runs/movies/post-hoc --output checkpoints/movies",
    ),
    "card": ("Write a model card from a model's records and evaluations", "card.run_card", "CardConfig", _CARD),
    "predict": ("Classify texts", "predict.predict_file", "PredictOptions", ""),
    "data": ("Download and describe data", "data.data_command", None, ""),
}
ALIASES = {"saliency": "targets"}
SHARED = ("finetune", "train", "run", "speed-up")  # done by several processes together; the others by one of them


def options_of(name: str, words: Sequence[str]) -> Any:
    """The options of a command, from the words after its name."""
    from adapler.policies import training_class
    from adapler.training import config

    if name == "predict":
        from adapler.predict import EXAMPLE, PredictOptions

        example = f"adapler predict {EXAMPLE}"
        return parse(PredictOptions, words, prog="adapler predict", example=example, positional="text")
    _, _, options, example = COMMANDS[name]
    cls, presets, known = getattr(config, str(options)), {}, set()
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
    prog = f"adapler {name}"
    return parse(cls, words, prog=prog, example=f"{prog} {example}", presets=presets, positional="model")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, given by the words after `adapler`; returns the exit code. Errors are raised as AdapLeRError."""
    words = sys.argv[1:] if argv is None else list(argv)
    name = ALIASES.get(words[0], words[0]) if words else "--help"
    if name == "--version":
        print(f"adapler {__version__}")
        return 0
    if name in ("-h", "--help"):
        print("usage: adapler COMMAND ...\n\nTrain and use classifiers that drop tokens.\n\ncommands:")
        for each, (does, *_) in COMMANDS.items():
            print(f"  {each:<10} {does}.")
        print("\nadapler COMMAND --help shows the options of a command.")
        return 0
    if name not in COMMANDS:
        print(f"error: {name!r} is not one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    if name not in SHARED and not is_main():
        return 0
    load_plugins()  # first, so that a misspelt module is reported before a name is looked up
    _, path, reads, _ = COMMANDS[name]
    options: Any = words[1:] if reads is None else options_of(name, words[1:])
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()  # loading weights takes less than a second
    module, _, function = path.partition(".")
    home = "adapler.training" if module == "pipeline" else "adapler"
    getattr(import_module(f"{home}.{module}"), function)(options)
    return 0


entry = user_errors()(main)  # `adapler` from a shell: errors become one line on stderr and an exit code
