"""Which passage of a document fits into a figure, and where its tokens stand.

Everything in points (1/72 inch).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import matplotlib
import numpy as np

from adapler.errors import ArgumentError
from analysis.figures.style import drawable, text_width
from analysis.figures.token_scores import token_text
from analysis.results.records import DocumentScores

TEXT_SIZE = 6.5
# matplotlib puts the letters of one text in order itself, Hebrew and Arabic ones from right to left
ORDERS_LETTERS = matplotlib.__version_info__ >= (3, 11)
_TURNED = str.maketrans("()[]{}<>«»", ")(][}{><»«")


class Placed(NamedTuple):
    """Where a token stands: its index, the left edge, the line (0 is the first) and its width.

    leftward: what follows on the line stands left of it.
    """

    token: int
    x: float
    line: int
    width: float
    leftward: bool = False


def width_of(text: str) -> float:
    return text_width(text, TEXT_SIZE)


def space() -> float:
    """Between two words."""
    return width_of("n") * 0.5


def layout(document: DocumentScores, start: int, *, width: float, n_lines: int) -> list[Placed]:
    """From token `start` on, as many whole words as go into `n_lines` lines, in the order of the text.

    Special tokens are left out. A word that is wider than a line, as is all of a text without white space, goes on in
    the next one; a token that is has the line's width. A text that begins in a script from right to left begins at the
    right.
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
        widths = [min(width, width_of(drawable(token_text(document.tokens[i])))) for i in range(token, end)]
        if x + sum(widths) > width and x > 0:
            x, line = 0.0, line + 1
        for i, size in zip(range(token, end), widths, strict=True):
            if x + size > width and x > 0:
                x, line = 0.0, line + 1
            placed.append(Placed(i, x, line, size))
            x += size
        x += gap
        token = end
        if line >= n_lines:
            break
    return _ordered(document, [one for one in placed if one.line < n_lines], width)


def is_leftward(document: DocumentScores) -> bool:
    """Whether the document runs from right to left, as its first letter does that has a direction."""
    words = (token for token, word in zip(document.tokens, document.words, strict=True) if word >= 0)
    return next((side for token in words if (side := _leftward(token)) is not None), False)


def _leftward(text: str) -> bool | None:
    """Whether the text runs from right to left, as its first letter or digit does; None without any."""
    for kind in map(unicodedata.bidirectional, text):
        if kind in ("R", "AL"):
            return True
        if kind in ("L", "EN", "AN"):
            return False
    return None


def _ordered(document: DocumentScores, placed: list[Placed], width: float) -> list[Placed]:
    """What was laid out from left to right, with each run of one direction turned to it on its line."""
    sides = [_leftward(document.tokens[one.token]) for one in placed]
    base = is_leftward(document)
    if not base and True not in sides:
        return placed
    for i, side in enumerate(sides):
        if side is None:  # a comma goes with what is around it if that is of one direction, else with the document
            after = next((found for found in sides[i:] if found is not None), base)
            before = sides[i - 1] if i else base
            sides[i] = before if before == after else base
    if base:
        placed = [one._replace(x=width - one.x - one.width, leftward=True) for one in placed]
    turned: list[Placed] = []
    for (_, side), group in groupby(zip(placed, sides, strict=True), key=lambda pair: (pair[0].line, pair[1])):
        run = [one for one, _ in group]
        if side != base:
            ends = min(one.x for one in run) + max(one.x + one.width for one in run)
            run = [one._replace(x=ends - one.x - one.width, leftward=not base) for one in run]
        turned += run
    return turned


def letters(text: str, *, leftward: bool) -> str:
    """A token such that matplotlib draws it as it is read: brackets open to the left in a text from right to left."""
    if leftward and _leftward(text) is None:
        return text.translate(_TURNED)
    if not ORDERS_LETTERS and all(unicodedata.bidirectional(letter) in ("R", "AL", "NSM") for letter in text):
        return text[::-1]
    return text


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
