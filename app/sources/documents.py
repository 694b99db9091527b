"""The text that is looked at, and the parts that it has when it is longer than the model's input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.data.eraser import EraserExample
from adapler.errors import ArgumentError
from analysis.documents.alignment import align

MAX_CHARACTERS = 20_000


@dataclass(frozen=True)
class Document:
    """A text, and where it comes from a corpus its label and rationale: half-open ranges of words."""

    name: str
    text: str
    label: str | None = None
    spans: tuple[tuple[int, int], ...] = ()

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.text.split())

    @property
    def rationale(self) -> NDArray[np.bool_]:
        """(words,) bool."""
        return rationale_of(len(self.words), self.spans)

    def part(self, start: int, end: int) -> Document:
        """The words [start, end) as a document of their own."""
        inside = ((max(first, start) - start, min(after, end) - start) for first, after in self.spans)
        text = " ".join(self.words[start:end])
        return replace(self, text=text, spans=tuple(span for span in inside if span[0] < span[1]))

    def cut(self) -> Document:
        """The first MAX_CHARACTERS characters of a longer text."""
        if len(self.text) <= MAX_CHARACTERS:
            return self
        kept = self.text[:MAX_CHARACTERS]
        return replace(self.part(0, len(kept.split())), text=kept)

    def example(self) -> EraserExample:
        """The same for the analysis layer."""
        return EraserExample(self.name, self.words, self.label or "", self.spans)


def of_example(example: EraserExample) -> Document:
    """A document of a corpus."""
    # a word with white space in it, a no-break space say, would shift all others when the text is split again
    sign = "\N{REPLACEMENT CHARACTER}"
    words = [word if word.split() == [word] else sign.join(word.split()) or sign for word in example.words]
    return Document(example.id, " ".join(words), example.label, example.spans)


def rationale_of(words: int, spans: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    """(words,) bool from word ranges."""
    mask = np.zeros(words, dtype=np.bool_)
    for start, end in spans:
        mask[start:end] = True
    return mask


def parts_of(document: Document, tokenizer: Any, *, limit: int) -> tuple[tuple[int, int], ...]:
    """Ranges of words, one after the other, each of which the model can read whole; one where all fit."""
    whole = ((0, len(document.words)),)
    try:
        windows = align(document.example(), tokenizer, max_length=limit, policy="all-windows").windows
    except ArgumentError:  # nothing in the text gives a token
        return whole
    starts = sorted({int(window.words[~window.special].min()) for window in windows})
    starts[0] = 0
    return tuple(zip(starts, [*starts[1:], len(document.words)], strict=True))
