"""Tokens joined to sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.joining import SENTENCES, TOKENS, WORDS, join, join_sentences, sentence_starts, words_of
from app.tracing import SPECIAL, trace

TEXT = tuple("good film . never boring ! bad".split())
GOLD = np.array([True, True, False, True, False, False, False])


def test_a_sentence_has_the_sum_of_its_scores_and_goes_with_its_last_token(app_model: Any, tiny_tokenizer: Any) -> None:
    got = trace(app_model, tiny_tokenizer, TEXT, rationale=GOLD)
    joined = join_sentences(got)
    assert joined.unit == SENTENCES and joined.surfaces == ("", "good film .", "never boring !", "bad", "")
    assert joined.pieces == ("[CLS]", "sentence 1", "sentence 2", "sentence 3", "[SEP]")
    assert joined.words.tolist() == [SPECIAL, 0, 3, 6, SPECIAL]
    assert joined.gold.tolist() == [False, True, False, False, False], "two of three, and one of three"
    for place, group in enumerate(joined.groups):
        np.testing.assert_allclose(joined.scores[:, place], got.scores[:, list(group)].sum(1))
        assert (joined.enters[:, place] == got.enters[:, list(group)].any(1)).all()
    assert sorted(token for group in joined.groups for token in group) == list(range(len(got)))
    assert [words_of(joined, place) for place in (1, 2, 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_query_is_one_sentence(app_model: Any, tiny_tokenizer: Any) -> None:
    joined = join_sentences(
        trace(app_model, tiny_tokenizer, TEXT, rationale=GOLD, query=("was", "it", "good", "?", "film"))
    )
    assert joined.pieces[-2:] == ("the query", "[SEP]") and joined.surfaces[-2] == "was it good ? film"
    assert joined.pieces[1:4] == ("sentence 1", "sentence 2", "sentence 3")


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        (["a", "b", ".", "c"], [0, 3]),
        (["a.", ")", "b"], [0, 2]),  # what closes stays with what it closes
        (['"', "a", "?", '"', "b"], [1, 4]),
        ([".", ".", "a"], [2]),
        (["", "a", "", "b"], [1]),
        ([], []),
    ],
)
def test_where_sentences_begin(words: list[str], starts: list[int]) -> None:
    assert sentence_starts(words) == starts


def test_units(app_model: Any, tiny_tokenizer: Any) -> None:
    got = trace(app_model, tiny_tokenizer, TEXT, rationale=GOLD)
    assert join(got, TOKENS) is got and [join(got, unit).unit for unit in (WORDS, SENTENCES)] == [WORDS, SENTENCES]
    assert words_of(got, 2) == [1]
