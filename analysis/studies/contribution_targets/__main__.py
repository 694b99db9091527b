"""The command `python -m analysis.studies.contribution_targets`."""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapler.errors import ArgumentError, run_command
from adapler.files import replacing
from adapler.model.predictors import predictor_class, predictor_names
from adapler.precision import DTYPES
from analysis import loading
from analysis.documents.alignment import align
from analysis.metrics.plausibility import expected_average_precision
from analysis.studies.contribution_targets.comparison import study
from analysis.studies.contribution_targets.documents import add_averaged, read_documents


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    add("--max-length", type=int, default=512, metavar="N", help="wordpieces of an input (default: 512)")
    add("--ig-steps", type=int, default=16, metavar="N", help="of integrated gradients; 0: without (default: 16)")
    add("--epochs", type=int, default=10, help="over the training documents (default: 10)")
    add("--learning-rate", type=float, default=5e-3, help="of the predictors (default: 0.005)")
    add("--hidden", type=int, default=32, help="width of a predictor's hidden layer (default: 32)")
    add("--dtype", choices=DTYPES, default="float32", help="of the classifier's passes (default: float32)")
    add("--seed", type=int, default=42, help="default: 42")
    add("--output", metavar="DIR", default="reports/contribution-targets", help="default: %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    for name in ("limit", "epochs", "hidden"):
        if getattr(arguments, name) < 1:
            raise ArgumentError(f"--{name}: {getattr(arguments, name)} is not at least 1")
    for name in arguments.predictors:
        predictor_class(name)  # refuses a name that is not known
    classifier, _, tokenizer = loading.load_models(arguments.model, None)
    classifier = copy.deepcopy(classifier).eval()
    corpus = loading.load_corpus(arguments.data)
    missing = [split for split in ("train", arguments.split) if split not in corpus.splits]
    if missing:
        raise ArgumentError(f"--data: {corpus.name} has no split {missing[0]!r}; it has {', '.join(corpus.splits)}")
    order = np.random.default_rng(arguments.seed).permutation(len(corpus.splits["train"]))[: arguments.limit]
    examples = [corpus.splits["train"][int(i)] for i in order]
    labels = [classifier.config.label2id[example.label] for example in examples]
    windows = [align(one, tokenizer, max_length=arguments.max_length).windows[0] for one in examples]
    dtype = loading.choose_format(arguments.dtype, classifier)
    asked: dict[str, Any] = {"mask_token_id": tokenizer.mask_token_id, "dtype": dtype}
    train = read_documents(classifier, windows, labels, ig_steps=arguments.ig_steps, title="train", **asked)
    if arguments.saliency:
        train = add_averaged(train, arguments.saliency)
    scored = []
    for example in corpus.splits[arguments.split]:
        window = align(example, tokenizer, max_length=arguments.max_length).windows[0]
        inside = window.rationale[~window.special]
        if inside.any() and not inside.all():
            scored.append(window)
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
    content = [window.rationale[~window.special] for window in scored]
    chance = float(np.mean([expected_average_precision(int(one.sum()), len(one)) for one in content]))
    print(f"{corpus.name}, {arguments.split}, {len(scored)} documents, {len(train)} to train on; chance {chance:.3f}")
    print("average precision by layer, and of the mean over layers")
    table = frame.pivot(index=["predictor", "target"], columns="layer", values="average_precision")
    rows = frame[["predictor", "target"]].drop_duplicates().itertuples(index=False, name=None)
    print(table.loc[list(rows)].to_string(float_format=lambda value: f"{value:.3f}"))
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"targets-{arguments.split}.csv"
    with replacing(file) as partial:
        frame.assign(chance=chance, dtype=dtype).to_csv(partial, index=False, float_format="%.5g", lineterminator="\n")
    print(f"written to {loading.short_path(file)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
