from __future__ import annotations

from typing import Any

import numpy as np

from app import edits, tracing
from app.edits import Edit
from tests.app.conftest import DOCUMENTS

TEXT, LABEL, SPAN = DOCUMENTS["pos_1"]


def trace_of(model: Any, tokenizer: Any, words: tuple[str, ...], **how: Any) -> tracing.Trace:
    return tracing.trace(model, tokenizer, words, rationale=np.zeros(len(words), dtype=bool), **how)


def test_words_are_deleted_masked_and_replaced() -> None:
    words, marked = ("a", "dull", "long", "film"), np.array([False, True, False, False])
    done = edits.apply(
        words,
        marked,
        {0: Edit(edits.DELETE), 1: Edit(edits.REPLACE, "quite  bright"), 2: Edit(edits.MASK), 3: Edit(edits.GO)},
        mask="[MASK]",
    )
    assert done.words == ("quite", "bright", "[MASK]", "film")
    assert done.origin.tolist() == [1, 1, 2, 3] and done.marked.tolist() == [True, True, False, False]
    assert done.fate.tolist() == [0, 0, 0, -1]
    assert [done.at(word) for word in range(4)] == ["", "quite bright", "[MASK]", "film"]
    assert edits.apply(words, marked, {2: Edit(edits.MASK)}, mask=None).words == ("a", "dull", "film")


def test_a_mask_is_the_models_mask_token(app_model: Any, tiny_tokenizer: Any) -> None:
    got = trace_of(app_model, tiny_tokenizer, ("good", tiny_tokenizer.mask_token, "film"))
    assert got.pieces == ("[CLS]", "good", "[MASK]", "film", "[SEP]")


def test_words_forced_to_stay_and_to_go(app_model: Any, tiny_tokenizer: Any) -> None:
    words = tuple(TEXT.split())
    # A random model: the scale is one at which some word is read to the end, and some word not at all.
    traces = (
        (scale, trace_of(app_model, tiny_tokenizer, words, threshold_scale=scale)) for scale in (1, 0.5, 0.2, 0.1)
    )
    scale, plain = next((s, t) for s, t in traces if min(t.depth[1:-1]) == 0 and max(t.depth[1:-1]) == t.layers)
    first, last = 1 + int(plain.depth[1:-1].argmin()), 1 + int(plain.depth[1:-1].argmax())
    fate = np.zeros(len(words), dtype=np.int64)
    fate[plain.words[first]], fate[plain.words[last]] = 1, -1
    forced = trace_of(app_model, tiny_tokenizer, words, fate=fate, threshold_scale=scale)
    assert forced.depth[first] == forced.layers and forced.depth[last] == 0
    np.testing.assert_array_equal(forced.scores[0], plain.scores[0], "scores before layer 0 know nothing of it")
    everything = trace_of(app_model, tiny_tokenizer, words, fate=fate, threshold_scale=0.0)
    assert everything.depth[last] == 0 and everything.lengths[-1] == len(everything) - 1
    gained, lost = edits.changed(plain, forced, np.arange(len(words)))
    assert plain.words[first] in gained and plain.words[last] in lost


def test_words_pushed_behind_the_input_are_not_called_dropped(app_model: Any, tiny_tokenizer: Any) -> None:
    words = ("film",) * 38
    before = trace_of(app_model, tiny_tokenizer, words, threshold_scale=0.0)
    edited = edits.apply(words, np.zeros(38, dtype=bool), {0: Edit(edits.REPLACE, "a long good film")}, mask=None)
    after = trace_of(app_model, tiny_tokenizer, edited.words, threshold_scale=0.0)
    assert after.unread_words == 3 and edits.changed(before, after, edited.origin) == ([], [])
