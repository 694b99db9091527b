from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.model import comparing, edits, faithful, tracing, verdicts
from app.model.edits import Edit
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS

EMPTY = "the text gives no wordpieces: to the model it is an empty one"
TEXT, LABEL, SPAN = DOCUMENTS["pos_1"]
DOCUMENT = Document("pos_1", TEXT, LABEL, (SPAN,), labels=("NEG", "POS"))


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


def test_faithfulness_of_one_text(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = tracing.trace(app_model, tiny_tokenizer, DOCUMENT.words, rationale=DOCUMENT.rationale)
    found = {name: comparing.compare(app_model, tiny_tokenizer, DOCUMENT, name) for name in ("cp", "rollout")}
    table, whole, label = faithful.table(app_model, tiny_tokenizer, DOCUMENT, trace, found)
    assert label == trace.full_label and whole == pytest.approx(trace.full_probabilities.max(), abs=1e-6)
    assert table["method"].tolist() == ["AdapLeR CP", "Rollout", faithful.KEPT]
    best = np.argsort(-found["cp"].scores[0][1:-1], kind="stable")[: table["tokens"].iloc[0]]
    left = tuple(word for index, word in enumerate(DOCUMENT.words) if index not in best)
    without = trace_of(app_model, tiny_tokenizer, left).full_probabilities[int(trace.full_probabilities.argmax())]
    assert table["comprehensiveness"].iloc[0] == pytest.approx(whole - without, abs=1e-5)
    assert pd.isna(table["comprehensiveness"].iloc[2]) and not pd.isna(table["sufficiency"].iloc[2])


def test_verdicts_on_many_texts_are_those_of_each(app_model: Any, tiny_tokenizer: Any) -> None:
    found = [Document(name, text, label, labels=("NEG", "POS")) for name, (text, label, _) in DOCUMENTS.items()]
    found.append(Document("pair", "good film", "other", query="never boring ?", labels=("NEG", "POS")))
    table = verdicts.table(app_model, tiny_tokenizer, found)
    assert table["line"].tolist() == [one.name for one in found]
    for row, document in enumerate(found):
        alone = tracing.trace(
            app_model, tiny_tokenizer, document.words, rationale=document.rationale, query=document.query_words
        )
        assert table["verdict"].iloc[row] == alone.label and table["tokens"].iloc[row] == len(alone)
        assert table["probability"].iloc[row] == pytest.approx(alone.probabilities.max(), abs=1e-5)
        assert table["FLOPs speedup"].iloc[row] == pytest.approx(alone.speedup, rel=1e-6)
        assert table["without removal"].iloc[row] == alone.full_label and table["cut"].iloc[row] == alone.cut_short
    assert pd.isna(table["right"].iloc[3]) and table["right"].iloc[0] == (table["verdict"].iloc[0] == "NEG")


def test_a_text_without_wordpieces_has_no_verdict(app_model: Any, tiny_tokenizer: Any) -> None:
    texts = ["a great film", "\u200b", "dull"]
    table = verdicts.table(app_model, tiny_tokenizer, [Document(f"line {n}", text) for n, text in enumerate(texts)])
    assert table["line"].tolist() == ["line 0", "line 1", "line 2"], "a row that is clicked is the line of its number"
    assert table["text"].tolist() == texts and table["tokens"].tolist()[::2] == [5, 3]
    assert table.loc[1, ["verdict", "probability", "tokens", "without removal"]].isna().all()
    assert table["error"].dropna().to_dict() == {1: EMPTY}
    assert "error" not in verdicts.table(app_model, tiny_tokenizer, [Document("x", "dull")])
    assert len(verdicts.table(app_model, tiny_tokenizer, [Document("x", "\u200b")])) == 1


def test_faithfulness_of_a_pair_is_of_both_segments(app_model: Any, tiny_tokenizer: Any) -> None:
    pair = Document("pair", TEXT, LABEL, (SPAN,), query="never boring ?", labels=("NEG", "POS"))
    trace = tracing.trace(app_model, tiny_tokenizer, pair.words, rationale=pair.rationale, query=pair.query_words)
    found = {"cp": comparing.compare(app_model, tiny_tokenizer, pair, "cp")}
    _, whole, _ = faithful.table(app_model, tiny_tokenizer, pair, trace, found)
    assert whole == pytest.approx(trace.full_probabilities.max(), abs=1e-6)
