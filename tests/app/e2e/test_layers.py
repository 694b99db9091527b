"""Layer by layer: the slider, the play button, what hovering says, and that nothing jumps."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from playwright.sync_api import expect

from app.server import state
from tests.app.e2e.browser import AppPage

Visit = Callable[..., AppPage]
ONE = ""


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
    app.open_all()
    totals = [int(one) for one in re.findall(r"(\d+)\s+of \d+", app.grid().inner_text())]
    app.pick("show", state.ONE_LAYER)
    expect(app.large()).to_be_visible()
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
    button, last = app.player().locator(".al-play"), app.layers() - 1
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


def test_layers_ask_nothing_of_the_server(visit: Visit) -> None:
    app = visit()
    frames: list[str] = []
    app.page.on("websocket", lambda socket: socket.on("framesent", lambda _: frames.append(socket.url)))
    app.page.reload()
    app.large().wait_for()
    app.settle()
    before = len(frames)
    assert before > 0, "what is sent is heard"
    app.slide("layer", "End Home ArrowRight ArrowRight")
    app.shows_layer(2)
    app.player().locator(".al-play").click()
    app.shows_layer(app.layers() - 1)
    assert len(frames) == before


def test_playing_ends_with_the_view(visit: Visit) -> None:
    app = visit()
    app.player().locator(".al-play").click()
    app.show("budget")
    app.page.wait_for_timeout(2500)
    assert not app.page.url.endswith("layer=5")
    app.show("layers")
    expect(app.player().locator(".al-play")).to_contain_text("Play")
    held = app.layer_shown()
    app.page.wait_for_timeout(1500)
    assert app.layer_shown() == held


def test_a_token_tells_its_way(visit: Visit) -> None:
    """By mouse and by keyboard: first in the browser, then the ranks of every method from the server."""
    app = visit()
    token = app.large().locator(".cut").first
    word = token.inner_text()
    token.click()
    detail = app.page.locator(".al-detail")
    live = app.player().get_by_role("status")
    expect(live.last).to_contain_text("dropped before layer 0")
    assert re.search(r"^Layer 0 of 0–5; \d+ of \d+ tokens, \d+ dropped here$", live.first.text_content() or "")
    marked = app.large().locator("u.gold [data-token]").first
    name, shown = marked.get_attribute("aria-label") or "", marked.inner_text()
    assert name.endswith("marked as evidence")
    assert name.startswith(f"{shown} | "), "the word once, where the wordpiece is no other"
    marked.hover()
    assert name.startswith(marked.get_attribute("title") or "none")
    app.page.mouse.move(0, 0)
    assert marked.get_attribute("title") is None, "a screen reader would read it behind the name"
    assert word in detail.inner_text() and "rank" in detail.inner_text()
    app.shows("under every method")
    expect(app.page.get_by_test_id("stDataFrame").first).to_be_visible()
    app.page.keyboard.press("Escape")
    expect(detail).to_have_count(0)
    app.settle()
    app.large().locator("[data-token='0']").focus()
    app.page.keyboard.press("ArrowRight")
    app.page.keyboard.press("ArrowLeft")
    app.page.keyboard.press("Enter")
    expect(live.last).to_contain_text("[CLS] is never dropped")


def test_talk_mode(visit: Visit) -> None:
    app = visit("?talk=true", viewport={"width": 1024, "height": 768})
    expect(app.page.locator(".al-talk")).to_be_visible()
    expect(app.page.get_by_test_id("stSidebar")).to_be_hidden()
    box = app.large().locator(".al-text").bounding_box()
    height = app.large().locator(".al-text").evaluate("one => parseFloat(getComputedStyle(one).lineHeight)")
    assert box and (768 - box["y"]) / height >= 12, "twelve lines of text on a projector"
    assert app.large().locator(".al-text").evaluate("one => parseFloat(getComputedStyle(one).fontSize)") >= 20
    app.page.keyboard.press("ArrowRight")
    app.shows_layer(1)
    app.page.keyboard.press("ArrowLeft")
    app.shows_layer(0)
    app.page.keyboard.press("End")
    app.shows_layer(app.layers() - 1)
    app.page.keyboard.press("Home")
    app.shows_layer(0)
    app.page.keyboard.press("Space")
    app.shows_layer(app.layers() - 1)
    app.player().get_by_role("button", name="Previous layer").focus()
    app.page.keyboard.press("Space")
    app.shows_layer(app.layers() - 2)
    expect(app.player().locator(".al-play")).to_contain_text("Play")
    app.page.keyboard.press("Escape")
    expect(app.page.locator(".al-cards")).to_be_visible()
    assert "talk" not in app.page.url


def test_hover_and_signs_beside_colour(visit: Visit) -> None:
    app = visit(ONE)
    token = app.large().locator(".on").nth(3)
    title = token.get_attribute("aria-label") or ""
    assert re.search(r"score .*threshold .*(never dropped|dropped before layer)", title)
    for layer in (1, 2):
        app.slide("layer", "ArrowRight")
        app.shows_layer(layer)
    assert "line-through" in app.large().locator("span.cut").first.evaluate(
        "one => getComputedStyle(one).textDecoration"
    )
    assert "underline" in app.large().locator("u.gold").first.evaluate("one => getComputedStyle(one).textDecoration")


def test_pieces_joined_to_words(visit: Visit) -> None:
    app = visit(f"?text={quote('an unfathomably synthesised melodrama')}")
    tokens = app.large().locator(".on, .cut, .gone")
    expect(tokens.first).to_be_visible()  # counting does not wait
    pieces = tokens.count()
    app.pick("units", state.WORDS)
    expect(tokens.filter(has_text="unfathomably").first).to_be_visible()
    assert 0 < tokens.count() < pieces


def test_a_token_is_forgotten_with_its_text_on_both_sides(visit: Visit) -> None:
    app = visit()
    app.large().locator("[data-token='3']").click()
    expect(app.widget("without")).to_be_visible()
    for units in (state.WORDS, state.WORDPIECES):
        app.pick("units", units)
        app.settle()
    expect(app.page.locator(".al-detail")).to_have_count(0)
    expect(app.widget("without")).to_have_count(0)


def test_pieces_joined_to_sentences(visit: Visit) -> None:
    app = visit("?layer=5&units=Sentences")
    sentences = app.large().locator("[data-token]")
    expect(app.large()).to_contain_text("sentences")
    expect(app.large().locator(".gone").first).to_be_visible()
    kept = app.large().locator(".on", has_text="the").first
    assert re.search(r"sentence \d+ \| score .* of its \d+ wordpieces kept", kept.get_attribute("aria-label") or "")
    assert 5 < sentences.count() < 40
    kept.click()
    detail = app.page.locator(".al-detail")
    expect(detail).to_contain_text("wordpieces reach the last one")
    expect(detail).to_contain_text("wordpieces kept")
    app.widget("without").locator("button").click()
    expect(app.page.locator(".al-detail", has_text="before").first).to_contain_text("Without removal")


def test_one_word_and_no_word(visit: Visit) -> None:
    app = visit()
    app.own_text()
    app.write("marvellous")
    app.submit()
    app.shows("no gold label")
    expect(app.large()).to_contain_text("marvellous")
    app.write("")
    app.submit()
    app.shows("no text yet")
    app.write(" \n\u200b ")
    app.submit()
    expect(app.page.get_by_test_id("stException")).to_have_count(0)
    app.write("dull")
    app.submit()
    expect(app.large()).to_contain_text("dull")


def test_a_hundred_thousand_words(visit: Visit) -> None:
    app = visit(f"?source={quote(state.OWN_TEXT)}")
    app.write("film " * 100_000)
    app.submit()
    app.shows("The text has 500,000 characters; only the first 20,000 are used")
    app.write("short again")
    app.submit()
    expect(app.large()).to_contain_text("short again")
