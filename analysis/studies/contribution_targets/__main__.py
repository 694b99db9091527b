"""The command `python -m analysis.studies.contribution_targets`."""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapler.eraser import queries_differ
from adapler.errors import ArgumentError, CommandParser, run_command
from adapler.files import check_output_file, replacing
from adapler.model.predictors import predictor_class, predictor_names
from adapler.precision import DTYPES
from analysis import loading
from analysis.documents.alignment import align
from analysis.documents.windows import Window
from analysis.evaluation.fit import gold_indices, input_length
from analysis.metrics.plausibility import expected_average_precision
from analysis.studies.contribution_targets.comparison import study
from analysis.studies.contribution_targets.documents import add_averaged, read_documents

MOST_SEED = 2**63 - 1  # that PyTorch takes


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m analysis.studies.contribution_targets",
        description="Which predictor and which training target rank human rationales best.",
        epilog="example:\n  python -m analysis.studies.contribution_targets --data data/eraser/movies --limit 400",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", metavar="DIR_OR_HUB", help="a fine-tuned classifier (default: that of the embedded checkpoint)")
    add("--data", metavar="DIR_OR_TAR", help="a corpus in ERASER layout (default: data/eraser/movies, else sample)")
    add(
        "--predictors",
        nargs="+",
        default=["mlp", "contextual"],
        metavar="NAME",
        help=f"of {', '.join(predictor_names())} (default: mlp contextual); mlp learns every target, others four",
    )
    add("--split", default="val", help="where average precision is measured (default: val)")
    add("--saliency", metavar="DIR", help="what `adapler saliency` wrote: its targets as well")
    add("--limit", type=int, default=400, metavar="N", help="training documents (default: 400)")
    add(
        "--max-length",
        type=int,
        metavar="N",
        help="wordpieces of an input (default: 512, or what the model takes if that is less)",
    )
    add("--ig-steps", type=int, default=16, metavar="N", help="of integrated gradients; 0: without (default: 16)")
    add("--epochs", type=int, default=10, help="over the training documents (default: 10)")
    add("--learning-rate", type=float, default=5e-3, help="of the predictors (default: 0.005)")
    add("--hidden", type=int, default=32, help="width of a predictor's hidden layer (default: 32)")
    add("--dtype", choices=DTYPES, default="float32", help="of the classifier's passes (default: float32)")
    add("--seed", type=int, default=42, help="default: 42")
    add("--output", metavar="DIR", default="reports/contribution-targets", help="default: %(default)s")
    return parser


def _check_numbers(arguments: argparse.Namespace) -> None:
    """ArgumentError that names the option for a number out of its range."""
    for name, least in (("limit", 1), ("epochs", 1), ("hidden", 1), ("ig_steps", 0), ("seed", 0), ("max_length", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ArgumentError(f"--{name.replace('_', '-')}: {value} is not at least {least}")
    if arguments.seed > MOST_SEED:
        raise ArgumentError(f"--seed: {arguments.seed} is not at most {MOST_SEED}")
    if not 0 < arguments.learning_rate < math.inf:
        raise ArgumentError(f"--learning-rate: {arguments.learning_rate} is not a number over 0")


def _drawn(documents: Sequence[Any], limit: int, *, seed: int) -> list[Any]:
    """So many documents in a random order."""
    order = np.random.default_rng(seed).permutation(len(documents))[:limit]
    return [documents[int(i)] for i in order]


def _windows(documents: Sequence[Any], tokenizer: Any, *, length: int, with_query: bool) -> list[Window]:
    """The first window of each."""
    return [align(one, tokenizer, max_length=length, with_query=with_query).windows[0] for one in documents]


def _says_something(window: Window) -> bool:
    """Whether average precision does: with a rationale in view, and with other words."""
    inside = window.rationale[~window.special]
    return bool(inside.any() and not inside.all())


def _chance(windows: Sequence[Window]) -> float:
    """Average precision that a random order has."""
    content = [window.rationale[~window.special] for window in windows]
    return float(np.mean([expected_average_precision(int(one.sum()), len(one)) for one in content]))


def _table(frame: pd.DataFrame) -> str:
    """A row for each predictor and target, in the order of the study."""
    table = frame.pivot(index=["predictor", "target"], columns="layer", values="average_precision")
    rows = frame[["predictor", "target"]].drop_duplicates().itertuples(index=False, name=None)
    table = table.reindex(columns=frame["layer"].unique())  # as text 10 comes before 2
    return table.loc[list(rows)].to_string(float_format=lambda value: f"{value:.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    _check_numbers(arguments)
    file = Path(arguments.output) / f"targets-{arguments.split}.csv"
    check_output_file(file)
    for name in arguments.predictors:
        predictor_class(name)  # refuses a name that is not known
    classifier, _, tokenizer = loading.load_models(arguments.model, None)
    classifier = copy.deepcopy(classifier).eval()
    corpus = loading.load_corpus(arguments.data, split=arguments.split)
    missing = [split for split in ("train", arguments.split) if split not in corpus.splits]
    if missing:
        raise ArgumentError(f"--data: {corpus.name} has no split {missing[0]!r}; it has {', '.join(corpus.splits)}")
    examples = _drawn(corpus.splits["train"], arguments.limit, seed=arguments.seed)
    labels = gold_indices(classifier, corpus, examples)
    length = input_length(classifier, arguments.max_length)
    view: dict[str, Any] = {"length": length, "with_query": queries_differ(corpus)}
    windows = _windows(examples, tokenizer, **view)
    scored = [one for one in _windows(corpus.splits[arguments.split], tokenizer, **view) if _says_something(one)]
    if not scored:
        raise ArgumentError(
            f"--split: no document of {arguments.split!r} of {corpus.name} has a rationale, and other words, in view"
        )
    dtype, note = loading.choose_format(arguments.dtype, classifier)
    if note:
        print(note, file=sys.stderr)
    asked: dict[str, Any] = {"mask_token_id": tokenizer.mask_token_id, "dtype": dtype}
    train = read_documents(classifier, windows, labels, ig_steps=arguments.ig_steps, title="train", **asked)
    if arguments.saliency:
        train = add_averaged(train, arguments.saliency)
    validation = read_documents(classifier, scored, None, ig_steps=0, title=arguments.split, **asked)
    frame = study(
        train,
        validation,
        predictors=arguments.predictors,
        epochs=arguments.epochs,
        rate=arguments.learning_rate,
        hidden=arguments.hidden,
        seed=arguments.seed,
    )
    chance = _chance(scored)
    print(f"{corpus.name}, {arguments.split}, {len(scored)} documents, {len(train)} to train on; chance {chance:.3f}")
    print("average precision by layer, and of the mean over layers")
    print(_table(frame))
    with replacing(file) as partial:
        frame.assign(chance=chance, dtype=dtype).to_csv(partial, index=False, float_format="%.5g", lineterminator="\n")
    print(f"written to {loading.short_path(file)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
