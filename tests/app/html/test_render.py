from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from app.html import render
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
        "unread_gold": 0,
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
    read = Reader(render.verdict(make_trace(["x"], [1], labels=labels), "<b>gold</b>"))
    assert {tag for tag, _ in read.elements} == {"div"}
    assert "<script>1</script> 75%" in read.text and "<b>gold</b>: wrong" in read.text


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
    assert titles[0][1] == "one | score 0.2500 = 1.00/n | threshold 0.0500 | dropped before layer 1"
    assert titles[2][1] == "one | dropped before layer 1"
    assert titles[2][2] == "two | score 0.3333 = 1.00/n | threshold 0.0500 | never dropped"


def test_shade_grows_with_the_score_and_stays_readable() -> None:
    shades = [render.shade(ratio) for ratio in (0, 0.5, 1, 2, 8)]
    assert shades == sorted(set(shades))
    assert render.shade(1000) == render.shade(8) == pytest.approx(0.72)


def test_verdict_says_the_numbers() -> None:
    text = Reader(render.verdict(make_trace(["one", "two"], [1, 2]), "NEG")).text
    assert "POS 75%" in text and "gold label NEG: wrong" in text
    assert "3.4x fewer FLOPs" in text and "3.00 instead of 10.20 MFLOPs" in text
    assert "2 of 4 tokens" in text and "same verdict" in text and "POS 60%" in text
    other = make_trace(["one"], [1], full_probabilities=np.array([0.9, 0.1]), flops=11e6)
    text = Reader(render.verdict(other, None)).text
    assert "different verdict" in text and "no gold label" in text and "1.08x the FLOPs" in text
