"""The verdicts on many texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from app.model.survey import Survey
from app.sources.documents import Document

SHOWN = 80  # characters of a text


def table(model: Any, tokenizer: Any, found: Sequence[Document], *, threshold_scale: float = 1.0) -> pd.DataFrame:
    """A row for each text, in their order: line, text, gold, verdict, probability, right (of a text with a label that
    is one of the model's, else <NA>), without removal (the verdict), tokens, last layer (tokens that reach it), FLOPs
    speedup. A text that is longer than the model's input is read as far as the model reads.
    """
    survey = Survey(found, threshold_scale=threshold_scale)
    while not survey.finished:
        survey.advance(model, tokenizer)
    read = survey.table().rename(columns={"document": "line", "label": "gold"})
    read.insert(1, "text", [document.text[:SHOWN] for document in found])
    return read.drop(columns=["probability without", "changed"])
