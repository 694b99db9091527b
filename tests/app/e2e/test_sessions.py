"""Two people at once."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from playwright.sync_api import expect

from app.server import state
from tests.app.e2e.browser import AppPage

OWN = f"?source={quote(state.OWN_TEXT)}"


def test_sessions_do_not_see_each_other(visit: Callable[..., AppPage]) -> None:
    one, other = visit(OWN), visit(OWN)
    for page, text in ((one, "the zebra secret"), (other, "a walrus affair")):
        page.write(text)
        page.submit()
        expect(page.large()).to_contain_text(text)
    third = visit(OWN)
    for page, own in ((one, "zebra"), (other, "walrus"), (third, "ferry")):
        page.shows(own)
        everything = page.settle().page.content()
        assert not [word for word in ("zebra", "walrus", "ferry") if word != own and word in everything]


def test_a_slider_moves_in_its_own_session(visit: Callable[..., AppPage]) -> None:
    one, other = visit(f"?show={quote(state.ONE_LAYER)}"), visit(f"?show={quote(state.ONE_LAYER)}")
    one.slide("layer", "End")
    one.shows_layer(one.layers() - 1)
    other.slide("layer", "ArrowRight")
    other.shows_layer(1)
    one.shows_layer(one.layers() - 1)
