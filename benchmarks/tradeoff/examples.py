"""The qualitative figure: texts whose tokens drop layer by layer, chosen by a rule and not by eye.

    python -m benchmarks.tradeoff.examples --data-root DATA --model sst2=RUN/phi-0.004 qnli=RUN/phi-0.004 \\
      --output results/tradeoff/examples

The rule: of the test texts that the model classifies correctly with removal, those whose length is the median length of
the split (if there are fewer than NEEDED, the nearest lengths as well); of those, the ones whose FLOPs speedup is
nearest the median speedup of all correctly classified texts; of equal ones, the first in the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from adapler import AdapLeRForSequenceClassification
from adapler.data.encoding import encode, load_tokenizer
from adapler.data.tasks import load_task
from adapler.errors import ArgumentError, run_command
from adapler.inference.predict import predict_dataset
from adapler.model.batching import pad_rows
from adapler.model.flops import adapler_flops, backbone_flops
from adapler.training.records import read_record
from analysis.figures import save_figure
from analysis.figures.document import LABEL, document_height, plot_document
from analysis.figures.passage import excerpt, margin
from analysis.figures.style import PaperFigure, literal, styled, venue
from analysis.results.records import DocumentScores
from benchmarks.tradeoff.data import TASK_TITLES, data_of
from benchmarks.tradeoff.systems import TASKS

NEEDED = 10  # texts to choose from
TITLE = 0.2  # inches above a text
GAP = 0.1
LINES = 3  # of an excerpt, where a text is longer


@dataclass(frozen=True)
class Example:
    """A chosen text.

    Attributes:
        title: what stands above it.
        document: its tokens, scores and fate.
    """

    title: str
    document: DocumentScores


def select(lengths: ArrayLike, speedups: ArrayLike, correct: ArrayLike, *, number: int) -> list[int]:
    """Row numbers by the rule at the top of this file, nearest first.

    Args:
        lengths, speedups: of each text, in tokens and in FLOPs.
        correct: whether it is classified correctly.
        number: how many.

    Raises:
        ArgumentError: fewer texts are classified correctly.
    """
    tokens, gains, right = np.asarray(lengths), np.asarray(speedups), np.flatnonzero(np.asarray(correct))
    if len(right) < number:
        raise ArgumentError(f"--examples: {number}, but only {len(right)} test texts are classified correctly")
    off = np.abs(tokens[right] - np.median(tokens))
    widest = np.sort(off)[min(len(off), max(NEEDED, number)) - 1]
    near = right[off <= widest]
    distance = np.abs(gains[near] - np.median(gains[right]))
    return [int(row) for row in near[np.argsort(distance, kind="stable")][:number]]


def examples_of(task: str, data: str, folder: Path, *, scale: float, number: int) -> list[Example]:
    """The texts of a task that the rule chooses for a model.

    Raises:
        ArgumentError: the task has no test split. DataError, CheckpointError: from the readers.
    """
    model = AdapLeRForSequenceClassification.from_pretrained(folder).for_inference(dtype="float32")
    loaded = load_task(data)
    if "test" not in loaded.dataset:
        raise ArgumentError(f"--model: {task} ({data}) has no test split")
    tokenizer = load_tokenizer(folder, words=loaded.is_split_into_words)
    length = int(read_record(folder)["encoding"]["max_length"])
    rows = encode(loaded.dataset["test"], tokenizer, columns=loaded.columns, max_length=length)
    pad = tokenizer.pad_token_id
    found = predict_dataset(model, rows, pad_token_id=pad, removal="hard", threshold_scale=scale)
    spent = adapler_flops(model.config, found.lengths_in, found.lengths)
    gains = (backbone_flops(model.config, found.lengths_in) / spent).numpy()
    predicted = found.logits.argmax(-1)
    correct = (predicted == torch.tensor(rows["labels"])).numpy()
    examples = []
    for row in select(found.lengths_in.numpy(), gains, correct, number=number):
        label = loaded.labels[int(predicted[row])]
        title = f"{TASK_TITLES[task]}, {rows['id'][row]}: {label}, {gains[row]:.2f}×, {found.lengths_in[row]} tokens"
        examples.append(Example(title, document_of(model, tokenizer, rows[row], scale=scale, label=label)))
    return examples


def document_of(model: Any, tokenizer: Any, row: dict[str, Any], *, scale: float, label: str) -> DocumentScores:
    """An encoded row as a document for the figures.

    Of a pair, the separator between the texts is shown as a word, so that one sees where the second begins.
    """
    inputs = pad_rows([row], pad_token_id=tokenizer.pad_token_id, device=model.device)
    with torch.inference_mode():
        output = model(**inputs, removal="hard", threshold_scale=scale)
    tokens = tokenizer.convert_ids_to_tokens(row["input_ids"])
    special = set(tokenizer.all_special_tokens)
    words, word = [], -1
    for place, token in enumerate(tokens):
        outside = place == 0 or place == len(tokens) - 1
        goes_on = token.startswith("##") and not outside
        word += 0 if goes_on or (outside and token in special) else 1
        words.append(-1 if outside and token in special else word)
    n = len(tokens)
    return DocumentScores(
        id=str(row["id"]),
        tokens=tuple(tokens),
        words=np.array(words),
        rationale=np.zeros(n, dtype=bool),
        scores={"cp": output.contribution_scores[0, :, :n].float().numpy()},
        retention=output.retention_mask[0, :, :n].numpy(),
        prediction=label,
        label=label,
    )


@styled
def examples_figure(examples: Sequence[Example], *, style: str = "acl") -> Figure:
    """Every text at every layer, one below the other: shades are contribution scores, dropped tokens are pale."""
    width = venue(style).text
    heights = []
    for one in examples:
        placed = excerpt(one.document, width=72 * width - LABEL - margin(), n_lines=LINES)
        heights.append(document_height(len(one.document.scores["cp"]), 1 + max(token.line for token in placed)))
    total = sum(heights) + len(examples) * (TITLE + GAP)
    figure = PaperFigure(figsize=(width, total))
    top = total
    for one, height in zip(examples, heights, strict=True):
        top -= TITLE
        ax = figure.add_axes((0.0, (top - height) / total, 1.0, height / total))
        layers = tuple(range(len(one.document.scores["cp"])))
        plot_document(one.document, ax, method="cp", layers=layers, n_lines=LINES)
        ax.set_title(literal(one.title), loc="left")
        top -= height + GAP
    return figure


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tradeoff.examples",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", nargs="+", required=True, metavar="TASK=FOLDER", help="trained points, in the figure's order")
    add("--data-root", type=Path, metavar="DIR", help="as of benchmarks.tradeoff")
    add("--examples", type=int, default=1, metavar="N", help="texts of each task (default: 1)")
    add("--threshold-scale", type=float, default=1.0, metavar="S", help="(default: 1)")
    add("--style", choices=("acl", "neurips"), default="acl")
    add("--output", type=Path, default=Path("results/tradeoff/examples"), metavar="STEM", help="files STEM.pdf, ...")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    args = build_parser().parse_args(argv)
    if args.examples < 1:
        raise ArgumentError(f"--examples: {args.examples} is not at least 1")
    examples: list[Example] = []
    for entry in args.model:
        task, equals, folder = entry.partition("=")
        if not equals or task not in TASKS:
            raise ArgumentError(f"--model: {entry!r} is not TASK=FOLDER, TASK one of {', '.join(TASKS)}")
        data = data_of(task, root=args.data_root, given={})
        examples += examples_of(task, data, Path(folder), scale=args.threshold_scale, number=args.examples)
    for path in save_figure(examples_figure(examples, style=args.style), args.output):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
