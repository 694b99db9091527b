"""What once looked wrong, on the screens where it did; other files have the rest of that list."""

from __future__ import annotations

import io
from collections.abc import Callable
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from app.server import state
from tests.app.e2e.browser import VIEWS, AppPage

Visit = Callable[..., AppPage]
PROJECTOR = {"width": 1024, "height": 768}
PHONE = {"width": 390, "height": 844}
# How many lines of a text stand wholly on the screen, from the tops of its tokens.
LINES = """text => {
  const boxes = [...text.querySelectorAll("[data-token]")].map(one => one.getClientRects()[0]);
  return new Set(boxes.filter(box => box && box.bottom <= innerHeight).map(box => Math.round(box.top / 8))).size;
}"""
# Pairs of labels of one figure that lie on each other.
COLLISIONS = """figure => {
  const all = [...figure.querySelectorAll("text")].map(one => [one.textContent, one.getBoundingClientRect()]);
  const on = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const hit = ([name, box], at) =>
    all.slice(at + 1).filter(other => on(box, other[1])).map(other => [name, other[0]]);
  return all.flatMap(hit);
}"""


def at(view: str, rest: str = "") -> str:
    return f"?view={quote(VIEWS[view])}{rest}"


def brightness(place: Locator) -> float:
    """The median brightness of what is seen, 0 to 255."""
    return float(np.median(np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("L"))))


@pytest.mark.parametrize(("screen", "lines"), [(PROJECTOR, 7), (PHONE, 4)], ids=["projector", "phone"])
def test_the_text_begins_on_the_first_screen(visit: Visit, screen: dict[str, int], lines: int) -> None:
    """With the button that changes it, and no label cut short."""
    app = visit(viewport=screen)
    expect(app.player().locator(".al-play")).to_be_in_viewport(ratio=1)
    assert app.large().locator(".al-text").evaluate(LINES) >= lines
    expect(app.page.locator("h1")).to_be_in_viewport(ratio=1)
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"
    for view in ("layers", "compare"):
        app.show(view)
        labels = app.widget("units").locator("p").filter(has_not_text="Shown in")
        assert labels.all_inner_texts() == list(state.UNITS) and labels.evaluate_all(cut) == []


@pytest.mark.parametrize("view", ["take-away", "corpus", "trust", "budget"])
def test_figures_are_dark_on_a_dark_page(visit: Visit, view: str) -> None:
    app = visit(at(view), color_scheme="dark")
    if view == "corpus":
        app.choose("report", "sample-small")
    figure = app.page.locator(".al-figure img, [data-testid=stVegaLiteChart]").first
    expect(figure).to_be_visible()
    app.settle()
    assert brightness(figure) < 80


def test_labels_of_figures_are_apart(visit: Visit) -> None:
    for screen in ({"width": 1280, "height": 900}, PHONE):
        for view in ("budget", "trust"):
            app = visit(at(view), viewport=screen)
            charts = app.page.get_by_test_id("stVegaLiteChart")
            expect(charts.last.locator("svg")).to_be_visible()
            app.settle()
            assert charts.count() >= 2
            for number in range(charts.count()):
                assert charts.nth(number).locator("text").count() > 5
                assert charts.nth(number).evaluate(COLLISIONS) == [], (screen, view)


def test_the_slider_of_a_budget_moves_numbers_and_not_the_page(visit: Visit) -> None:
    app = visit(at("budget"))
    heading = app.page.get_by_role("heading", name="Tokens that enter each layer")
    expect(app.page.get_by_test_id("stVegaLiteChart").last.locator("svg")).to_be_visible()
    before = heading.bounding_box()
    for presses, cost in (("Home", "the FLOPs"), ("End", "fewer FLOPs")):
        app.slide("scale", presses)
        expect(app.page.locator(".al-cards")).to_contain_text(cost)
        app.settle()
        assert heading.bounding_box() == before


@pytest.mark.parametrize(("text", "flips"), [("a wonderful film", True), ("good", False)])
def test_the_legend_of_a_budget_names_what_is_there(visit: Visit, text: str, flips: bool) -> None:
    app = visit(at("budget", f"&source={quote(state.OWN_TEXT)}&text={quote(text)}"))
    chart = app.page.get_by_test_id("stVegaLiteChart").first
    expect(chart).to_contain_text("verdict")
    assert ("verdict flips" in (chart.text_content() or "")) == flips


@pytest.mark.parametrize("screen", [{"width": 1280, "height": 900}, PHONE], ids=["desk", "phone"])
def test_views_have_whole_borders_and_say_their_document(visit: Visit, screen: dict[str, int]) -> None:
    app = visit(viewport=screen)
    buttons = app.widget("view").get_by_role("radio").or_(app.widget("view").locator("button"))
    expect(buttons).to_have_count(len(VIEWS))
    for number in range(len(VIEWS)):
        sides = buttons.nth(number).evaluate(
            "one => ['Top', 'Right', 'Bottom', 'Left'].map(side => getComputedStyle(one)[`border${side}Width`])"
        )
        assert all(float(width.removesuffix("px")) > 0 for width in sides), number
    for view in ("layers", "compare", "budget", "take-away"):
        app.show(view)
        expect(app.page.get_by_test_id("stMain").get_by_text("negS_063.txt").first).to_be_visible()


def test_an_outline_has_whole_words_and_a_legend_what_is_shown(visit: Visit) -> None:
    app = visit(at("compare", "&units=Words"))
    texts = app.page.locator(".al-method .al-text")
    expect(texts.first).to_be_visible()
    cut = """text => [...text.querySelectorAll(".sel")].filter(one => {
      const [before, after] = [one.previousSibling, one.nextSibling].map(next => next ? next.textContent : " ");
      return /\\w$/.test(before) || /^\\w/.test(after);
    }).map(one => one.textContent)"""
    assert texts.nth(1).locator(".sel").count() > 0
    assert texts.nth(1).evaluate(cut) == []
    legend = app.page.locator(".al-legend").last
    expect(legend).not_to_contain_text("speaks against")
    app = visit(at("compare", "&method=saliency_signed"))
    expect(app.page.locator(".al-legend").last).to_contain_text("speaks against")


def test_a_dear_method_is_run_from_its_own_card(visit: Visit) -> None:
    app = visit(at("compare", "&method=cp&method=lime"))
    button = app.widget("run-lime").locator("button")
    expect(button).to_be_visible()
    card = app.page.locator('[data-testid="stVerticalBlock"]', has=app.widget("run-lime")).last
    expect(card).to_contain_text("LIME")
    box, place = button.bounding_box(), card.bounding_box()
    assert box is not None and place is not None
    assert place["height"] < 200 and place["y"] <= box["y"] <= place["y"] + place["height"]


@pytest.mark.parametrize("screen", [{"width": 1280, "height": 900}, PHONE], ids=["desk", "phone"])
def test_nothing_lies_on_a_heading(visit: Visit, screen: dict[str, int]) -> None:
    app = visit(at("how"), viewport=screen)
    heading = app.page.get_by_role("heading", name="3. Fewer tokens").bounding_box()
    table = app.page.get_by_test_id("stDataFrame").first.bounding_box()
    assert heading and table and heading["y"] + heading["height"] <= table["y"]


@pytest.mark.parametrize("screen", [{"width": 1280, "height": 900}, PHONE], ids=["desk", "phone"])
def test_meanings_of_words_open_within_the_window(visit: Visit, screen: dict[str, int]) -> None:
    app = visit(viewport=screen)
    app.large().locator("[data-token='5']").click()
    expect(app.page.locator(".al-strip")).to_be_visible()
    app.settle()
    terms = app.page.locator(".al-term:visible")
    edges = "one => ['left', 'right'].map(side => getComputedStyle(one, '::after')[side])"
    for number in range(terms.count()):
        terms.nth(number).hover()
        left, right = (float(side.removesuffix("px")) for side in terms.nth(number).evaluate(edges))
        assert left >= 0 and right >= 0, terms.nth(number).inner_text()
    assert terms.count() >= 10
