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
from numpy.typing import ArrayLike, NDArray

from adapler import AdapLeRForSequenceClassification
from adapler.backbones.families import label_names
from adapler.data import in_label_order, load_task
from adapler.errors import ArgumentError, CommandParser, run_command
from adapler.inference.predict import predict_dataset
from adapler.model.flops import adapler_flops, backbone_flops
from adapler.text import encode_dataset, load_tokenizer
from adapler.training.records import read_record
from analysis.documents.windows import SPECIAL
from analysis.explanation.text import word_indices
from analysis.figures import save_figure
from analysis.figures.document import LABEL, document_height, plot_document
from analysis.figures.passage import excerpt, margin
from analysis.figures.style import PaperFigure, literal, styled, venue
from analysis.figures.token_scores import main_method
from analysis.results.records import DocumentScores
from analysis.scores import Batch, get_method
from analysis.scores.contribution import scores_of_removal
from analysis.scores.passes import adapler_pass
from benchmarks.tradeoff.data import TASK_TITLES, data_of
from benchmarks.tradeoff.systems import TASKS

NEEDED = 10  # texts to choose from
TITLE = 0.2  # inches above a text
GAP = 0.1
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
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
        ArgumentError: the task has no test split, or the model was trained on another one. DataError, CheckpointError:
            from the readers.
    """
    record = read_record(folder)
    model = AdapLeRForSequenceClassification.from_pretrained(folder).for_inference(dtype="float32")
    loaded = in_label_order(load_task(data), label_names(model.config))  # the model's numbers, not the file's
    if "test" not in loaded.dataset:
        raise ArgumentError(f"--model: {task} ({data}) has no test split")
    trained = record.get("task", task)
    if trained != loaded.name and not f"{trained}_".startswith(f"{task}_"):  # qnli_dev is of qnli
        raise ArgumentError(f"--model: {folder} was trained on {trained}, not on {task} ({data})")
    tokenizer = load_tokenizer(folder, words=loaded.is_split_into_words)
    tokenizer.truncation_side = "right"  # what `encode` cuts off, whatever side the tokenizer was saved with
    length = int(record["encoding"]["max_length"])
    rows = encode_dataset(loaded.dataset["test"], tokenizer, columns=loaded.columns, max_length=length)
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
        source = loaded.dataset["test"][row]
        words = words_of(tokenizer, [source[column] for column in loaded.columns], max_length=length)
        examples.append(Example(title, document_of(model, tokenizer, rows[row], words=words, scale=scale, label=label)))
    return examples


def words_of(tokenizer: Any, texts: Sequence[str | Sequence[str]], *, max_length: int) -> NDArray[np.int64]:
    """(n,) the word of each token of an encoded row: those of a list, else what stands between white space.

    The first and the last token are special. Of a pair, the separator between the texts is shown as a word, so that one
    sees where the second begins.

    Args:
        tokenizer: a fast one.
        texts: a text, or a pair (of a list of words and a query: the query as it stands in the data).
        max_length: as in `adapler.text.encode`, which cuts the same.
    """
    split = not isinstance(texts[0], str)
    read: list[Any] = [one.split() if split and isinstance(one, str) else one for one in texts]
    read = [one for one in read if one] if split else read  # an empty query is none
    encoding = tokenizer(
        *read,
        is_split_into_words=split,
        truncation="only_first" if split or len(read) == 1 else "longest_first",
        max_length=max_length,
        return_offsets_mapping=True,
    )
    segments, within = encoding.sequence_ids(0), list(encoding.word_ids(0))  # (n,) each
    if not split:
        for segment, text in enumerate(read):
            own = [place for place, one in enumerate(segments) if one == segment]
            found = word_indices(text, [encoding["offset_mapping"][place] for place in own])
            for place, word in zip(own, found, strict=True):
                within[place] = word
    words: list[int] = []
    last = len(segments) - 1
    for place, segment in enumerate(segments):
        if segment is None:
            words.append(SPECIAL if place in (0, last) else max(words) + 1)
            continue
        goes_on = place > 0 and (segments[place - 1], within[place - 1]) == (segment, within[place])
        words.append(max(words, default=SPECIAL) + (0 if goes_on else 1))
    return np.array(words, dtype=np.int64)


def document_of(
    model: Any, tokenizer: Any, row: dict[str, Any], *, words: NDArray[np.int64], scale: float, label: str
) -> DocumentScores:
    """An encoded row as a document for the figures, with the scores of the model's own policy; words: of each token."""
    inputs = {name: torch.tensor([row[name]], device=model.device) for name in INPUTS if row.get(name) is not None}
    batch = Batch(ids=(str(row["id"]),), **inputs, threshold_scale=scale)
    method = scores_of_removal(model)
    n = len(row["input_ids"])
    return DocumentScores(
        id=str(row["id"]),
        tokens=tuple(tokenizer.convert_ids_to_tokens(row["input_ids"])),
        words=words,
        rationale=np.zeros(n, dtype=bool),
        scores={method: get_method(method)(model, batch).scores[0].cpu().numpy()},
        retention=adapler_pass(model, batch).retention_mask[0].cpu().numpy(),
        prediction=label,
        label=label,
    )


@styled
def examples_figure(examples: Sequence[Example], *, style: str = "acl") -> Figure:
    """Every text at every layer, one below the other: shades are the policy's scores, dropped tokens are pale."""
    width = venue(style).text
    heights = []
    for one in examples:
        placed = excerpt(one.document, width=72 * width - LABEL - margin(), n_lines=LINES)
        heights.append(document_height(one.document.n_layers, 1 + max(token.line for token in placed)))
    total = sum(heights) + len(examples) * (TITLE + GAP)
    figure = PaperFigure(figsize=(width, total))
    top = total
    for one, height in zip(examples, heights, strict=True):
        top -= TITLE
        ax = figure.add_axes((0.0, (top - height) / total, 1.0, height / total))
        layers = tuple(range(one.document.n_layers))
        method = main_method(one.document)  # the policy, which every layer has
        plot_document(one.document, ax, method=method, layers=layers, n_lines=LINES, layerwise=True)
        ax.set_title(literal(one.title), loc="left")
        top -= height + GAP
    return figure


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = CommandParser(
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
