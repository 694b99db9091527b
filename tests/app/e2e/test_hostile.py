"""Text that wants to be more than text. `visit` checks after each test that no dialog opened and no request left."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from app.server import state
from tests.app.e2e.browser import AppPage

Visit = Callable[..., AppPage]
PIECES = (
    "<script>window.hacked=1;alert(1)</script>",
    '<img/src="x"onerror="window.hacked=1;alert(1)">',
    "<img/src=//elsewhere.example/pixel.png>",
    '"><svg/onload=alert(1)>',
    "</div></section></style><style>*{display:none}</style>",
    "![picture](//elsewhere.example/picture.png)",
    "[link](javascript:alert(1))",
    "**bold** _slanted_ `code` $x^2$ :red[red] :tada: # ~~struck~~",
    "{{7*7}} ${7*7} %s &lt;b&gt; &#x3c;i&#x3e;",
    "\u0645\u0645\u062a\u0627\u0632 \u05e0\u05d4\u05d3\u05e8 \u202egnorw\u202c",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3ac",
    "in\u200bvisible \u200d \ufeff \u2060 zero",
)
TEXT = " ".join(PIECES) + " a good film"
# Tags that only the text could have brought in, in the page or in a frame of it.
INTRUDERS = 'script:has-text("hacked"), img[src="x"], [onerror], [onload], a[href^="javascript"], [src*="elsewhere"]'


def runs_nothing(page: AppPage) -> None:
    for frame in page.page.frames:
        assert frame.evaluate("window.hacked") is None
        assert frame.locator(INTRUDERS).count() == 0


def letters(text: str) -> str:
    """Without what the page may add, break or spell out: white space and characters that are not seen."""
    return "".join(char for char in text if char.isprintable() and not char.isspace())


@pytest.mark.parametrize("show", [state.ALL_LAYERS, state.ONE_LAYER])
def test_typed_text_is_text(visit: Visit, show: str) -> None:
    app = visit(f"?source={quote(state.OWN_TEXT)}&show={quote(show)}")
    app.write(TEXT)
    app.submit()
    shown = app.page.locator(".al-text:not(.al-legend)").first
    expect(shown).to_contain_text("window.hacked")
    runs_nothing(app)
    drawn = letters(shown.text_content() or "")
    for piece in PIECES:
        for word in piece.split():
            if "\u202e" not in word and word.isprintable():
                assert letters(word) in drawn, word
    assert "gnorw" in drawn and "\u202e" not in (shown.text_content() or ""), "an override reverses nothing"
    assert app.page.locator(".al-text b, .al-text em, .al-text code, .al-text .katex").count() == 0


def test_other_views_show_it_as_text(visit: Visit) -> None:
    app = visit(f"?text={quote(TEXT)}")
    for view, last in (("compare", ".al-method"), ("budget", ".al-timing"), ("take-away", ".st-key-save-html")):
        app.view(view)
        expect(app.page.locator(last).first).to_be_visible()
        app.settle()
        runs_nothing(app)


def test_addresses_choose_from_menus_only(visit: Visit) -> None:
    bad = quote("<img src=x onerror='window.hacked=1;alert(1)'>")
    names = ("view", "checkpoint", "source", "corpus", "split", "document", "part", "layer", "scale", "show", "method")
    for value in (bad, quote("../../../../etc/passwd"), "1e999"):
        app = visit("?" + "&".join(f"{name}={value}" for name in names))
        app.shows("reach the last layer")
        assert "passwd" not in app.text()
        expect(app.page.get_by_test_id("stException")).to_have_count(0)
        runs_nothing(app)


def test_uploaded_lines_and_file_names_are_text(visit: Visit) -> None:
    app = visit(f"?source={quote(state.OWN_TEXT)}")
    row = {"id": PIECES[1], "text": TEXT, "label": PIECES[0]}
    name = "<img src=x onerror=alert(1)> **film**.jsonl"
    app.upload(name, json.dumps(row).encode())
    expect(app.large()).to_contain_text("window.hacked")
    runs_nothing(app)
