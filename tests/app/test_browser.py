"""The page in Chromium: what only a browser shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.browser import find_chromium, launch, serve, settle

pytestmark = [pytest.mark.browser, pytest.mark.skipif(find_chromium() is None, reason="no Chromium")]


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, serve() as server:
        browser = launch(playwright)

        def new(path: str = "", **options: Any) -> Any:
            page = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **options}).new_page()
            page.goto(f"{server.url}/{path}")
            settle(page)
            return page

        yield new
        browser.close()


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)])
def test_the_first_screen_says_it_all(tab: Any, size: tuple[int, int]) -> None:
    page = tab(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    for selector in (".al-head-line h1", ".al-head-line p", ".al-play", ".al-text:not(.al-legend)"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] > 40 and box["y"] + box["height"] <= size[1] and box["x"] + box["width"] <= size[0], selector
    assert page.locator(".al-play").inner_text().endswith("Replay"), "at rest on the last layer"
    assert page.locator(".al-text .cut, .al-text .gone").count() > 5


def test_it_plays_once_from_the_plain_text(tab: Any) -> None:
    page = tab()
    page.get_by_label("Previous layer").click()
    page.locator(".al-play").click()
    page.wait_for_function("document.querySelector('.al-play').textContent.includes('Replay')", timeout=20_000)
    page.locator(".al-play").click()
    assert page.locator(".al-at").inner_text() == "The text"


def test_the_address_keeps_what_is_changed_after_a_click(tab: Any) -> None:
    page = tab()
    page.get_by_role("link", name="Budget", exact=True).click()
    settle(page)
    slider = page.get_by_test_id("stSidebar").get_by_role("slider").first
    slider.focus()
    for _ in range(4):
        slider.press("ArrowLeft")
    page.get_by_test_id("stSidebar").get_by_text("Words", exact=True).click()
    settle(page)
    address = page.evaluate("location.href")
    assert "budget" in address and "scale=0.8" in address and "units=Words" in address
    page.go_back()
    page.get_by_role("heading", name="The model read").wait_for()
    page.get_by_text("threshold scale 1 ").wait_for()  # what that address says
    page.go_forward()
    page.get_by_text("How much faster?").wait_for()
    settle(page)
    page.reload()
    page.get_by_text("threshold scale 0.8").wait_for()
    assert page.evaluate("location.href").partition("#")[0] == address.partition("#")[0]


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)])
def test_details_are_in_view(tab: Any, size: tuple[int, int]) -> None:
    page = tab(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    page.locator("[data-token]").nth(3).click()
    box = page.locator(".al-detail svg").bounding_box()
    assert 0 <= box["y"] and box["y"] + box["height"] <= size[1]
    page.keyboard.press("Escape")
