from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis.alignment import Account, align
from analysis.batching import collate
from tests.analysis.conftest import GOOD, Document

TRICKY = ["Naive", "\u200b", "unforgettable", "[SEP]", "日本", "\x00", "qqq", "."]


def test_tricky_words_are_found_by_index(tiny_tokenizer: Any) -> None:
    alignment = align(Document("d", TRICKY, [1, 2, 4, 5]), tiny_tokenizer)
    (window,) = alignment.windows
    pieces = tiny_tokenizer.convert_ids_to_tokens(window.input_ids.tolist())
    assert pieces == [
        "[CLS]",
        "na",
        "##ive",
        "un",
        "##forgettable",
        "[SEP]",
        "日",
        "本",
        "[UNK]",
        ".",
        "[SEP]",
    ]
    assert window.words.tolist() == [-1, 0, 0, 2, 2, 3, 4, 4, 6, 7, -1]
    # a [SEP] that the text itself has is a word, not a special token
    assert np.flatnonzero(window.special).tolist() == [0, 10]
    assert np.flatnonzero(window.rationale).tolist() == [3, 4, 6, 7]
    assert alignment.account == Account(
        words=8,
        words_in_view=6,
        words_without_pieces=2,
        rationale_words=4,
        rationale_words_in_view=2,
        rationale_words_without_pieces=2,
    )
    assert alignment.account.words_lost == alignment.account.rationale_words_lost == 0


def test_repeated_words_keep_their_own_label(tiny_tokenizer: Any) -> None:
    (window,) = align(Document("d", ["film"] * 4, [2]), tiny_tokenizer).windows
    assert window.rationale.tolist() == [False, False, False, True, False, False]


def test_truncation_is_accounted_for(tiny_tokenizer: Any) -> None:
    # 12 pieces in view at 14: "unforgettable" (words 6, 14) is two pieces, so words 0..10 are in view
    words = GOOD * 3
    alignment = align(Document("d", words, [1, 10, 11, 23]), tiny_tokenizer, max_length=14)
    (window,) = alignment.windows
    assert len(window) == 14 and window.words[1:-1].tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10]
    assert alignment.account.words == 24 and alignment.account.words_in_view == 11
    assert alignment.account.words_lost == 13
    assert alignment.account.rationale_words_in_view == 2 and alignment.account.rationale_words_lost == 2


def test_a_word_cut_in_two_is_in_view(tiny_tokenizer: Any) -> None:
    alignment = align(Document("d", ["film", "unforgettable"], [1]), tiny_tokenizer, max_length=4)
    assert alignment.windows[0].words.tolist() == [-1, 0, 1, -1]
    assert alignment.account.words_in_view == 2


def test_accounts_add_up() -> None:
    total = sum([Account(5, 3, 1, 2, 1, 0), Account(4, 4, 0, 1, 1, 0)], Account())
    assert total == Account(9, 7, 1, 3, 2, 0)
    assert total.to_dict()["words_lost"] == 1 and total.to_dict()["rationale_words_lost"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "everything"}, "policy: got 'everything', allowed are truncate"),
        ({"max_length": 2}, "max_length: got 2, must be at least 3"),
    ],
)
def test_bad_arguments(tiny_tokenizer: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        align(Document("d", GOOD, [1]), tiny_tokenizer, **options)


def test_rationale_longer_than_the_text(tiny_tokenizer: Any) -> None:
    document = Document("d", GOOD, [1])
    document.words = document.words[:3]
    with pytest.raises(ArgumentError, match="document d: the rationale covers 8 words, the text has 3"):
        align(document, tiny_tokenizer)


def test_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ArgumentError, match="tokenizer: Slow cannot say which word"):
        align(Document("d", GOOD, [1]), Slow())


def test_tokenizer_without_a_first_special_token_is_refused(tiny_tokenizer: Any) -> None:
    from copy import deepcopy

    from tokenizers.processors import TemplateProcessing

    bare = deepcopy(tiny_tokenizer)
    bare.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    with pytest.raises(ArgumentError, match="puts no special token first"):
        align(Document("d", GOOD, [1]), bare)


def test_collate_pads_on_the_right(tiny_tokenizer: Any) -> None:
    windows = [align(Document(n, GOOD[:k], [0]), tiny_tokenizer).windows[0] for n, k in (("a", 1), ("b", 4))]
    batch = collate(windows, labels=[1, 0], pad_token_id=5)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert batch.input_ids[0, 3:].tolist() == [5, 5, 5]
    assert batch.ids == ("a", "b") and batch.gold().tolist() == [1, 0]
