from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from app.markup import player, strip, terms
from app.model.joining import join_words
from app.panels.player import picked
from tests.app.markup.test_render import HOSTILE, Reader, make_trace


def test_the_player_gets_plain_data() -> None:
    trace = make_trace([*HOSTILE, "\u202egnorw", "tab\there"], [index % 4 for index in range(len(HOSTILE) + 2)])
    data = json.loads(json.dumps(player.drawn(trace, [player.layers_panel(trace)])))
    assert [one["text"] for one in data["tokens"]] == [
        "[CLS]", *HOSTILE, "[U+202E]gnorw", "tab[U+0009]here", "[SEP]",
    ]  # fmt: skip
    (panel,) = data["panels"]
    assert panel["depth"] == trace.depth.tolist() and panel["n"] == trace.present.tolist()
    np.testing.assert_allclose(panel["scores"], trace.scores, atol=1e-8)
    assert data["pieces"] == {} and data["unit"] == "tokens"


def test_words_have_their_pieces() -> None:
    trace = make_trace(["good", "ness", "film"], [1, 3, 2])
    joined = join_words(replace(trace, words=np.array([-1, 0, 0, 1, -1])))
    data = player.drawn(joined, [player.layers_panel(joined)])
    assert [one["text"] for one in data["tokens"]] == ["[CLS]", "goodness", "film", "[SEP]"]
    assert [(one["name"], one["depth"]) for one in data["pieces"]["1"]] == [("good", 1), ("ness", 3)]
    assert data["text"] != player.identity(trace), "a pick of a token is none of a word"


def test_what_a_browser_says_is_checked() -> None:
    trace = make_trace(["one", "two"], [1, 2])
    data = player.drawn(trace, [player.layers_panel(trace)])
    text = data["text"]
    assert picked({"picked": {"text": text, "token": 2}}, data) == 2
    for told in (None, 3, "x", {}, {"text": "other", "token": 1}, {"text": text, "token": 99},
                 {"text": text, "token": -1}, {"text": text, "token": "1"}, {"text": text}):  # fmt: skip
        assert picked({"picked": told}, data) is None


def test_the_strip_follows_a_word_that_is_kept_and_then_dropped() -> None:
    trace = make_trace(["the", "acting", "wooden", "film"], [0, 2, 1, 3])
    assert strip.followed(trace) == 2, "read by two layers"
    read = Reader(strip.strip(trace))
    assert read.open == [] and "acting" in read.text
    assert read.text.count(": kept") == 2 and read.text.count(": dropped") == 1
    assert strip.strip(make_trace(["one", "two"], [3, 0])) == "", "nothing to follow"


def test_the_strip_escapes_its_word() -> None:
    trace = make_trace(["abc"], [1])
    read = Reader(strip.strip(replace(trace, surfaces=("", "abc", ""))))
    assert {tag for tag, _ in read.elements} <= {"section", "p", "b", "button", "ol", "li", "span"}


@pytest.mark.parametrize("name", terms.TERMS)
def test_a_term_is_one_sentence_that_can_be_reached(name: str) -> None:
    meaning = terms.TERMS[name]
    assert meaning.endswith(".") and meaning.count(". ") == 0
    ((tag, attributes),) = Reader(terms.term(name)).elements
    assert tag == "button" and attributes["data-meaning"] == attributes["aria-description"] == meaning
