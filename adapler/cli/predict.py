"""`adapler predict`: texts from the command line, a file or standard input, classified and written row by row.

The input is read, classified and written some thousand rows at a time, so memory does not grow with the file:

    adapler.data.texts          rows, good and bad
    adapler.cli.predict_model   the good rows of a shard -> one result each
    adapler.cli.predict_output  row and result -> a line of a partial file, which becomes the output at the end
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from adapler.cli.budget import add_targets, check_target
from adapler.cli.predict_model import POLICIES, Classifier, encoding_of
from adapler.cli.predict_output import output_row, writer
from adapler.data.texts import FORMATS, STDIN, TextRow, TextSource, shards
from adapler.errors import ArgumentError, DataError
from adapler.training.settings import PRECISIONS

__all__ = ["add_arguments", "run"]

SHARD_ROWS = 4096
SHOWN_ERRORS = 20  # bad rows that are named on the screen; all are in the output

EXAMPLES = """examples:
  adapler predict --model checkpoints/movies-minilm "a film that never once bores"
  adapler predict --model checkpoints/movies-minilm --input reviews.csv --text-column review --id-column key \\
    --keep stars --output labels.csv
  head -100 reviews.txt | adapler predict --model checkpoints/movies-minilm --input -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `adapler predict`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("text", nargs="*", help="texts")
    add("--model", required=True, help="AdapLeR model: folder or hub name")
    add("--removal", choices=("hard", "none"), default="hard", help="none: the classifier without dropping tokens")
    add("--threshold-scale", type=float, help="factor on every eta (default: 1)")
    add_targets(parser)
    add("--max-length", type=int, help="longest input in wordpieces (default: as in training, by run.json)")
    add(
        "--long-documents",
        choices=POLICIES,
        help="what becomes of longer texts: the first wordpieces, the last ones, or windows whose logits are averaged "
        "(default: as in training, by run.json; otherwise truncate)",
    )
    add("--stride", type=int, help="overlap of windows, in wordpieces")
    add("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:N, or mps")
    add("--precision", choices=PRECISIONS, default="float32", help="bfloat16: autocast (default: float32)")
    group = parser.add_argument_group("files")
    add = group.add_argument
    add("--input", type=Path, help="a .jsonl, .csv, .tsv, .parquet or .txt (one text a line), or - for standard input")
    add("--format", choices=FORMATS, help="of the input (default: by its name; standard input: lines)")
    add("--text-column", help="column of the texts (default: text, or text_a)")
    add("--pair-column", help="column of the second texts of pairs (default: text_b beside text_a)")
    add("--id-column", help="column of the ids (default: id, where there is one)")
    add("--keep", nargs="+", default=[], metavar="COLUMN", help="columns that are copied to the output")
    add("--strict", action="store_true", help="end with an error at the first row without a text")
    add("--output", type=Path, help="write a .jsonl (everything) or a .csv (without the wordpieces)")


def run(args: argparse.Namespace) -> int:
    """Runs the command; 0 when all went well. Errors are raised as AdapLeRError."""
    if (args.input is None) == (not args.text):
        raise ArgumentError("give either texts or --input FILE")
    check_target(args)
    _check_output(args.output, args.input)
    source = None
    if args.input is not None:
        source = TextSource(
            args.input,
            format=args.format,
            text_column=args.text_column,
            pair_column=args.pair_column,
            id_column=args.id_column,
            keep=tuple(args.keep),
        )
    rows = _given_rows(args.text) if source is None else source.rows()
    parts = shards(rows, SHARD_ROWS)
    first = next(parts, None)  # before the model is loaded: most mistakes show here
    if first is None:
        raise DataError(f"{args.input}: no texts")
    results = _Results(source, strict=args.strict or source is None)
    results.look_at(first)
    encoding = encoding_of(args)
    classifier = Classifier.load(args, encoding)
    with writer(args.output, classifier.labels, kept=args.keep, numbered=source is not None) as write:
        for shard in chain([first], parts):
            if shard is not first:
                results.look_at(shard)
            shard, found = classifier.classify(shard, failed=results.add)
            write([output_row(row, result) for row, result in zip(shard, found, strict=True)])
            results.rows += len(shard)
        results.end()
    for note in (encoding.note, *results.notes()):
        print(f"note: {note}", file=sys.stderr)
    if args.output is not None:
        print(f"{results.rows - results.bad} predictions in {args.output}")
    return 0


def _check_output(path: Path | None, source: Path | None) -> None:
    from adapler.training.resume import check_output_file

    check_output_file(path)
    if path is None:
        return
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise ArgumentError(f"--output: {path} must end in .jsonl or .csv")
    if source is not None and source != STDIN and path.exists() and source.exists() and path.samefile(source):
        raise ArgumentError(f"--output: {path} is the input")


def _given_rows(texts: Sequence[str]) -> Iterator[TextRow]:
    """The texts of the command line. What a terminal hands over that is no UTF-8 comes as half surrogate pairs."""
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            yield TextRow(number, error="not UTF-8")
            continue
        yield TextRow(number, text=text) if text.strip() else TextRow(number, error="blank")


class _Results:
    """Counts rows and keeps what is to be said of the bad ones."""

    def __init__(self, source: TextSource | None, *, strict: bool) -> None:
        self.source, self.strict = source, strict
        self.rows = self.bad = 0
        self.shown: list[str] = []

    def where(self, number: int) -> str:
        return f"text {number}" if self.source is None else self.source.where(number)

    def look_at(self, shard: Iterable[TextRow]) -> None:
        for row in shard:
            if row.error is not None:
                self.add(row)

    def add(self, row: TextRow) -> None:
        """Counts a bad row. Raises DataError under --strict."""
        message = f"{self.where(row.number)}: {row.error}"
        if self.strict:
            raise DataError(message)
        self.bad += 1
        if len(self.shown) < SHOWN_ERRORS:
            self.shown.append(message)

    def end(self) -> None:
        """Raises DataError when not one row has a prediction: then nothing is written."""
        if self.bad == self.rows:
            more = "" if self.rows == 1 else f"; none of the {self.rows} rows can be classified"
            raise DataError(self.shown[0] + more)

    def notes(self) -> Iterator[str]:
        if self.bad:
            yield from self.shown
            yield f"{self.bad} of {self.rows} rows have no prediction (see `error` in the output)"
        for name in sorted(self.source.missing) if self.source is not None else ():
            yield f"column {name!r} is in no row"
