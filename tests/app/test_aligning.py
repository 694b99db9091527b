"""Which word of one text is which of another."""

from __future__ import annotations

import numpy as np

from app import aligning
from tests.app.conftest import make_trace


def test_an_edited_text_is_aligned_around_the_edit() -> None:
    first = make_trace(["a", "dull", "film", "."], [3, 1, 2, 0])
    second = make_trace(["a", "truly", "bright", "film", "."], [3, 1, 1, 3, 0])
    there, back = aligning.align(first, second)
    assert there.tolist() == [0, 1, -1, 4, 5, 6], "[CLS] and [SEP] are at the ends"
    assert back.tolist() == [0, 1, -1, -1, 3, 4, 5]
    marks = aligning.differs(first, second, there)
    assert marks[:, 2].all(), "what is not there differs at every layer"
    assert marks[:, 3].tolist() == [layer >= 2 for layer in range(first.layers)], "dropped before layer 2 here, 3 there"
    assert not marks[:, [0, 1, 4, 5]].any()
    assert aligning.read_only_here(second, first, back) == ["film"]


def test_the_same_text_is_aligned_word_by_word() -> None:
    one = make_trace(["no", "no", "no"], [1, 2, 3])
    there, back = aligning.align(one, one)
    assert there.tolist() == back.tolist() == list(range(5))
    assert not aligning.differs(one, one, there).any()


def test_a_model_of_fewer_layers_stays_at_its_last() -> None:
    deep = make_trace(["a", "b"], [3, 3])
    flat = make_trace(["a", "b"], [1, 0], layers=1)
    marks = aligning.differs(deep, flat, np.arange(4))
    assert marks[:, 2].all() and not marks[:, [0, 1, 3]].any()
