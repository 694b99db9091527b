from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adapler.errors import ArgumentError
from analysis.documents.alignment import POLICIES, Account, align
from analysis.documents.batching import collate
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
    bare = deepcopy(tiny_tokenizer)
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    with pytest.raises(ArgumentError, match="puts no special token first"):
        align(Document("d", GOOD, [1]), bare)


def words_by_window(alignment: Any) -> list[list[int]]:
    return [sorted(set(window.words[~window.special].tolist())) for window in alignment.windows]


def test_all_windows_show_every_word_whole(tiny_tokenizer: Any) -> None:
    # 8 wordpieces a window without the special tokens; "unforgettable" (words 6 and 14) is two
    words = GOOD * 2
    alignment = align(Document("d", words, [1, 14]), tiny_tokenizer, max_length=10, policy="all-windows")
    assert words_by_window(alignment) == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12, 13], [14, 15]]
    assert [window.id for window in alignment.windows] == ["d", "d#1", "d#2"]
    assert [len(window) for window in alignment.windows] == [10, 9, 5]
    assert alignment.windows[2].words.tolist() == [-1, 14, 14, 15, -1]
    assert alignment.windows[2].rationale.tolist() == [False, True, True, False, False]
    assert alignment.account.words_in_view == 16 and alignment.account.rationale_words_lost == 0


def test_rationale_windows_keep_spans_whole(tiny_tokenizer: Any) -> None:
    # 5 wordpieces a window: [0, 5) would cut the span [3, 6), so the first window ends at 3
    words = ["film"] * 20
    document = Document("d", words, [3, 4, 5, 16])
    alignment = align(document, tiny_tokenizer, max_length=7, policy="rationale-windows")
    assert words_by_window(alignment) == [[3, 4, 5, 6, 7], [13, 14, 15, 16, 17]]
    assert [window.id for window in alignment.windows] == ["d", "d#1"]
    assert alignment.account.words_in_view == 10 and alignment.account.words_lost == 10
    assert alignment.account.rationale_words_in_view == 4 and alignment.account.rationale_words_lost == 0


def test_a_span_longer_than_a_window_is_cut_and_kept(tiny_tokenizer: Any) -> None:
    document = Document("d", ["film"] * 12, list(range(2, 11)))
    alignment = align(document, tiny_tokenizer, max_length=6, policy="rationale-windows")
    assert words_by_window(alignment) == [[2, 3, 4, 5], [6, 7, 8, 9], [10, 11]]
    assert alignment.account.rationale_words_lost == 0


def test_without_a_rationale_the_first_window_stands_in(tiny_tokenizer: Any) -> None:
    alignment = align(Document("d", ["film"] * 20, []), tiny_tokenizer, max_length=7, policy="rationale-windows")
    assert words_by_window(alignment) == [[0, 1, 2, 3, 4]]


def test_words_without_wordpieces_make_no_window(tiny_tokenizer: Any) -> None:
    """Behind a word longer than the input they had one of their own, an empty text with a vote in the verdict."""
    document = Document("d", ["film-" * 10, "\u200b"], [0])
    windows = align(document, tiny_tokenizer, max_length=10, policy="all-windows").windows
    assert len(windows) > 1 and all((~window.special).any() for window in windows)
    marked = Document("d", ["film-" * 10, "\u200b"], [1])
    first = align(marked, tiny_tokenizer, max_length=10, policy="rationale-windows").windows
    assert [window.words.tolist() for window in first] == [windows[0].words.tolist()], "where nothing else is marked"


def test_a_word_longer_than_a_window(tiny_tokenizer: Any) -> None:
    document = Document("d", ["film", "日本日本", "rain"], [1])  # four wordpieces in one word
    alignment = align(document, tiny_tokenizer, max_length=5, policy="all-windows")
    assert words_by_window(alignment) == [[0], [1], [1], [2]]
    assert sum(int((window.words == 1).sum()) for window in alignment.windows) == 4


def test_a_query_is_a_second_segment_that_nobody_annotated(tiny_tokenizer: Any) -> None:
    document = Document("d", ["film"] * 9, [0, 8])
    document.query = "the plot is"  # type: ignore[attr-defined]
    typed = deepcopy(tiny_tokenizer)
    typed.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    alignment = align(document, typed, max_length=10, policy="all-windows", with_query=True)
    assert words_by_window(alignment) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    for window in alignment.windows:
        pieces = tiny_tokenizer.convert_ids_to_tokens(window.input_ids.tolist())
        assert pieces[-5:] == ["[SEP]", "the", "plot", "is", "[SEP]"] and len(window) <= 10
        assert window.special[-5:].all() and not window.rationale[-5:].any()
        assert window.token_type_ids is not None and window.token_type_ids.tolist()[-4:] == [1] * 4
    truncated = align(document, tiny_tokenizer, max_length=10, with_query=True)
    assert words_by_window(truncated) == [[0, 1, 2, 3]] and truncated.account.rationale_words_lost == 1
    assert (align(document, tiny_tokenizer).windows[0].words == -1).sum() == 2
    with pytest.raises(ArgumentError, match="max_length: got 6, must be at least 7 with the query of document d"):
        align(document, tiny_tokenizer, max_length=6, with_query=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_document_without_a_wordpiece_is_named(tiny_tokenizer: Any, policy: str) -> None:
    with pytest.raises(ArgumentError, match="document d: its 1 words give no wordpiece"):
        align(Document("d", ["\u200b"], [0]), tiny_tokenizer, policy=policy)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.sampled_from([*GOOD, "\x00", "naive", "日本"]), min_size=1, max_size=40).filter(
        lambda words: words != ["\x00"] * len(words)
    ),
    seed=st.integers(0, 1000),
    max_length=st.integers(5, 20),
)
def test_windows_of_any_document(tiny_tokenizer: Any, words: list[str], seed: int, max_length: int) -> None:
    marked = np.flatnonzero(np.random.default_rng(seed).random(len(words)) < 0.3).tolist()
    document = Document("d", words, marked)
    whole = align(document, tiny_tokenizer, max_length=512).windows[0]
    every = align(document, tiny_tokenizer, max_length=max_length, policy="all-windows")
    joined = np.concatenate([window.input_ids[~window.special] for window in every.windows])
    assert joined.tolist() == whole.input_ids[~whole.special].tolist()
    assert max(len(window) for window in every.windows) <= max_length
    seen = align(document, tiny_tokenizer, max_length=max_length, policy="rationale-windows")
    assert seen.account.rationale_words_lost == 0
    if any(window.rationale.any() for window in every.windows):
        assert all(window.rationale.any() for window in seen.windows)
    for alignment in (every, seen):
        content = [w for window in alignment.windows for w in window.words[~window.special]]
        assert content == sorted(content)
        for window in alignment.windows:
            for piece, word, marked_ in zip(window.input_ids, window.words, window.rationale, strict=True):
                assert marked_ == (word >= 0 and word in marked)
                assert (word >= 0) == (piece not in tiny_tokenizer.all_special_ids or piece == 3)


def test_a_byte_level_tokenizer_that_puts_a_space_before_each_word() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "</s>", "<pad>", *alphabet, "Ġf", "Ġfi"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "f"), ("Ġf", "i")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    document = Document("d", ["film", "é", "a"] * 4, [3, 4])
    whole = align(document, fast).windows[0]
    assert whole.words[:8].tolist() == [-1, 0, 0, 0, 1, 1, 1, 2]  # Ġfi l m, Ġ and two bytes
    for policy in ("all-windows", "rationale-windows"):
        windows = align(document, fast, max_length=11, policy=policy).windows
        for window in windows:
            for piece, word in zip(window.input_ids, window.words, strict=True):
                assert word == -1 or piece in whole.input_ids[whole.words == word]
    assert sum(int(window.rationale.sum()) for window in windows) == int(whole.rationale.sum()) == 6


def test_collate_pads_on_the_right(tiny_tokenizer: Any) -> None:
    windows = [align(Document(n, GOOD[:k], [0]), tiny_tokenizer).windows[0] for n, k in (("a", 1), ("b", 4))]
    batch = collate(windows, labels=[1, 0], pad_token_id=5)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert batch.input_ids[0, 3:].tolist() == [5, 5, 5]
    assert batch.ids == ("a", "b") and batch.labels.tolist() == [1, 0]
