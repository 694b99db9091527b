"""Pages that stand alone, opened from the disk: no server runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from app import gallery
from tests.app.e2e.browser import PATIENCE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "gallery"
    documents = ["negS_063.txt", "posS_076.txt"]
    assert gallery.main(["--output", str(folder), "--documents", *documents, "--methods", "cp", "rollout"]) == 0
    return folder


def test_it_plays_without_a_server(chromium: Any, made: Path) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    page, requests, problems = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((made / "index.html").as_uri())
    page.get_by_role("link", name="negS_063.txt").click()
    name = page.locator(".al-large .al-name")
    expect(name).to_have_text("Layer 0")

    page.get_by_role("button", name="Play").first.click()
    expect(name).to_have_text("Layer 5", timeout=PATIENCE * 1000)
    assert page.url.endswith("#layer=5")
    page.reload()
    expect(name).to_have_text("Layer 5")

    word = page.locator(".al-large [data-token]", has_text="horribly")
    word.focus()
    word.press("Enter")
    expect(page.get_by_role("region", name="The chosen token")).to_contain_text("horribly is ")
    before = page.locator(".al-large [data-token]").count()
    page.get_by_role("checkbox", name="Whole words").first.check()
    expect(page.locator(".al-large .al-count").first).to_contain_text("words")
    assert page.locator(".al-large [data-token]").count() < before
    expect(page.locator(".al-method")).to_have_count(2)

    page.get_by_role("link", name="Next text").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("posS_076.txt")
    assert all(url.startswith("file:") for url in requests) and not problems
    context.close()


def test_a_link_names_a_layer(chromium: Any, made: Path) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(next(made.glob("1-*.html")).as_uri() + "#layer=3")
    expect(page.locator(".al-large .al-name")).to_have_text("Layer 3")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "a phone scrolls down only"
    context.close()
