"""Which passage of a document fits into a figure, and where its tokens stand.

Everything in points (1/72 inch).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adapler.errors import ArgumentError
from analysis.figures.style import drawable, text_width
from analysis.figures.token_scores import token_text
from analysis.results.records import DocumentScores

TEXT_SIZE = 6.5


class Placed(NamedTuple):
    """Where a token stands: its index, the left edge, the line (0 is the first) and its width."""

    token: int
    x: float
    line: int
    width: float


def width_of(text: str) -> float:
    return text_width(text, TEXT_SIZE)


def space() -> float:
    """Between two words."""
    return width_of("n") * 0.5


def layout(document: DocumentScores, start: int, *, width: float, n_lines: int) -> list[Placed]:
    """From token `start` on, as many whole words as go into `n_lines` lines.

    Special tokens are left out.
    """
    placed: list[Placed] = []
    x, line, token = 0.0, 0, start
    gap = space()
    while token < len(document):
        if document.words[token] < 0:
            token += 1
            continue
        end = token + 1
        while end < len(document) and document.words[end] == document.words[token]:
            end += 1
        widths = [width_of(drawable(token_text(document.tokens[i]))) for i in range(token, end)]
        if x + sum(widths) > width and x > 0:
            x, line = 0.0, line + 1
        if line >= n_lines:
            break
        for i, size in zip(range(token, end), widths, strict=True):
            placed.append(Placed(i, x, line, size))
            x += size
        x += gap
        token = end
    return placed


def excerpt(document: DocumentScores, *, width: float, n_lines: int, start: int | None = None) -> list[Placed]:
    """The layout of a passage.

    Args:
        document: whose text.
        width: points of a line. n_lines: how many there are at most.
        start: the word that the passage begins with, counted from 0 over the document's words. Default: the passage
            that shows the most rationale tokens, with as much before them as after; one that begins with a sentence is
            preferred to one that shows a token more. A text that fits is shown whole then.

    Raises:
        ArgumentError: no token to draw, or none of the word `start`.
    """
    if start is not None:
        return layout(document, first_token(document, start), width=width, n_lines=n_lines)
    words = document.words
    begins = [i for i in range(len(words)) if words[i] >= 0 and (i == 0 or words[i] != words[i - 1])]
    # a passage does not start with a full stop, unless there is nothing else
    starts = [i for i in begins if any(map(str.isalnum, token_text(document.tokens[i])))] or begins
    if not starts:
        raise ArgumentError(f"document {document.id}: no token of the text to draw")
    whole = layout(document, begins[0], width=width, n_lines=n_lines)
    if not any(is_cut(document, whole)):
        return whole
    best, best_key = layout(document, starts[0], width=width, n_lines=n_lines), (-1.0, 0.0)
    for start in starts:
        placed = best if start == starts[0] else layout(document, start, width=width, n_lines=n_lines)
        tokens = [token for token, *_ in placed]
        gold = np.flatnonzero(document.rationale[tokens])
        opens = start == starts[0] or document.tokens[start - 1] in (".", "!", "?")
        off_centre = abs(float(gold.mean()) - (len(tokens) - 1) / 2) if len(gold) else 0.0
        key = (len(gold) * (1.15 if opens else 1.0), -off_centre)
        if key > best_key:
            best, best_key = placed, key
        if len(document) - start <= len(placed):
            break  # the rest fits: later starts only show less
    return best


def first_token(document: DocumentScores, word: int) -> int:
    """The first token of a word.

    Raises:
        ArgumentError: the document has none of it, as of a word beyond a cut.
    """
    found = np.flatnonzero(document.words == word)
    if word < 0 or not len(found):
        last = max((int(one) for one in document.words), default=-1)
        raise ArgumentError(f"start: word {word} is not in document {document.id}, whose words are 0 to {last}")
    return int(found[0])


def margin() -> float:
    """Points right of the text, where the dots of a cut passage go."""
    return width_of("…") + 2


def is_cut(document: DocumentScores, placed: Sequence[Placed]) -> tuple[bool, bool]:
    """Whether there is text before and after the passage."""
    content = np.flatnonzero(~document.special)
    return bool(content[0] < placed[0].token), bool(content[-1] > placed[-1].token)
