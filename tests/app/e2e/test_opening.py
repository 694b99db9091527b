"""What one sees first, on every screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.app.e2e.browser import VIEWS, AppPage

Visit = Callable[..., AppPage]

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")


def test_opens_on_a_review_and_its_verdict(visit: Visit) -> None:
    app = visit()
    text = app.text()
    assert re.search(r"\b(POS|NEG) [\d.>]+%", text)
    assert re.search(r"\d\.\dx fewer FLOPs", text)
    found = re.search(r"(\d+) of (\d+) tokens\s+reach the last layer", text)
    assert found and 0 < int(found[1]) < int(found[2])
    assert app.layers() == 6
    strip = app.page.locator(".al-strip")
    assert re.search(r"Follow .*Layer 0 .*kept.*dropped$", strip.inner_text().replace("\n", " "))
    assert app.large().locator("span.cut").count() > 0
    assert app.large().locator("u.gold").count() > 0, "the rationale is underlined"
    expect(app.page.get_by_test_id("stAlert")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(visit: Visit, scheme: str) -> None:
    app = visit(color_scheme=scheme)
    assert app.page.evaluate("getComputedStyle(document.querySelector('.stApp')).colorScheme") == scheme
    for view in VIEWS:
        app.show(view)
        assert app.page.evaluate(CONTRAST, ".stApp") == [], view


def test_phone(visit: Visit) -> None:
    """Nothing is wider than the screen; what has to scroll does so inside."""
    app = visit(viewport={"width": 390, "height": 844}, has_touch=True)
    for view in VIEWS:
        app.show(view)
        wide = app.page.evaluate(
            """() => { const main = document.querySelector('[data-testid="stMain"]');
            return [main.scrollWidth - main.clientWidth, document.documentElement.scrollWidth - innerWidth]; }"""
        )
        assert max(wide) <= 0, view
