"""A text in a script from right to left, drawn layer by layer."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes

from analysis.figures import passage
from analysis.figures.document import LABEL
from analysis.results.report import DocumentScores
from tests.analysis.sample_report import full_report

HEBREW = ("[CLS]", "ה", "##סרט", "היה", "great", "film", "(", "טוב", ")", ".", "[SEP]")
WORDS = (-1, 0, 0, 1, 2, 3, 4, 5, 6, 7, -1)


def drawn(tokens: tuple[str, ...], words: tuple[int, ...], rationale: tuple[int, ...] = ()) -> Axes:
    scores = {"m": np.ones((1, len(tokens)))}
    document = DocumentScores("d", tokens, np.array(words), np.isin(words, rationale), scores)
    (ax,) = replace(full_report(), examples=(document,)).figure("document", method="m").axes
    return ax


def left_to_right(ax: Axes) -> list[str]:
    """The pieces of the text, as they stand on paper."""
    pieces = [text for text in ax.texts if text.get_position()[0] >= LABEL]
    return [text.get_text() for text in sorted(pieces, key=lambda text: float(text.get_position()[0]))]


def test_a_text_from_right_to_left_begins_at_the_right() -> None:
    """A run of another script keeps its order, and a bracket that stands alone opens to the left."""
    ax = drawn(HEBREW, WORDS)
    assert left_to_right(ax) == [".", "(", "טוב", ")", "great", "film", "היה", "סרט", "ה"]
    shades = next(c for c in ax.collections if isinstance(c, matplotlib.collections.PatchCollection))
    boxes = [path.get_extents() for path in shades.get_paths()]
    width = ax.get_xlim()[1]
    assert max(box.x1 for box in boxes) == pytest.approx(width - passage.margin(), abs=0.5)
    start, rest = boxes[:2]
    assert rest.x1 == pytest.approx(start.x0), "shades of one word's pieces meet"


def test_a_run_from_right_to_left_in_another_text() -> None:
    ax = drawn(("a", "ה", "##סרט", ",", "היה", ",", "film"), (0, 1, 1, 2, 3, 4, 5))
    assert left_to_right(ax) == ["a", "היה", ",", "סרט", "ה", ",", "film"]


def test_the_rationale_of_a_text_from_right_to_left_is_one_line() -> None:
    ax = drawn(HEBREW, WORDS, rationale=(0, 1))
    gold = next(c for c in ax.collections if isinstance(c, matplotlib.collections.LineCollection))
    ends = [(segment[0, 0], segment[1, 0]) for segment in gold.get_segments()]
    assert ends[0][0] == pytest.approx(ends[1][1]) and ends[1][0] == pytest.approx(ends[2][1])


def test_dots_of_a_cut_text_from_right_to_left() -> None:
    words = tuple(range(300))
    ax = drawn(("טוב",) * 300, words, rationale=(150,))
    before, after = [text for text in ax.texts if text.get_text() == "…"]
    assert before.get_position()[0] > ax.get_xlim()[1] - passage.margin() and before.get_ha() == "left"
    assert after.get_position()[0] < LABEL + 30 and after.get_ha() == "right"
    assert after.get_position()[1] > before.get_position()[1]


def test_letters_are_turned_where_matplotlib_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert passage.letters("טוב", leftward=True) == ("טוב" if passage.ORDERS_LETTERS else "בוט")
    monkeypatch.setattr(passage, "ORDERS_LETTERS", False)
    assert passage.letters("טוב", leftward=True) == "בוט"
    assert [passage.letters(text, leftward=True) for text in ("film", "12", "טוב1", "(")] == ["film", "12", "טוב1", ")"]
    assert passage.letters("(", leftward=False) == "("
