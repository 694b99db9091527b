from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis import figures
from analysis.output import html_tokens
from analysis.results.report import DocumentScores
from tests.analysis.sample_report import full_report, make_example, make_report

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Checker(HTMLParser):
    """Every element is closed, in order; keeps elements, ids, references and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"a script in {name}"
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href", "src"):
                self.references.append(value or "")
            self.references += re.findall(r"url\((.*?)\)", value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    report = full_report()
    meta = report.meta | {"command": "x <script>alert(1)</script>", "papers": {"cp": "https://example.org/a?b=1&c=2"}}
    meta["data"] = {"name": "<img src=x onerror=alert(1)>", "checksum": "abc"}
    meta["titles"] = {"cp": "AdapLeR CP", "attention": "<u>attention</u>"}
    return replace(report, meta=meta).to_html()


def parsed(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert not checker.open
    return checker


def test_the_page_is_self_contained_and_well_formed(page: str) -> None:
    checker = parsed(page)
    assert not checker.tags & {"script", "link", "iframe", "object", "embed", "img"}
    links = [reference for reference in checker.references if not reference.startswith("#")]
    images = [link for link in links if not link.startswith("data:image/png;base64,")]
    assert images == ["https://example.org/a?b=1&c=2"], "nothing else leads out of the page"
    assert "@import" not in page and "default-src 'none'" in page


def test_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    checker = parsed(page)
    assert len(checker.ids) == len(set(checker.ids)) > 100
    assert {reference[1:] for reference in checker.references if reference.startswith("#")} <= set(checker.ids)


def test_text_from_outside_is_escaped(page: str) -> None:
    for harmful in ("<script", "<img", "<b>x</b>", "<u>attention", "<i>döc"):
        assert harmful not in page
    checker = parsed(page)
    for text in ("<b>x</b>", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<i>döc</i>"):
        assert text in checker.text


def test_the_page_shows_tables_tests_and_documents(page: str) -> None:
    text = parsed(page).text
    for expected in ("Average precision", "AdapLeR CP against the other methods", "p (Holm)", "Layer 3", "input"):
        assert expected in text
    assert page.count("<svg") == 6 and page.count("<caption>") == 7 and page.count("<caption class=") == 7
    assert page.count("<details open>") == 1


def test_a_report_without_extras_has_a_page(tmp_path: Path) -> None:
    report = make_report(2, with_adapler=False)
    text = report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    assert "token by token" not in text and text.count("<svg") == 1
    parsed(text)


def test_the_page_draws_the_first_document_that_has_scores() -> None:
    """Saved scores need not be there for every document, and the others are examples all the same."""
    bare, scored = full_report().examples
    report = replace(full_report(), examples=(replace(bare, scores={}), scored))
    assert "Scores of document &lt;i&gt;döc&lt;/i&gt;" in report.to_html()
    for kind in ("heatmap", "document"):
        with pytest.raises(ArgumentError, match="^document döc_0: no scores to draw"):
            report.figure(kind)


def test_the_page_of_saved_scores_tells_of_no_model() -> None:
    report = make_report(with_adapler=False)
    facts = {"tokens": "words", "truncation": {"rationale_words": 4, "rationale_words_lost": 0}}
    page = replace(report, meta=report.meta | facts).to_html()
    assert "whole documents</small>" in page and "of the words in view" in page
    assert "fine-tuned classifier" not in page and "policy truncate</small>" not in page


def test_a_report_without_human_rationales_promises_no_agreement() -> None:
    report = make_report()
    alone = replace(report, metrics=("aopc_comprehensiveness", *report.metrics[1:])).to_html()
    assert "Agreement with human rationales" in alone, "of the others"
    faithful = replace(report, metrics=("aopc_comprehensiveness",), values=report.values[..., :1]).to_html()
    assert "human rationales" not in faithful and "Rationale density" not in faithful and "<h1>Scores: " in faithful


def test_tokens_are_shaded_underlined_and_pale_once_dropped() -> None:
    document = DocumentScores(
        id="x",
        tokens=("[CLS]", "un", "##real", "film", "[SEP]"),
        words=np.array([-1, 0, 0, 1, -1]),
        rationale=np.array([False, True, True, False, False]),
        scores={"cp": np.array([[0.1, 0.2, 0.2, 0.4, 0.1], [0.0, 0.5, 0.0, 0.5, 0.0]])},
        retention=np.array([[True, True, False, True, True], [True, True, False, True, True]]),
    )
    layers = html_tokens.grid(document, "cp", layerwise=True).split('<div class="layer">')[1:]
    # .2 is uniform over 5 tokens: log 2 / log 9 of the darkest of 8 shades; the dropped token has none
    assert '<u><span class="s3">un</span></u><u><span class="x">real</span></u> <span class="s4">film' in layers[0]
    # layer 1 shares its scores out among the 4 tokens that entered layer 0: .5 is twice the uniform one
    assert '<span class="s0">[CLS]</span> <u><span class="s4">un</span></u>' in layers[1]
    assert "4 tokens" in layers[0]


def test_signed_scores_have_two_colours() -> None:
    document = DocumentScores("x", ("a", "b"), np.arange(2), np.zeros(2), {"m": np.array([[0.5, -0.5]])})
    assert html_tokens.grid(document, "m", layerwise=False).count("Input") == 1
    assert '<span class="s3">a</span> <span class="n3">b</span>' in html_tokens.grid(document, "m", layerwise=False)


def test_control_characters_are_spelled_out() -> None:
    assert html_tokens.visible("a\u202eb\x07<") == "a[U+202E]b[U+0007]&lt;"
    assert "un</span>" in html_tokens.grid(make_example(), "saliency", layerwise=True)


def test_the_only_layer_of_a_model_is_not_its_input() -> None:
    html = "".join(html_tokens.examples(full_report(1)))
    names = re.findall(r'<summary>([^<]*)</summary><div class="grid"><div class="layer"><div>([A-Za-z]*(?: 0)?)', html)
    assert dict(names) == {
        "AdapLeR CP": "Layer 0",
        "attention": "Layer 0",
        "saliency": "Layer 0",
        "lime(n_samples=8)": "Input",
    }


def test_a_saved_page_is_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the figures as they were saved, which are those that it draws by itself."""
    monkeypatch.setattr(figures, "kinds", lambda report, methods=None: ("lengths", "document", "heatmap"))
    whole = full_report()
    unread = replace(whole.examples[0], scores={})  # saved scores need not be there for every document
    report = replace(whole, examples=[unread, *whole.examples])
    report.save(tmp_path / "report")
    saved = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert saved == report.to_html() and saved.count("<svg") == 2
