from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adapler.errors import ArgumentError, DataError
from analysis.corpus import (
    WindowScores,
    aggregate,
    align,
    collate,
    layer_units,
    marked_units,
    unit_labels,
    why_skipped,
    word_scores,
)
from analysis.metrics.plausibility import PRESENT
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
    assert alignment.coverage == {
        "words": 8,
        "words_in_view": 6,
        "words_without_pieces": 2,
        "rationale_words": 4,
        "rationale_words_in_view": 2,
        "rationale_words_without_pieces": 2,
    }


def test_repeated_words_keep_their_own_label(tiny_tokenizer: Any) -> None:
    (window,) = align(Document("d", ["film"] * 4, [2]), tiny_tokenizer).windows
    assert window.rationale.tolist() == [False, False, False, True, False, False]


def test_truncation_is_accounted_for(tiny_tokenizer: Any) -> None:
    # 12 pieces in view at 14: "unforgettable" (words 6, 14) is two pieces, so words 0..10 are in view
    words = GOOD * 3
    alignment = align(Document("d", words, [1, 10, 11, 23]), tiny_tokenizer, max_length=14)
    (window,) = alignment.windows
    assert len(window) == 14 and window.words[1:-1].tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10]
    assert alignment.coverage["words"] == 24 and alignment.coverage["words_in_view"] == 11
    assert alignment.coverage["rationale_words_in_view"] == 2


def test_a_word_cut_in_two_is_in_view(tiny_tokenizer: Any) -> None:
    alignment = align(Document("d", ["film", "unforgettable"], [1]), tiny_tokenizer, max_length=4)
    assert alignment.windows[0].words.tolist() == [-1, 0, 1, -1]
    assert alignment.coverage["words_in_view"] == 2


def test_a_length_without_room_is_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="max_length: 2 leaves no room"):
        align(Document("d", GOOD, [1]), tiny_tokenizer, max_length=2)


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
    alignment = align(Document("d", words, [1, 14]), tiny_tokenizer, max_length=10, truncation="all-windows")
    assert words_by_window(alignment) == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12, 13], [14, 15]]
    assert [window.id for window in alignment.windows] == ["d", "d#1", "d#2"]
    assert [len(window) for window in alignment.windows] == [10, 9, 5]
    assert alignment.windows[2].words.tolist() == [-1, 14, 14, 15, -1]
    assert alignment.windows[2].rationale.tolist() == [False, True, True, False, False]
    assert alignment.coverage["words_in_view"] == 16


def test_rationale_windows_keep_spans_whole(tiny_tokenizer: Any) -> None:
    # 5 wordpieces a window: [0, 5) would cut the span [3, 6), so the first window ends at 3
    words = ["film"] * 20
    document = Document("d", words, [3, 4, 5, 16])
    alignment = align(document, tiny_tokenizer, max_length=7, truncation="rationale-windows")
    assert words_by_window(alignment) == [[3, 4, 5, 6, 7], [13, 14, 15, 16, 17]]
    assert [window.id for window in alignment.windows] == ["d", "d#1"]
    assert alignment.coverage["words_in_view"] == 10
    assert alignment.coverage["rationale_words_in_view"] == 4


def test_a_span_longer_than_a_window_is_cut_and_kept(tiny_tokenizer: Any) -> None:
    document = Document("d", ["film"] * 12, list(range(2, 11)))
    alignment = align(document, tiny_tokenizer, max_length=6, truncation="rationale-windows")
    assert words_by_window(alignment) == [[2, 3, 4, 5], [6, 7, 8, 9], [10, 11]]
    assert alignment.coverage["rationale_words_in_view"] == 9


def test_without_a_rationale_the_first_window_stands_in(tiny_tokenizer: Any) -> None:
    alignment = align(Document("d", ["film"] * 20, []), tiny_tokenizer, max_length=7, truncation="rationale-windows")
    assert words_by_window(alignment) == [[0, 1, 2, 3, 4]]


def test_words_without_wordpieces_make_no_window(tiny_tokenizer: Any) -> None:
    """Behind a word longer than the input they had one of their own, an empty text with a vote in the verdict."""
    document = Document("d", ["film-" * 10, "\u200b"], [0])
    windows = align(document, tiny_tokenizer, max_length=10, truncation="all-windows").windows
    assert len(windows) > 1 and all((~window.special).any() for window in windows)
    marked = Document("d", ["film-" * 10, "\u200b"], [1])
    first = align(marked, tiny_tokenizer, max_length=10, truncation="rationale-windows").windows
    assert [window.words.tolist() for window in first] == [windows[0].words.tolist()], "where nothing else is marked"


def test_a_word_longer_than_a_window(tiny_tokenizer: Any) -> None:
    document = Document("d", ["film", "日本日本", "rain"], [1])  # four wordpieces in one word
    alignment = align(document, tiny_tokenizer, max_length=5, truncation="all-windows")
    assert words_by_window(alignment) == [[0], [1], [1], [2]]
    assert sum(int((window.words == 1).sum()) for window in alignment.windows) == 4


def test_a_query_is_a_second_segment_that_nobody_annotated(tiny_tokenizer: Any) -> None:
    document = Document("d", ["film"] * 9, [0, 8])
    document.query = "the plot is"  # type: ignore[attr-defined]
    typed = deepcopy(tiny_tokenizer)
    typed.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    alignment = align(document, typed, max_length=10, truncation="all-windows", with_query=True)
    assert words_by_window(alignment) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    for window in alignment.windows:
        pieces = tiny_tokenizer.convert_ids_to_tokens(window.input_ids.tolist())
        assert pieces[-5:] == ["[SEP]", "the", "plot", "is", "[SEP]"] and len(window) <= 10
        assert window.special[-5:].all() and not window.rationale[-5:].any()
        assert window.token_type_ids is not None and window.token_type_ids.tolist()[-4:] == [1] * 4
    truncated = align(document, tiny_tokenizer, max_length=10, with_query=True)
    assert words_by_window(truncated) == [[0, 1, 2, 3]] and truncated.coverage["rationale_words_in_view"] == 1
    assert (align(document, tiny_tokenizer).windows[0].words == -1).sum() == 2
    with pytest.raises(DataError, match="its query has 3 tokens, which leaves no room"):
        align(document, tiny_tokenizer, max_length=6, with_query=True)


@pytest.mark.parametrize("truncation", ["truncate", "rationale-windows", "all-windows"])
def test_a_document_without_a_wordpiece_is_named(tiny_tokenizer: Any, truncation: str) -> None:
    with pytest.raises(ArgumentError, match="document d: its 1 words give no wordpiece"):
        align(Document("d", ["\u200b"], [0]), tiny_tokenizer, truncation=truncation)


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
    every = align(document, tiny_tokenizer, max_length=max_length, truncation="all-windows")
    joined = np.concatenate([window.input_ids[~window.special] for window in every.windows])
    assert joined.tolist() == whole.input_ids[~whole.special].tolist()
    assert max(len(window) for window in every.windows) <= max_length
    seen = align(document, tiny_tokenizer, max_length=max_length, truncation="rationale-windows")
    marked_words = np.isin(np.arange(len(words)), marked)
    assert seen.coverage["rationale_words_in_view"] == sum(marked_words & (np.array(words) != "\x00"))
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
    for truncation in ("all-windows", "rationale-windows"):
        windows = align(document, fast, max_length=11, truncation=truncation).windows
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


def test_aggregation_against_a_loop() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        words = generator.integers(0, 6, generator.integers(1, 15))
        scores = generator.normal(size=(3, len(words)))
        for how, function in (("max", np.max), ("mean", np.mean), ("sum", np.sum)):
            values, kept = aggregate(scores, words, how=how)
            assert kept.tolist() == list(dict.fromkeys(words.tolist()))
            for k, word in enumerate(kept):
                np.testing.assert_allclose(values[:, k], function(scores[:, words == word], axis=1))


def test_none_changes_nothing_and_empty_is_empty() -> None:
    scores, words = aggregate(np.array([0.1, 0.2]), np.array([5, 5]), how="none")
    assert scores.tolist() == [0.1, 0.2] and words.tolist() == [5, 5]
    assert aggregate(np.zeros((2, 0)), np.zeros(0, dtype=np.int64), how="max")[0].shape == (2, 0)


def scored(*rows: list[float], present: list[list[bool]] | None = None, signed: bool = False) -> WindowScores:
    mask = None if present is None else np.array(present)
    return WindowScores(np.array(rows, dtype=np.float32), mask, signed)


def test_a_word_unit_by_hand(tiny_tokenizer: Any) -> None:
    # [CLS] film un ##forgettable [SEP]
    (window,) = align(Document("d", ["film", "unforgettable"], [1]), tiny_tokenizer).windows
    assert unit_labels([window], aggregation="none").tolist() == [False, True, True]
    assert unit_labels([window], aggregation="max").tolist() == [False, True]
    given = scored([0.5, 0.1, 0.1, 0.2, 0.1], present=[[True, True, False, True, False]])
    (pieces,) = units([window], [given], "none")
    np.testing.assert_allclose(pieces.scores, [0.1, 0.1, 0.2], rtol=1e-6)
    assert (pieces.n_input, pieces.n_present) == (5, 3) and pieces.present_scores is None
    (summed,) = units([window], [given], "sum")
    np.testing.assert_allclose(summed.scores, [0.1, 0.3], rtol=1e-6)
    assert (summed.n_input, summed.n_present) == (4, 3)  # two words, [CLS]; [SEP] is gone
    # the max of the pieces leaves .5 + .1 + .1 + .2 = .9 to share out
    (best,) = units([window], [given], "max")
    np.testing.assert_allclose(best.scores, [0.1 / 0.9, 0.2 / 0.9], rtol=1e-6)
    mask = np.array([True, False])
    assert marked_units([window], mask, aggregation="none").tolist() == [True, False, False]
    assert marked_units([window], ~mask, aggregation="mean").tolist() == [False, True]


def units(windows: Any, given: Any, aggregation: str) -> Any:
    labels = unit_labels(windows, aggregation=aggregation)
    return layer_units(windows, given, labels, aggregation=aggregation)


def test_tokens_present_weigh_the_windows_of_the_level_of_tokens_present(tiny_tokenizer: Any) -> None:
    windows = align(Document("d", ["film"] * 8, [0]), tiny_tokenizer, max_length=6, truncation="all-windows").windows
    assert [len(window) for window in windows] == [6, 6]
    few = [True, False, True, True, False, False]  # three of six are there, each with a third of the scores
    given = [scored([1 / 6] * 6), scored([x / 3 for x in few], present=[few])]
    (unit,) = units(windows, given, "none")
    assert (unit.n_input, unit.n_present) == (12, 9)
    # uniform over the tokens that are there in both windows: all of them are at the level, none is over it
    present = np.concatenate([np.ones(4, dtype=bool), np.array(few)[1:5]])
    np.testing.assert_allclose(unit.present_scores, present / 9, rtol=1e-6)
    np.testing.assert_allclose(unit.scores, np.where(present, [1 / 12] * 4 + [1 / 6] * 4, 0), rtol=1e-6)
    assert (unit.selected(PRESENT) == present).all()
    # of two layers each has its own weights: in the first one nothing is gone yet
    every = [1 / 6] * 6
    given = [scored(every, every), scored(every, [x / 3 for x in few], present=[[True] * 6, few])]
    first, second = units(windows, given, "none")
    np.testing.assert_allclose(first.present_scores, np.full(8, 1 / 12), rtol=1e-6)
    np.testing.assert_allclose(second.present_scores, present / 9, rtol=1e-6)


@pytest.mark.parametrize("lowest", [-2.0, 0.5])
def test_a_word_out_of_view_is_below_all_others(lowest: float, tiny_tokenizer: Any) -> None:
    windows = align(Document("d", ["film"] * 6, [0]), tiny_tokenizer, max_length=6).windows
    given = scored([9.0, 1.0, lowest, 3.0, 2.0, 9.0], signed=True)
    found = word_scores(windows, [given], n_words=6, aggregation="none")
    assert found.tolist() == [[1.0, lowest, 3.0, 2.0, *[min(lowest, 0.0)] * 2]], "the lowest score, at most 0"


def test_uniform_windows_are_stitched_to_a_uniform_document(tiny_tokenizer: Any) -> None:
    document = Document("d", ["film"] * 11, [0])
    windows = align(document, tiny_tokenizer, max_length=6, truncation="all-windows").windows
    lengths = [len(window) for window in windows]
    assert lengths == [6, 6, 5]
    uniform = [scored([1 / n] * n) for n in lengths]
    (stitched,) = units(windows, uniform, "none")
    np.testing.assert_allclose(stitched.scores, np.full(11, 1 / 17), rtol=1e-6)
    assert stitched.n_input == stitched.n_present == 17
    (raw,) = units(windows, [scored([-2.0] * n, signed=True) for n in lengths], "none")
    assert raw.signed and (raw.scores == -2).all()  # signed scores are no shares of a window


def test_why_skipped() -> None:
    yes, no, both = np.array([True]), np.array([False]), np.array([True, False])
    assert why_skipped([no, both]) is None
    assert why_skipped([no]) == "no rationale in view"
    assert why_skipped([no, yes]) == "nothing but rationale in view"
    assert why_skipped([no, yes], all_rationale=True) is None and why_skipped([no], all_rationale=True) is not None
