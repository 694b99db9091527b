"""Side by side, in the browser: one slider for both, and a word is found on either side."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from playwright.sync_api import expect

from app.server import state
from tests.app.e2e.browser import VIEWS, AppPage

Visit = Callable[..., AppPage]


def test_one_slider_moves_both_sides(visit: Visit) -> None:
    app = visit(f"?view={quote(VIEWS['sides'])}&scale2=0.3")
    sides = app.page.locator(".al-method")
    expect(sides).to_have_count(2)
    expect(sides.nth(1)).to_contain_text("Scale 0.3")
    app.slide("layer", "End")
    for number in range(2):
        expect(sides.nth(number)).to_contain_text("layer 5: ")
    apart = sides.first.locator(".apart")
    expect(sides.first).to_contain_text(f"{apart.count()} differ from the other side")
    assert apart.count() > 10 and apart.first.evaluate("one => getComputedStyle(one).borderBottomStyle") == "dashed"

    word = sides.first.locator("[data-token]", has_text="horribly")
    word.focus()
    word.press("Enter")
    expect(sides.nth(1).locator(".pick")).to_have_text("horribly")
    expect(app.page.get_by_role("region", name="The chosen token, Scale 0.3")).to_contain_text("horribly")
    expect(app.page.get_by_role("region", name="The chosen token")).to_have_count(2)
    app.page.get_by_role("button", name="Close", exact=True).first.click()
    expect(app.page.locator(".al-method .pick")).to_have_count(0)
    app.page.reload()
    expect(sides.nth(1)).to_contain_text("layer 5: ")


def test_an_edit_is_marked(visit: Visit) -> None:
    app = visit(f"?view={quote(VIEWS['sides'])}&differs={quote(state.BY_EDIT)}")
    box = app.widget("text2").locator("textarea")
    expect(box).to_have_value(re.compile("horribly"))
    box.fill(box.input_value().replace("horribly", "wonderfully"))
    box.press("Control+Enter")
    sides = app.page.locator(".al-method")
    expect(sides.nth(1)).to_contain_text("wonderfully")
    expect(sides.nth(1).locator(".apart", has_text="wonderfully")).to_have_count(1)
    expect(sides.first.locator(".apart", has_text="horribly")).to_have_count(1)


def test_where_else_a_word_is_read(visit: Visit) -> None:
    app = visit()
    app.large().locator("[data-token]", has_text="horribly").click()
    app.read_all()
    app.shows("of 43 other documents")
    table = app.widget("elsewhere").locator(".dvn-scroller")
    table.click(position={"x": 16, "y": 53})
    expect(app.page.locator(".al-details")).to_be_empty()  # another document has nothing picked yet
    assert "negS_063.txt" not in app.text()
