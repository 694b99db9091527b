from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.markup import cards, render
from app.model.joining import join_words
from app.model.measuring import Timing
from app.model.tracing import SPECIAL, Trace


def make_trace(surfaces: list[str], depth: list[int], *, layers: int = 3, **changes: Any) -> Trace:
    """A trace between [CLS] and [SEP], one word a token; `depth` is the number of layers that each token enters."""
    size = len(surfaces) + 2
    depths = np.array([layers, *depth, layers])
    enters = np.arange(layers)[:, None] < depths
    present = np.vstack([np.ones((1, size), dtype=bool), enters[:-1]])
    values: dict[str, Any] = {
        "pieces": ("[CLS]", *surfaces, "[SEP]"),
        "surfaces": ("", *surfaces, ""),
        "words": np.array([SPECIAL, *range(len(surfaces)), SPECIAL]),
        "gold": np.zeros(size, dtype=bool),
        "unknown": np.zeros(size, dtype=bool),
        "scores": present / present.sum(1, keepdims=True),
        "enters": enters,
        "thresholds": np.full(layers, 0.05),
        "labels": ("NEG", "POS"),
        "probabilities": np.array([0.25, 0.75]),
        "full_probabilities": np.array([0.4, 0.6]),
        "layer_flops": np.full(layers, 1e6),
        "plain_layer_flops": 3.4e6,
        "flops": 3e6,
        "plain_flops": 10.2e6,
        "unread_words": 0,
        "limit": 512,
    }
    return Trace(**{**values, **changes})


class Reader(HTMLParser):
    """What a browser would make of it: every element with its attributes, all text, and whether all is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def tokens(self) -> list[str | None]:
        return [attrs["class"] for _, attrs in self.elements if attrs.get("class") in ("on", "cut", "gone")]


HOSTILE = [
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "'><img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "</span></div></style>",
    "**bold**_[link](javascript:1)`$x$",
    "\u05e9\u05dc\u05d5\u05dd",
    "\U0001f600\u200d\U0001f466",
    "zero\u200bwidth",
]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_hostile_text_is_only_text(layer: int) -> None:
    depth = [index % 4 for index in range(len(HOSTILE))]
    read = Reader(render.token_text(make_trace(HOSTILE, depth), layer))
    assert read.open == []
    assert {tag for tag, _ in read.elements} <= {"div", "span", "s", "bdi"}
    assert {name for _, attrs in read.elements for name in attrs} <= {
        "class", "title", "style", "dir", "role", "tabindex", "aria-label",
    }  # fmt: skip
    assert read.text == " ".join(["[CLS]", *HOSTILE, "[SEP]"])


def test_hostile_text_without_a_model_and_hostile_labels() -> None:
    assert Reader(render.plain_text(HOSTILE, np.zeros(len(HOSTILE), dtype=bool))).text == " ".join(HOSTILE)
    labels = ("<img src=x>", "<script>1</script>")
    read = Reader(cards.verdict(make_trace(["x"], [1], labels=labels), "<b>gold</b>"))
    assert {tag for tag, _ in read.elements} == {"div", "button"}
    assert "<script>1</script> 75%" in read.text and "<b>gold</b> is none of this model's" in read.text


def test_overrides_and_control_characters_are_spelled_out() -> None:
    assert render.visible("a\u202eb\x00\u2066") == "a[U+202E]b[U+0000][U+2066]"
    assert render.visible("a\u200eb\u200d") == "a\u200eb\u200d"
    title = Reader(render.token_text(make_trace(["a\u202eb"], [3]), 0)).elements[3][1]["title"]
    assert title is not None and title.startswith("a[U+202E]b |")


def test_classes_follow_the_masks() -> None:
    trace = make_trace(["one", "two", "three", "four"], [0, 1, 3, 2])
    expected = [
        ["on", "cut", "on", "on", "on", "on"],
        ["on", "gone", "cut", "on", "on", "on"],
        ["on", "gone", "gone", "on", "cut", "on"],
    ]
    for layer, classes in enumerate(expected):
        html = render.token_text(trace, layer)
        assert Reader(html).tokens() == classes
        assert re.findall(r"<s class=\"cut\"[^>]*>(\w+)</s>", html) == [["one"], ["two"], ["four"]][layer]
        for token, name in enumerate(classes):
            assert (name == "on") == trace.enters[layer, token]


def test_text_is_the_same_at_every_layer() -> None:
    gold = np.array([False, True, True, False, True, False])
    trace = make_trace(["one", "two", "three", "four"], [0, 1, 3, 2], gold=gold)
    texts = {Reader(render.token_text(trace, layer)).text for layer in range(3)}
    assert texts == {"[CLS] one two three four [SEP]"}
    grid = Reader(render.layer_grid(trace))
    assert grid.open == [] and grid.text.count("one two three four") == 3


def test_wordpieces_of_a_word_are_joined() -> None:
    trace = make_trace(
        ["mel", "odrama", "!"], [3, 0, 3], words=np.array([SPECIAL, 0, 0, 1, SPECIAL]),
        pieces=("[CLS]", "mel", "##odrama", "!", "[SEP]"),
    )  # fmt: skip
    html = render.token_text(trace, 0)
    assert Reader(html).text == "[CLS] melodrama ! [SEP]"
    assert 'title="##odrama |' in html


def test_one_underline_for_each_run_of_the_rationale() -> None:
    gold = np.array([False, True, True, False, True, False])
    html = render.token_text(make_trace(["a", "b", "c", "d"], [3, 0, 3, 3], gold=gold), 0)
    runs = re.findall(r'<u class="gold">(.*?)</u>', html)
    assert [Reader(run).text for run in runs] == ["a b", "d"]


def test_hover_says_score_threshold_and_fate() -> None:
    trace = make_trace(["one", "two"], [1, 3])
    titles = [
        [attrs["title"] for _, attrs in Reader(render.token_text(trace, layer)).elements if "title" in attrs]
        for layer in range(3)
    ]
    assert titles[0][1] == "one | score 0.2500 = 1.00/n, n = 4 | threshold 0.0500 | dropped before layer 1"
    assert titles[2][1] == "one | dropped before layer 1"
    assert titles[2][2] == "two | score 0.3333 = 1.00/n, n = 3 | threshold 0.0500 | never dropped"


@pytest.mark.parametrize(
    ("policy", "value", "said"),
    [
        ("adapler", 0.25, "0.2500"),
        ("adapler", 0.01, "0.0100"),
        ("adapler", 0.00103, "0.00103"),
        ("adapler", 0.000976, "0.000976"),
        ("adapler", 0.0, "0.0000"),
        ("ltp", 0.25, "0.25"),
    ],
)
def test_small_scores_are_told_from_a_threshold_near_them(policy: str, value: float, said: str) -> None:
    assert render._exact(SimpleNamespace(policy=policy), value) == said  # type: ignore[arg-type]


def test_shade_grows_with_the_score_and_stays_readable() -> None:
    shades = [render.shade(ratio) for ratio in (0, 0.5, 1, 2, 8)]
    assert shades == sorted(set(shades))
    assert render.shade(1000) == render.shade(8) == pytest.approx(0.72)
    assert render.shade(-5) == render.shade(0), "of a token that [CLS] does not see"


def test_verdict_says_the_numbers() -> None:
    text = Reader(cards.verdict(make_trace(["one", "two"], [1, 2]), "NEG")).text
    assert "POS 75%" in text and "gold label NEG: wrong" in text
    assert "3.4x fewer FLOPs" in text and "3.00 instead of 10.20 MFLOPs" in text
    assert "2 of 4 tokens" in text and "same verdict" in text and "POS 60%" in text
    other = make_trace(["one"], [1], full_probabilities=np.array([0.9, 0.1]), flops=11e6)
    text = Reader(cards.verdict(other, None)).text
    assert "different verdict" in text and "no gold label" in text and "1.08x the FLOPs" in text


def test_a_head_says_the_n_of_its_layer() -> None:
    grid = Reader(render.layer_grid(make_trace(["one", "two", "three"], [1, 3, 2]))).text
    assert [int(n) for n in re.findall(r"n = (\d+)", grid)] == [5, 5, 4]
    assert "present when the layer decides" in Reader(render.legend(make_trace(["one"], [3]))).text


def test_whole_words_are_counted_in_words_and_their_pieces_have_the_threshold() -> None:
    tokens = make_trace(
        ["bath", "house", "!"], [1, 1, 3], words=np.array([SPECIAL, 0, 0, 1, SPECIAL]),
        pieces=("[CLS]", "bath", "##house", "!", "[SEP]"), thresholds=np.full(3, 0.25),
    )  # fmt: skip
    words = join_words(tokens)
    read = Reader(render.layer_row(words, 1))
    assert "3 of 4 words" in read.text and "1 dropped here, n = 4" in read.text
    title = next(attrs["title"] for _, attrs in read.elements if (attrs.get("title") or "").startswith("bathhouse"))
    assert title == (
        "bathhouse | score 0.4000 = 1.60/n, n = 4 | kept while one of its wordpieces is: bath 0.2000, ##house 0.2000"
        " | threshold 0.2500 | dropped before layer 1"
    ), "the sum is above the threshold, which it is not compared with"
    partly = join_words(replace(tokens, enters=np.array([[1, 1, 0, 1, 1], [1, 1, 0, 1, 1], [1, 0, 0, 1, 1]]) > 0))
    title = Reader(render.token_text(partly, 1)).elements[3][1]["title"]
    assert title is not None and "##house dropped before layer 0" in title


def test_unknown_tokens_and_a_query_are_marked() -> None:
    trace = make_trace(
        ["good", "\U0001f3ac", "why", "?"], [3, 3, 3, 0], unknown=np.array([False, False, True, False, False, False]),
        pieces=("[CLS]", "good", "[UNK]", "why", "?", "[SEP]"), words=np.array([SPECIAL, 0, 1, -2, -3, SPECIAL]),
    )  # fmt: skip
    read = Reader(render.token_text(trace, 1))
    assert read.text == "[CLS] good \U0001f3ac why ? [SEP]"
    titles = [attrs["title"] for _, attrs in read.elements if attrs.get("class") == "on unk"]
    assert len(titles) == 1 and "not in the vocabulary" in str(titles[0])
    legend = Reader(render.legend(trace)).text
    assert "not in the vocabulary: the model reads [UNK]" in legend and "the query" in legend
    plain = Reader(render.legend(make_trace(["good"], [3]))).text
    assert "vocabulary" not in plain and "query" not in plain and "evidence" not in plain


def test_a_legend_of_two_sides_is_of_both() -> None:
    marks = {"gold": np.array([False, True, False]), "unknown": np.array([False, True, False])}
    left, right = make_trace(["good"], [3]), make_trace(["bad"], [3], policy="power", **marks)
    for one, other in ((left, right), (right, left)):
        legend = Reader(render.legend(one, other)).text
        assert "evidence" in legend and "not in the vocabulary" in legend and "dashed" in legend
    legend = Reader(render.legend(left, right)).text
    assert "shaded by contribution score on the left, the score of power on the right:" in legend
    assert "below the threshold on the left, bar on the right" in legend
    assert "on the left" not in Reader(render.legend(left, left)).text


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.5, "50%"), (0.984, "98%"), (0.9862, "98.6%"), (0.9985, "99.9%"), (0.9993, "99.9%"), (0.9996, "&gt;99.9%"),
     (1.0, "&gt;99.9%"), (0.015, "2%"), (0.0149, "1.5%"), (0.0036, "0.4%"), (0.0004, "&lt;0.1%"), (0.0, "&lt;0.1%")],
)  # fmt: skip
def test_a_probability_is_never_certainty(probability: float, shown: str) -> None:
    assert cards.percent(probability) == shown


@pytest.mark.parametrize(
    ("gold", "known", "said"),
    [
        ("pos", (), "gold label pos: right"),
        ("NEG", (), "gold label NEG: wrong"),
        ("1", (), "gold label 1 (POS by number): right"),
        ("joy", ("anger", "joy"), "gold label joy is none of this model's (NEG, POS)"),
        ("positive", (), "gold label positive: right"),
    ],
)
def test_the_verdict_is_judged_by_the_class_that_the_label_means(gold: str, known: Any, said: str) -> None:
    assert said in Reader(cards.verdict(make_trace(["x"], [1]), gold, known=known)).text


def test_timing_says_its_range() -> None:
    text = Reader(cards.timing(Timing((100.0, 200.0, 150.0), (200.0, 220.0, 450.0)))).text
    assert "150 ms (100 to 200) with removal" in text and "220 ms (200 to 450) without" in text
    assert "2.00x as fast" in text and "1.10x to 3.00x" in text and "Whatever else it runs" in text
    assert "not measured yet" in Reader(cards.timing(None)).text
