"""`adapler predict`: what is typed becomes `PredictSettings`; the work is done in `adapler.bulk`."""

from __future__ import annotations

import argparse

from adapler.bulk.settings import PredictSettings
from adapler.cli.options import add_options, chosen
from adapler.errors import counted

__all__ = ["add_arguments", "run"]

EXAMPLES = """examples:
  adapler predict --model checkpoints/movies-minilm "superb acting and a wonderful story"
  adapler predict --model checkpoints/movies-minilm --input reviews.csv --text-column review --id-column key \\
    --keep stars --output labels.parquet --processes 2
  head -100 reviews.txt | adapler predict --model checkpoints/movies-minilm --input -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `adapler predict`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add_options(parser, PredictSettings)


def run(args: argparse.Namespace) -> int:
    """Runs the command; 0 when all went well. Errors are raised as AdapLeRError."""
    settings: PredictSettings = chosen(args)
    from adapler.bulk.run import predict_file

    totals = predict_file(settings)
    if settings.writing.output is not None:
        made = counted(totals.rows - totals.bad, "prediction")
        print(f"{made} in {settings.writing.output}; {totals.speed}")
    return 0
