"""Pages: complete, self-contained, and whatever comes from outside stays text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import explain, figures
from analysis.page import look
from analysis.report import RationaleReport
from tests.analysis.conftest import BAD
from tests.analysis.sample_report import full_report, make_report

HOSTILE = '<script>alert(1)</script> "onmouseover=x" </style> &amp; \u202eevil\u202c $x_1$ <img src=//e>'
VOID = ("meta", "img", "br", "use", "path", "rect")


class Reader(HTMLParser):
    """Tags, attributes and the rows of token text of a page; fails on tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.rows: list[str] = []
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

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.in_row and "p" in self.open:
            self.rows[-1] += data


def test_a_report_s_page_has_its_figures_tables_tests_and_documents(tmp_path: Path) -> None:
    report = full_report()
    page = report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    reader = Reader(page)
    drawn = [kind for kind in figures.kinds(report) if kind != "document"]
    assert reader.tags.count("svg") == len(drawn) and reader.tags.count("table") == 7 + 7 + 1
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "ids of several figures do not clash"
    text = "[CLS] a unforgettable film . <b>x</b> $y$ 日 [SEP]"
    assert reader.rows == [text] * (2 * (3 * 4 + 1)), "each method at each layer, of both documents"
    assert "checksum: abc" in page and "95 % bootstrap interval" in page
    assert len(re.findall('<td class="best">', page)) > 0


@pytest.mark.parametrize("place", ["title", "data", "tokens", "note"])
def test_hostile_text_in_a_report_stays_text(place: str) -> None:
    report = full_report()
    meta = dict(report.meta)
    if place == "title":
        meta["titles"] = {"cp": HOSTILE}
    elif place == "data":
        meta["data"] = {"name": HOSTILE}
    elif place == "note":
        meta["notes"] = [HOSTILE]
    else:
        meta["examples"] = [one | {"tokens": [HOSTILE] * 10, "id": HOSTILE} for one in meta["examples"]]
    page = RationaleReport(report.frame, meta).to_html()
    reader = Reader(page)
    assert "script" not in reader.tags and "<img" not in page
    assert not any(name.startswith("on") for name, _ in reader.attributes)
    assert "default-src 'none'" in page


def test_shades() -> None:
    assert [look(ratio) for ratio in (0, 1, 3, 8, 99, -3)] == ["", "s3", "s5", "s8", "s8", "n5"]


def test_a_small_table_for_a_notebook() -> None:
    reader = Reader(make_report()._repr_html_())
    assert reader.tags.count("table") == 2 and reader.tags.count("tr") == 2 * 6


def test_an_explanation_s_page_has_the_text_at_every_layer(reducer: Any, tiny_tokenizer: Any) -> None:
    methods = ["cp", "saliency", "saliency_signed", "integrated_gradients(n_steps=4)"]
    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=methods, rationale=[1, 3], gold="neg")
    page = e._repr_html_()
    reader = Reader(page)
    assert reader.rows == ["[CLS] a dull and tedious film , forgettable . [SEP]"] * (3 + 3 + 3 + 1)
    assert e.kept is not None and page.count('class="x"') == 1 + int((~e.kept).sum()), "the legend, and what is dropped"
    assert reader.tags.count("u") == 2 * 10 + 1, "two runs of the rationale a row, and the legend"
    tips = [value or "" for name, value in reader.attributes if name == "title"]
    assert len(tips) == 10 * e.n
    assert sum("dropped here" in tip for tip in tips) + sum("dropped before" in tip for tip in tips) == (~e.kept).sum()
    first = f"[CLS] | score {e.scores['cp'][0, 0]:.4g} = {e.scores['cp'][0, 0] * e.n:.2f}/n"
    assert tips[0].startswith(first) and "completeness gap" in page and "against the target" in page


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE.split(" ")])
def test_hostile_text_in_an_explanation_stays_text(text: Any, tmp_path: Path) -> None:
    e = explain(text, methods=[], scores={"</details><script>": np.ones(len(HOSTILE.split()))}, name="<script>")
    for page in (e._repr_html_(), e.to_html()):
        reader = Reader(page)
        assert not {"script", "img", "a"} & set(reader.tags)
        assert not any(name.startswith("on") for name, _ in reader.attributes)
        assert "\u202e" not in page and "http:" not in page and "url(" not in page
    e.save(tmp_path / "hostile.png", layer=0)
    assert "\u202e" not in repr(e)


def test_a_long_text_has_a_page_of_moderate_size() -> None:
    words = explain(["rain", "dull"] * 600, methods=[], scores={"mine": np.arange(1200.0)})
    assert len(words._repr_html_()) < 100_000 and "title=" not in words._repr_html_()
