"""`adapler predict`: the command line becomes `PredictSettings`; the work is done in `adapler.bulk.run`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from adapler.bulk.recipes import add_options, chosen
from adapler.bulk.settings import PredictSettings
from adapler.errors import counted


def main(words: Sequence[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="adapler predict", description="classify texts")
    parser.set_defaults(command="predict")
    add_options(parser, PredictSettings)
    settings: Any = chosen(parser.parse_args(words))
    from adapler.bulk.run import predict_file

    totals = predict_file(settings)
    if settings.writing.output is not None:
        made = counted(totals.rows - totals.bad, "prediction")
        print(f"{made} in {settings.writing.output}; {totals.speed}")
