"""Scores that were made elsewhere - a file in ERASER's format, or human annotators - as one more method.

L' = 1: they have a meaning at the input only; n wordpieces of a window
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapler.errors import ArgumentError
from analysis.documents.eraser_format import Prediction, read_rationales
from analysis.documents.units import WindowScores
from analysis.documents.windows import AnnotatedDocument, Window

HUMAN = "human"  # the method of `human`


@dataclass(frozen=True, eq=False)
class GivenScores:
    """name: of the method; predictions: by document id, which need not be there for every document."""

    name: str
    title: str
    predictions: Mapping[str, Prediction]

    @property
    def signed(self) -> bool:
        return any((one.scores < 0).any() for one in self.predictions.values())

    def windows(
        self, document: str, windows: Sequence[Window], *, policy: str, aggregation: str
    ) -> tuple[WindowScores, ...] | None:
        """Every wordpiece gets its word's score, special tokens 0; None for a document that is not there.

        Scores without a sign become shares of the window; under "all-windows" of the document, whose windows are
        stitched with the weight n/N afterwards. A window with no score but 0 is uniform.
        """
        if document not in self.predictions:
            return None
        by_word = self.predictions[document].scores  # (W,)
        rows = []
        for window in windows:
            row = np.zeros(len(window))
            content = ~window.special
            row[content] = by_word[window.words[content]]
            if aggregation == "sum":  # the sum over its wordpieces is to be the word's score
                row[content] /= np.bincount(window.words[content])[window.words[content]]
            rows.append(row)
        if not self.signed:
            whole, total = sum(row.sum() for row in rows), sum(len(row) for row in rows)
            for i, row in enumerate(rows):
                mass = whole * len(row) / total if policy == "all-windows" else row.sum()
                rows[i] = row / mass if mass > 0 else np.full(len(row), 1 / len(row))
        return tuple(WindowScores(row[None].astype(np.float32), None, self.signed) for row in rows)


def read_given(
    predictions: Sequence[str | Path], human: str | Path | None, examples: Sequence[AnnotatedDocument]
) -> tuple[GivenScores, ...]:
    """Files in ERASER's format as methods, each named after its file; the last one is the human row.

    Raises DataError for what is wrong in a file, ArgumentError for two of one name.
    """
    given = [GivenScores(Path(file).stem, Path(file).stem, read_rationales(file, examples)) for file in predictions]
    if human is not None:
        given.append(GivenScores(HUMAN, "Human", read_rationales(human, examples)))
    names = [one.name for one in given]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"predictions: two files are named {name!r}, a method's name")
    return tuple(given)
