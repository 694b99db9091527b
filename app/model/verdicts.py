"""The verdicts on many texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pandas as pd

from app.model.survey import Survey
from app.sources.documents import Document

SHOWN = 80  # characters of a text
COUNTS = {"tokens": "Int64", "last layer": "Int64"}  # whole numbers beside a text that has none


def table(
    model: Any,
    tokenizer: Any,
    found: Sequence[Document],
    *,
    threshold_scale: float = 1.0,
    lock: AbstractContextManager[Any] = nullcontext(),  # noqa: B008, which holds nothing
) -> pd.DataFrame:
    """A row for each text, in their order: line, text, gold, verdict, probability, right (of a text with a label that
    is one of the model's, else <NA>), without removal (the verdict), tokens, cut (longer than the model's input: it is
    read as far as the model reads), last layer (tokens that reach it), FLOPs speedup. A text that the model cannot
    read has no verdict and no numbers, and why stands in `error`, a column that is there where a text has one.

    lock: held for a batch at a time.
    """
    survey = Survey(found, threshold_scale=threshold_scale)
    while not survey.finished:
        with lock:
            survey.advance(model, tokenizer)
    read = survey.table().drop(columns=["probability without", "changed"]).rename(columns={"document": "line"})
    read = read.rename(columns={"label": "gold"}).reindex(range(len(found))).astype(COUNTS)
    read["line"] = [document.name for document in found]
    read["gold"] = [document.label for document in found]
    read.insert(1, "text", [document.text[:SHOWN] for document in found])
    return read.assign(error=pd.Series(survey.refused)) if survey.refused else read
