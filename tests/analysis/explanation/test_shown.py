"""What an explanation looks like: page, terminal, figures, files."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from adapler.errors import ArgumentError
from analysis import explain
from analysis.explanation import Explanation
from analysis.explanation.arguments import gold_index
from analysis.scores import Batch, LayerScores
from tests.analysis.conftest import BAD

HOSTILE = '<script>alert(1)</script> "onmouseover=x" </style> &amp; \u202eevil\u202c $x_1$ <img src=//e>'
VOID = ("meta", "img", "br")


class Reader(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.rows: list[str] = []
        self.struck: list[str] = []
        self.in_row = False
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "p":
            self.in_row = ("dir", "auto") in attrs
            self.rows += [""] if self.in_row else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.in_row and "p" in self.open:
            self.rows[-1] += data
        if self.open and self.open[-1] == "s":
            self.struck.append(data)


@pytest.fixture
def e(reducer: Any, tiny_tokenizer: Any) -> Explanation:
    methods = ["cp", "saliency", "saliency_signed", "integrated_gradients(n_steps=4)"]
    return explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=methods, rationale=[1, 3], gold="neg")


def test_the_page_has_the_text_at_every_layer(e: Explanation) -> None:
    reader = Reader(e._repr_html_())
    text = "[CLS] a dull and tedious film , forgettable . [SEP]"
    assert reader.rows == [text] * (3 + 3 + 3 + 1)
    assert e.kept is not None
    assert len([word for word in reader.struck if word != "dropped"]) == int((~e.kept).sum()) > 0
    assert reader.tags.count("u") == 2 * 10 + 1, "two runs of the rationale a row, and the legend"
    tips = [value or "" for name, value in reader.attributes if name == "title"]
    assert len(tips) == 10 * e.n
    assert sum("dropped here" in tip for tip in tips) + sum("dropped before" in tip for tip in tips) == (~e.kept).sum()
    first = f"[CLS] | score {e.scores['cp'][0, 0]:.4g} = {e.scores['cp'][0, 0] * e.n:.2f}/n"
    assert tips[0].startswith(first)


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE.split(" ")])
def test_a_hostile_text_stays_text(text: Any, classifier: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    e = explain(
        text,
        model=classifier,
        tokenizer=tiny_tokenizer,
        methods=["attention"],
        scores={"<b onclick=x>": np.ones(len(HOSTILE.split()))},
        name="<script>",
    )
    words_only = explain(text, methods=[], scores={"</details><script>": np.ones(len(HOSTILE.split()))})
    for one in (e, words_only):
        for page in (one._repr_html_(), one.to_html()):
            reader = Reader(page)
            allowed = {"div", "style", "p", "b", "details", "summary", "small", "span", "s", "u"}
            assert set(reader.tags) <= allowed | {"html", "head", "meta", "title", "body"}
            assert {name for name, _ in reader.attributes} <= {
                "class", "open", "title", "dir", "lang", "charset", "http-equiv", "content", "name"
            }  # fmt: skip
            assert "\u202e" not in page and "http:" not in page and "https:" not in page and "url(" not in page
        for suffix in ("png", "svg"):
            one.save(tmp_path / f"hostile.{suffix}", layer=0)
        assert "\u202e" not in repr(one)


def test_a_long_text_has_a_page_of_moderate_size(reducer: Any, tiny_tokenizer: Any) -> None:
    words = explain(["rain", "dull"] * 600, methods=[], scores={"mine": np.arange(1200.0)})
    assert len(words._repr_html_()) < 100_000 and "title=" not in words._repr_html_()


def test_one_word_is_not_words() -> None:
    one = explain(["dull"], methods=[], scores={"mine": [1.0]})
    assert "n = 1 token, 1 word: dull" in repr(one) and "1 word, n = 1 token with" in one._repr_html_()


def test_a_token_that_is_gone_has_no_threshold_and_is_not_among_the_highest(e: Explanation) -> None:
    cp, frame = e.methods["cp"], e.to_frame()
    assert cp.present is not None and not cp.present[-1].all()
    rows = frame[frame["method"] == "cp"].sort_values(["layer", "position"])
    assert (rows["threshold"].notna().to_numpy().reshape(cp.present.shape) == cp.present).all()
    best = [line for line in repr(e).splitlines() if line.startswith("cp ")][0]
    assert best.count(", ") + 1 == min(4, int(cp.present[-1].sum()))


def test_scores_of_some_tokens_are_not_taken_for_those_by_which_the_model_drops(
    reducer: Any, tiny_tokenizer: Any
) -> None:
    def of_text(model: Any, batch: Batch) -> LayerScores:
        """Shares of the tokens of the text alone."""
        assert batch.special is not None
        there = ~batch.special[:, None].expand(-1, model.config.num_hidden_layers, -1)
        return LayerScores(there / there.sum(-1, keepdim=True), present=there)

    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=[of_text])
    assert e.kept is not None and not e.kept.all() and e.to_frame()["threshold"].isna().all()
    page = e.to_html()
    assert "dropped" not in page and "threshold" not in page and not Reader(page).struck
    assert page.count("not among the tokens scored here") == 2 * e.n_layers and "n = tokens present" in page
    bars = e.plot(layer=e.n_layers - 1).axes[0]
    assert all(bar.get_facecolor()[3] > 0 for bar in bars.patches) and len(bars.lines) == 1, "1/n alone, no cross"


def test_the_terminal_shows_a_short_table(e: Explanation) -> None:
    lines = repr(e).splitlines()
    assert len(lines) == 3 + len(e.methods) and max(map(len, lines)) < 160
    assert "without removal" in lines[0] and "gold label NEG" in lines[0]
    assert gold_index("negative", ("NEG", "POS")) == 0 and gold_index("POS", ("NEG", "POS")) == 1
    with pytest.raises(ArgumentError, match=r"^gold: got 'x', the model's classes are NEG \(0\), POS \(1\)$"):
        gold_index("x", ("NEG", "POS"))
    assert lines[1].startswith("n = 12 tokens, 8 words")
    best = int(e.scores["cp"][-1].argmax())
    assert f"{e.tokens[best].removeprefix('##')} {e.scores['cp'][-1, best]:.3f}" in lines[3]


def test_every_layer_is_a_heat_map(e: Explanation) -> None:
    figure = e.plot()
    assert isinstance(figure, Figure)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 4 and len(e.plot(methods=["cp", "saliency"]).axes) == 3
    assert [ax.get_title(loc="left") for ax in panels][:2] == ["AdapLeR CP", "Saliency"]


def test_one_layer_is_bars_of_the_scores(e: Explanation) -> None:
    figure = e.plot(layer=2)
    for ax, (name, method) in zip(figure.axes, e.methods.items(), strict=True):
        heights = [bar.get_height() for bar in ax.patches]
        np.testing.assert_allclose(heights, e.scores[name][method.row(2)], rtol=1e-6)
        levels = {text.get_text(): float(text.xy[1]) for text in ax.texts}
        n = int(method.n_present[method.row(2)])
        assert levels.get(f"1/n, n = {n}") == (None if method.signed else pytest.approx(1 / n))
    assert e.thresholds is not None and e.kept is not None
    cp = figure.axes[0]
    assert {t.get_text(): t.xy[1] for t in cp.texts}["threshold"] == pytest.approx(e.thresholds[2])
    assert [bar.get_facecolor()[3] > 0 for bar in cp.patches] == e.kept[2].tolist(), "hollow where it is dropped"
    names = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert names[:6] == ["[CLS]", "a", "dull", "and", "ted", "ious"]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_every_layer_can_be_laid_out(layer: int, e: Explanation, tmp_path: Path) -> None:
    e.save(tmp_path / "bars.png", layer=layer)  # matplotlib warns when it cannot, and warnings are errors


def test_a_long_text_is_drawn_as_an_excerpt(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD * 5, model=reducer, tokenizer=tiny_tokenizer, methods=["cp", "attention"])
    figure = e.plot(layer=1)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["AdapLeR CP", "[CLS] attention"]


def test_a_figure_of_one_layer_that_the_user_saves_has_truetype_fonts(
    e: Explanation, reducer: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    longer = explain(BAD * 5, model=reducer, tokenizer=tiny_tokenizer, methods="cp")
    for one in (e, longer):  # bars, and the shaded text
        one.plot(layer=1, methods="cp").savefig(tmp_path / "mine.pdf")
        pdf = (tmp_path / "mine.pdf").read_bytes()
        assert b"/Type3" not in pdf and b"/FontFile2" in pdf


def test_layers_and_methods_that_are_not_there(e: Explanation) -> None:
    with pytest.raises(ArgumentError, match="layer: got 3, 'cp' has 0 to 2"):
        e.plot(layer=3)
    with pytest.raises(ArgumentError, match="layer: got 1.0, must be a whole number"):
        e.plot(layer=1.0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="methods: 'lime' is not in this explanation, which has cp, saliency"):
        e.plot(methods="lime")


def test_files(e: Explanation, tmp_path: Path) -> None:
    for suffix in ("pdf", "png", "svg", "html", "csv", "json"):
        assert e.save(tmp_path / "made" / f"e.{suffix}") == tmp_path / "made" / f"e.{suffix}"
    pdf = (tmp_path / "made" / "e.pdf").read_bytes()
    assert b"/Type3" not in pdf and b"/FontFile2" in pdf, "fonts are embedded, as TrueType"
    assert (tmp_path / "made" / "e.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "made" / "e.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and e._repr_html_() in page and not re.search("<script", page)
    frame = pd.read_csv(tmp_path / "made" / "e.csv")
    assert list(frame.columns) == list(e.to_frame().columns) and len(frame) == len(e.to_frame())
    read = json.loads((tmp_path / "made" / "e.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(read["methods"]["cp"]["scores"], e.scores["cp"])
    assert read["kept"] == e.kept.astype(int).tolist() and read["tokens"] == list(e.tokens)
    assert read["methods"]["cp"]["n_present"] == e.present.sum(1).tolist()


def test_what_is_no_number_is_null_in_json(classifier: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    def unsure(model: Any, batch: Batch) -> LayerScores:
        scores = torch.ones(1, 3, batch.input_ids.shape[1]) / batch.input_ids.shape[1]
        return LayerScores(scores, diagnostics={"ratio": torch.tensor([[0.5, float("nan"), float("inf")]])})

    path = explain(BAD, model=classifier, tokenizer=tiny_tokenizer, methods=unsure).save(tmp_path / "e.json")
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["methods"]["unsure"]["diagnostics"] == {"ratio": [0.5, None, "Infinity"]}


@pytest.mark.parametrize("layers", [1, 3])
def test_saved_scores_called_like_the_model_s_own_are_not_taken_for_them(
    layers: int, reducer: Any, tiny_tokenizer: Any
) -> None:
    rows = np.arange(1.0, 1 + layers * len(BAD)).reshape(layers, -1)
    options = {"model": reducer, "tokenizer": tiny_tokenizer, "methods": "saliency"}
    named = explain(BAD, scores={"cp": rows if layers > 1 else rows[0]}, **options)
    other = explain(BAD, scores={"mine": rows if layers > 1 else rows[0]}, **options)
    assert named.kept is not None and not named.kept.all()
    assert named.to_html().replace("<summary>cp", "<summary>mine") == other.to_html()
    first, second = (one.plot(methods=name).axes[0].images[0] for one, name in ((named, "cp"), (other, "mine")))
    np.testing.assert_array_equal(first.get_array().filled(np.nan), second.get_array().filled(np.nan))


def test_a_file_that_cannot_be_made_leaves_nothing(e: Explanation, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"save: 'e.docx' must end in one of .pdf, .png, .svg, .html, .csv, .json"):
        e.save(tmp_path / "e.docx")
    with pytest.raises(ArgumentError, match="layer and methods are for figures, e.csv holds everything"):
        e.save(tmp_path / "e.csv", layer=1)
    assert list(tmp_path.iterdir()) == []
