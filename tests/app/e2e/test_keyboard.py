"""The keyboard alone: everything that can be worked with a mouse is reached by Tab, in every view."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.app.e2e.browser import VIEWS, AppPage

Visit = Callable[..., AppPage]
# What each widget answers to: `window.reached` are the keys of those that had the focus.
LISTEN = """() => {
    const keyOf = one => [...(one.closest('[class*="st-key-"]')?.classList ?? [])]
        .find(name => name.startsWith("st-key-"))?.slice(7);
    window.reached = new Set();
    addEventListener("focusin", event => window.reached.add(keyOf(event.target)));
    const worked = "button, input, textarea, select, a[href], summary, [role=slider], [tabindex]";
    const there = [...document.querySelectorAll(worked)].filter(one => one.checkVisibility({visibilityProperty: true})
        && !one.disabled && !one.closest("[aria-hidden=true], [inert]"));
    return [...new Set(there.map(keyOf))].filter(Boolean);
}"""
MISSED = "wanted => wanted.filter(key => !window.reached.has(key))"
# Whether a line is drawn around what has the focus, or what stands for it; a menu or a text has a border instead.
SEEN = """() => {
    const one = document.activeElement;
    if (one === document.body || one.matches("input[type=text], textarea, iframe")) return "";
    for (let box = one, up = 0; box && up < 4; box = box.parentElement, up++) {
        const look = getComputedStyle(box), size = box.getBoundingClientRect();
        if (look.outlineStyle === "solid" && parseFloat(look.outlineWidth) >= 1.5 && size.width > 4) return "";
    }
    return one.outerHTML.slice(0, 200);
}"""
ROUND = 60  # presses between two looks
ROUNDS = 6


@pytest.mark.parametrize("view", [*VIEWS, "talk"])
def test_tab_reaches_every_widget(visit: Visit, view: str) -> None:
    if view == "talk":
        app = visit("?talk=true")
    else:
        app = visit().show(view)
    wanted = app.page.evaluate(LISTEN)
    assert len(wanted) >= (1 if view == "talk" else 6)
    missed = wanted
    for _ in range(ROUNDS):
        for _ in range(ROUND):
            app.page.keyboard.press("Tab")
        missed = app.page.evaluate(MISSED, wanted)
        if not missed:
            break
    assert not missed


@pytest.mark.parametrize("view", ["layers", "compare"])
def test_what_has_the_focus_is_seen(visit: Visit, view: str) -> None:
    app = visit() if view == "layers" else visit().show(view)
    unseen = set()
    for _ in range(ROUND):
        app.page.keyboard.press("Tab")
        unseen.add(app.page.evaluate(SEEN))
    assert unseen == {""}
