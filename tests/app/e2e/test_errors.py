"""What is broken says so, and the rest of the page stays usable."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from playwright.sync_api import expect

from tests.app.e2e.browser import VIEWS, AppPage

Visit = Callable[..., AppPage]


def test_damaged_checkpoint(visit: Visit) -> None:
    app = visit("?checkpoint=damaged")
    alert = app.page.get_by_test_id("stAlert").first
    expect(alert).to_contain_text("damaged")
    assert "/" not in re.sub(r"[\w ]+/[\w ]+:", "", alert.inner_text()), "no path of the server"
    expect(app.page.locator("u.gold").first).to_be_visible()  # the text is still there
    for view in VIEWS:
        app.view(view)
        app.settle()
        expect(app.page.get_by_test_id("stException")).to_have_count(0)
    app.view("layers")
    app.choose("checkpoint", "tiny")
    app.shows("reach the last layer")
    expect(app.page.get_by_test_id("stAlert").filter(has_text="damaged")).to_have_count(0)


def test_a_part_that_there_is_not_and_a_switch_that_is_none(visit: Visit) -> None:
    for asked, said in (("part=7", "part 7"), ("part=abc", "part abc"), ("talk=maybe", "talk maybe")):
        app = visit(f"?{asked}&scale=0.7")
        expect(app.page.get_by_test_id("stAlert").first).to_contain_text(said)
        expect(app.page).to_have_url(re.compile(r"\?scale=0\.7(&layer=0)?$"))


def test_torn_report(visit: Visit) -> None:
    app = visit(f"?view={quote(VIEWS['corpus'])}")
    app.choose("report", "torn")
    expect(app.page.get_by_test_id("stAlert").first).to_contain_text("torn")
    app.choose("report", "sample-small")
    expect(app.page.get_by_test_id("stAlert").filter(has_text="torn")).to_have_count(0)
    expect(app.page.get_by_test_id("stException")).to_have_count(0)


def test_unknown_page(visit: Visit) -> None:
    app = visit("nowhere?document=none")
    app.shows("reach the last layer")
