from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adapler import flops
from adapler.errors import ArgumentError
from app import markup
from app.joining import join_words
from app.tracing import SPECIAL, _surfaces, read_limit, trace
from tests.app.conftest import DOCUMENTS
from tests.conftest import VOCABULARY, WORDS, tiny_adapler


def _trace(model: Any, tokenizer: Any, text: str, scale: float = 1.0) -> Any:
    words = tuple(text.split())
    marked = np.array([word == "good" for word in words])
    return trace(model, tokenizer, words, rationale=marked, threshold_scale=scale)


def test_trace_says_what_the_model_says(app_model: Any, tiny_tokenizer: Any) -> None:
    text = DOCUMENTS["neg_1"][0]
    got = _trace(app_model, tiny_tokenizer, text)
    batch = tiny_tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        hard, full = app_model(**batch, removal="hard"), app_model(**batch, removal="none")
    size = batch["input_ids"].shape[1]
    assert got.lengths.tolist() == hard.lengths[0].tolist()
    assert got.lengths[-1] < size, "a model that drops nothing would test nothing"
    assert got.depth.tolist() == hard.retention_mask[0].sum(0).tolist()
    np.testing.assert_allclose(got.scores, hard.contribution_scores[0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(got.probabilities, hard.logits[0].softmax(-1).numpy(), rtol=1e-5)
    np.testing.assert_allclose(got.full_probabilities, full.logits[0].softmax(-1).numpy(), rtol=1e-5)
    assert got.speedup == pytest.approx(flops.speedup(app_model.config, torch.tensor([size]), hard.lengths))


def test_thresholds_are_the_ones_that_tokens_fall_below(app_model: Any, tiny_tokenizer: Any) -> None:
    got = _trace(app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0], scale=1.3)
    before = np.vstack([np.ones((1, len(got)), dtype=bool), got.enters[:-1]])
    expected = before & (got.scores >= got.thresholds[:, None])
    expected[:, 0] = True  # [CLS]
    assert (got.enters == expected).all()
    np.testing.assert_allclose(got.scores.sum(1), 1, rtol=1e-5)


def test_flops_of_the_layers_add_up(app_model: Any, tiny_tokenizer: Any) -> None:
    got = _trace(app_model, tiny_tokenizer, DOCUMENTS["neg_1"][0])
    head = got.plain_flops - got.layers * got.plain_layer_flops
    assert got.layer_flops.sum() + head == pytest.approx(got.flops)


def test_words_and_rationale_are_found_by_index(app_model: Any, tiny_tokenizer: Any) -> None:
    got = _trace(app_model, tiny_tokenizer, "good,bad good Ünknown")
    assert got.pieces == ("[CLS]", "good", ",", "bad", "good", "[UNK]", "[SEP]")
    assert got.surfaces == ("", "good", ",", "bad", "good", "Ünknown", "")
    assert got.words.tolist() == [SPECIAL, 0, 0, 0, 1, 2, SPECIAL]
    assert got.gold.tolist() == [False, False, False, False, True, False, False]


def test_what_is_beyond_the_limit_is_counted(app_model: Any, tiny_tokenizer: Any) -> None:
    words = ("film",) * 50
    marked = np.zeros(50, dtype=bool)
    marked[[3, 37, 38, 49]] = True
    got = trace(app_model, tiny_tokenizer, words, rationale=marked)
    assert (len(got), got.limit, got.unread_words) == (40, 40, 12)
    exact = trace(app_model, tiny_tokenizer, words[:38], rationale=marked[:38])
    assert (len(exact), exact.unread_words) == (40, 0)
    assert got.cut_short and not exact.cut_short


def test_one_word_longer_than_the_input_is_cut(app_model: Any, tiny_tokenizer: Any) -> None:
    got = _trace(app_model, tiny_tokenizer, ",".join(["good"] * 50))
    assert (len(got), got.unread_words, got.cut_short) == (40, 0, True)


def test_a_second_text_that_leaves_no_room_is_refused(app_model: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="room"):
        trace(app_model, tiny_tokenizer, ("good",), rationale=np.zeros(1, dtype=bool), query=("film",) * 39)


def test_scale_zero_keeps_everything(app_model: Any, tiny_tokenizer: Any) -> None:
    got = _trace(app_model, tiny_tokenizer, " ".join(WORDS), scale=0.0)
    assert got.enters.all() and (got.thresholds == 0).all()
    np.testing.assert_allclose(got.probabilities, got.full_probabilities, rtol=1e-5)
    assert got.speedup < 1, "the predictors cost something"


def test_the_model_is_left_as_it_was(app_model: Any, tiny_tokenizer: Any) -> None:
    before = {name: value.clone() for name, value in app_model.state_dict().items()}
    _trace(app_model, tiny_tokenizer, "good film", scale=2.0)
    assert not app_model.training
    assert all(torch.equal(before[name], value) for name, value in app_model.state_dict().items())


def test_limit_of_roberta_leaves_out_its_padding_positions(tiny_tokenizer: Any) -> None:
    class Long:
        model_max_length = 10**30

    assert read_limit(tiny_adapler("roberta"), Long()) == 38
    assert read_limit(tiny_adapler("bert"), Long()) == 40
    assert VOCABULARY and tiny_tokenizer.model_max_length == 40


def test_byte_level_tokens_of_one_character_show_it_once() -> None:
    index = np.array([SPECIAL, 0, 0, 0, 1, SPECIAL])
    offsets = [(0, 0), (0, 1), (0, 1), (1, 3), (0, 2), (0, 0)]
    assert _surfaces(("éab", "is"), index, offsets) == ("", "é", "", "ab", "is", "")


def test_joined_words_have_their_tokens_scores(app_model: Any, tiny_tokenizer: Any) -> None:
    got = _trace(app_model, tiny_tokenizer, "good,bad good Ünknown")
    joined = join_words(got)
    assert joined.surfaces == ("", "good,bad", "good", "Ünknown", "")
    assert joined.pieces == ("[CLS]", "good,bad", "good", "[UNK]", "[SEP]")
    assert joined.words.tolist() == [SPECIAL, 0, 1, 2, SPECIAL]
    np.testing.assert_allclose(joined.scores[:, 1], got.scores[:, 1:4].sum(1))
    assert (joined.enters[:, 1] == got.enters[:, 1:4].any(1)).all()
    assert joined.speedup == got.speedup


def test_a_query_is_shown_as_it_is_written(app_model: Any, tiny_tokenizer: Any) -> None:
    got = trace(app_model, tiny_tokenizer, ("good",), rationale=np.array([True]), query=("never", "Ünknown,"))
    assert got.pieces == ("[CLS]", "good", "[SEP]", "never", "[UNK]", ",", "[SEP]")
    assert got.surfaces == ("", "good", "", "never", "Ünknown", ",", "")
    assert got.words.tolist() == [SPECIAL, 0, SPECIAL, -2, -3, -3, SPECIAL]
    assert got.gold.tolist() == [False, True] + [False] * 5
    assert join_words(got).surfaces == ("", "good", "", "never", "Ünknown,", "")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("the film was not good and never fun", ""),
        ("good,bad", "Very short, 1 word"),
        ("the film is Ünknown to me", "3 of 8 tokens unknown: the model reads [UNK]"),
        ("good,bad good,bad good,bad good,bad good,bad", "2.0 wordpieces a word"),
        ("never [MASK] the film [SEP] fun [MASK]", "The text has [MASK], [SEP]"),
        (" ".join(["good"] * 50), "The model reads 40 tokens"),
    ],
)
def test_doubtful_texts_are_told(app_model: Any, tiny_tokenizer: Any, text: str, note: str) -> None:
    told = markup.doubts(_trace(app_model, tiny_tokenizer, text))
    assert note in " ".join(told) and bool(note) == bool(told)
