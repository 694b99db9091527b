"""Layer by layer: the slider, the play button, what hovering says, and that nothing jumps."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from playwright.sync_api import expect

from app.server import state
from tests.app.e2e.browser import AppPage

Visit = Callable[..., AppPage]
ONE = f"?show={quote(state.ONE_LAYER)}"


def counted(app: AppPage) -> int:
    """Tokens that enter the layer, as its head says."""
    found = re.search(r"(\d+)\s+of \d+", app.large().locator(".al-head").inner_text())
    assert found
    return int(found[1])


def places(app: AppPage) -> list[list[float]]:
    return app.page.locator(".al-large .al-text .on, .al-large .al-text .cut, .al-large .al-text .gone").evaluate_all(
        "all => all.map(one => [one.offsetLeft, one.offsetTop, one.offsetWidth])"
    )


def test_slider(visit: Visit) -> None:
    app = visit()
    totals = [int(one) for one in re.findall(r"(\d+)\s+of \d+", app.grid().inner_text())]
    app.open_slider()
    assert app.layers() == len(totals)
    app.slide("layer", "Home")
    app.shows_layer(0)
    first, seen = places(app), [counted(app)]
    for layer in range(1, app.layers()):
        app.slide("layer", "ArrowRight")
        app.shows_layer(layer)
        assert app.large().locator(".on").count() == counted(app)
        seen.append(counted(app))
    assert seen == totals, "the same counts as among all layers"
    assert places(app) == first, "gone tokens hold their places"


def test_quick_presses_all_count(visit: Visit) -> None:
    app = visit(ONE)
    for _ in range(5):
        app.slide("layer", "Home")
        app.shows_layer(0)
        app.slide("layer", "ArrowRight ArrowRight ArrowRight")
        app.shows_layer(3)
        app.page.wait_for_timeout(700)
        app.shows_layer(3)  # and it stays
        expect(app.page.get_by_test_id("stApp")).to_have_attribute("data-test-connection-state", "CONNECTED")


def test_play_and_stop(visit: Visit) -> None:
    app = visit(ONE)
    button, last = app.widget("play").locator("button"), app.layers() - 1
    button.click()
    expect(button).to_contain_text("Stop")
    button.click()
    expect(button).to_contain_text("Play")
    held = app.layer_shown()
    app.page.wait_for_timeout(1500)
    assert app.layer_shown() == held, "it stands still"

    app.slide("layer", "Home")
    app.shows_layer(0)
    # Written down in the page: a slow machine may look at it less often than it plays.
    app.page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => {
            const name = document.querySelector(".al-large .al-name")?.textContent;
            if (name && window.seen.at(-1) !== name) window.seen.push(name);
        }).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
    )
    button.click()
    app.shows_layer(last)
    expect(button).to_contain_text("Play")
    seen = app.page.evaluate("window.seen")
    assert seen[-last:] == [f"Layer {layer}" for layer in range(1, last + 1)]


def test_hover_and_signs_beside_colour(visit: Visit) -> None:
    app = visit(ONE)
    token = app.large().locator(".on").nth(3)
    title = token.get_attribute("title") or ""
    assert re.search(r"score .*threshold .*(never dropped|dropped before layer)", title)
    for layer in (1, 2):
        app.slide("layer", "ArrowRight")
        app.shows_layer(layer)
    assert "line-through" in app.large().locator("s.cut").first.evaluate("one => getComputedStyle(one).textDecoration")
    assert "underline" in app.large().locator("u.gold").first.evaluate("one => getComputedStyle(one).textDecoration")


def test_pieces_joined_to_words(visit: Visit) -> None:
    app = visit(f"?text={quote('an unfathomably synthesised melodrama')}&show={quote(state.ONE_LAYER)}")
    tokens = app.large().locator(".on, .cut, .gone")
    expect(tokens.first).to_be_visible()  # counting does not wait
    pieces = tokens.count()
    app.widget("joined").locator("label").first.click()
    expect(tokens.filter(has_text="unfathomably").first).to_be_visible()
    assert 0 < tokens.count() < pieces


def test_one_word_and_no_word(visit: Visit) -> None:
    app = visit()
    app.own_text()
    app.write("marvellous")
    app.submit()
    app.shows("no gold label")
    expect(app.grid()).to_contain_text("marvellous")
    app.write("")
    app.submit()
    app.shows("no text yet")
    app.write(" \n\u200b ")
    app.submit()
    expect(app.page.get_by_test_id("stException")).to_have_count(0)
    app.write("dull")
    app.submit()
    expect(app.grid()).to_contain_text("dull")


def test_a_hundred_thousand_words(visit: Visit) -> None:
    app = visit(f"?source={quote(state.OWN_TEXT)}")
    app.write("film " * 100_000)
    app.submit()
    app.shows("The text has 500,000 characters; only the first 20,000 are used")
    app.write("short again")
    app.submit()
    expect(app.grid()).to_contain_text("short again")
