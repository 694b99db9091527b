"""Downloads, and the link that restores what one sees."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from playwright.sync_api import expect

from app.server import state
from tests.app.e2e.browser import VIEWS, AppPage
from tests.app.e2e.test_hostile import INTRUDERS, TEXT

Visit = Callable[..., AppPage]
HERE = f"?view={quote(VIEWS['take-away'])}"


def save(app: AppPage, key: str) -> tuple[str, bytes]:
    """(name, content) of the file behind a button."""
    app.settle()  # a click during a run of the page can be lost: the file is made on a click, and the run makes it anew
    with app.page.expect_download() as waiting:
        app.widget(key).locator("button").click()
    file = waiting.value
    return file.suggested_filename, Path(file.path()).read_bytes()


def test_figure(visit: Visit) -> None:
    app = visit(HERE)
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        name, content = save(app, f"save-{kind}")
        assert name.endswith(f".{kind}") and content.startswith(start) and len(content) > 5000


def test_the_reader_chooses_passage_layers_and_key(visit: Visit) -> None:
    app = visit(HERE)
    picture = app.page.locator(".al-figure img")
    seen: list[bytes] = [save(app, "save-svg")[1]]

    def changes(choice: Callable[[], None]) -> None:
        before = picture.get_attribute("src")
        choice()
        app.page.wait_for_function(
            "before => document.querySelector('.al-figure img')?.src !== before", arg=before, timeout=20_000
        )
        content = save(app.settle(), "save-svg")[1]
        assert content not in seen
        seen.append(content)

    changes(app.widget("figure-key").locator("label").click)
    changes(lambda: app.choose("begins", "20: the glass ballerina is a silent ..."))
    changes(app.widget("layers").get_by_role("button", name="Remove 0").click)


def test_tables(visit: Visit) -> None:
    app = visit(HERE)
    _, content = save(app, "save-scores")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert {"document", "layer", "token", "score", "threshold", "enters"} <= set(rows[0])
    assert {row["layer"] for row in rows} == {str(layer) for layer in range(6)}
    left = sum(row["layer"] == "5" and row["enters"] == "True" for row in rows)
    app.shows(f"{left} of {len(rows) // 6} tokens")
    _, content = save(app, "save-csv")
    assert [int(row["tokens"]) for row in csv.DictReader(io.StringIO(content.decode()))][-1] == left


def test_page_of_its_own_runs_nothing(visit: Visit, tmp_path: Path) -> None:
    app = visit(f"{HERE}&text={quote(TEXT)}")
    name, content = save(app, "save-html")
    assert name.endswith(".html")
    (tmp_path / "page.html").write_bytes(content)
    requests: list[str] = []
    app.page.on("request", lambda request: requests.append(request.url))
    app.page.goto((tmp_path / "page.html").as_uri())
    expect(app.page.locator(".al-layer")).to_have_count(6)
    assert "window.hacked" in (app.page.locator(".al-text").nth(1).text_content() or "")
    assert app.page.evaluate("window.hacked") is None and app.page.locator(INTRUDERS).count() == 0
    assert [urlsplit(url).scheme for url in requests] == ["file"]


def link(app: AppPage) -> str:
    return "?" + urlsplit(app.page.get_by_test_id("stCode").last.inner_text().strip()).query


def test_link_restores_a_review(visit: Visit) -> None:
    app = visit()
    cards = app.page.locator(".al-cards")
    first = cards.inner_text()
    app.widget("document").locator("input").first.click()
    app.page.get_by_role("option").nth(3).click()
    expect(cards).not_to_have_text(first, use_inner_text=True)
    second = app.settle().page.locator(".al-cards").inner_text()
    app.slide("scale", "End")
    expect(cards).not_to_have_text(second, use_inner_text=True)
    app.settle()
    app.slide("layer", "ArrowRight ArrowRight ArrowRight")
    app.shows_layer(3)
    drawn = app.large().inner_html()
    app.view("take-away")
    app.shows("It restores")
    again = visit(link(app))
    again.shows_layer(3)
    assert again.large().inner_html() == drawn
    assert again.page.locator(".al-cards").inner_html() == cards.inner_html()


def test_the_address_is_the_state(visit: Visit) -> None:
    """Reload, Back and Forward."""
    app = visit()
    app.slide("layer", "ArrowRight ArrowRight")
    app.shows_layer(2)
    app.choose("document", "posS_076.txt")
    app.shows("posS_076.txt")
    app.settle()
    app.show("budget")
    assert "view=Budget" in app.page.url and "document=posS_076.txt" in app.page.url and "layer=2" in app.page.url
    app.page.reload()
    expect(app.page.locator(".al-timing")).to_be_visible()
    app.shows("posS_076.txt")
    app.settle()
    app.page.go_back()
    app.shows_layer(2)
    app.shows("posS_076.txt")
    app.settle()
    app.page.go_back()
    app.shows("negS_063.txt")
    expect(app.large()).to_be_visible()
    app.settle()
    app.page.go_forward()
    app.shows("posS_076.txt")


def test_settings_of_other_views_stay_in_the_address(visit: Visit) -> None:
    app = visit("?units=Words&scale=0.7&methods=Rollout")
    app.show("take-away")
    found = parse_qs(urlsplit(app.page.url).query)
    assert (found["units"], found["scale"], found["methods"]) == (["Words"], ["0.7"], ["Rollout"])
    tables = []
    for _ in range(2):
        expect(app.widget("save-csv")).to_be_visible()
        rows = csv.DictReader(io.StringIO(save(app.settle(), "save-csv")[1].decode()))
        tables.append([(row["scale"], row["words"]) for row in rows])
        app.page.reload()
    assert tables[0] == tables[1]
    app.show("layers")
    app.pick("units", state.WORDPIECES)
    expect(app.page).not_to_have_url(re.compile("units="))
    app.settle().show("take-away")
    assert "units=" not in app.page.url


def test_an_own_text_is_found_again(visit: Visit) -> None:
    app = visit(f"?source={quote(state.OWN_TEXT)}")
    app.write("a <i>quiet</i> & slow film")
    app.submit()
    expect(app.large()).to_contain_text("<i>quiet</i> & slow film")
    app.settle()
    app.page.reload()
    expect(app.large()).to_contain_text("<i>quiet</i> & slow film")
    app.settle()
    app.write("a long film " * 1000)
    app.submit()
    app.shows("Part of the text")
    app.settle()
    app.page.reload()
    app.shows("a text that was too long for an address")


def test_long_text_is_not_put_into_a_link(visit: Visit) -> None:
    app = visit(f"{HERE}&source={quote(state.OWN_TEXT)}")
    app.write("a long film " * 300)
    app.submit()
    app.shows("too long for a link")
    assert len(link(app)) < 1000
