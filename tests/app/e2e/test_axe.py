"""axe-core finds nothing to object to, in any view, light, dark and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest

from tests.app.e2e.browser import VIEWS, AppPage

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

Visit = Callable[..., AppPage]
PHONE = {"width": 390, "height": 844}
SETTLED = 1500  # milliseconds: charts are drawn after the script has run, and fade in


def violations(app: AppPage) -> list[str]:
    """What is still wrong when the page has come to rest: Streamlit pales a page whose script runs."""
    said: list[str] = []
    for _ in range(4):
        app.page.wait_for_timeout(SETTLED)
        found = axe.Axe().run(app.page).response["violations"]
        said = [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
        if not said:
            break
    return said


def background(app: AppPage) -> str:
    return str(app.page.locator(".stApp").evaluate("app => getComputedStyle(app).backgroundColor"))


@pytest.mark.parametrize("view", [*VIEWS, "talk"])
def test_no_violation(visit: Visit, view: str) -> None:
    """Light, then dark, then on a phone, in the same page: it follows the reader's setting while it is open."""
    app = visit("?talk=true" if view == "talk" else f"?view={quote(VIEWS[view])}", color_scheme="light")
    said = {"light": violations(app)}
    light = background(app)
    app.page.emulate_media(color_scheme="dark")
    said["dark"] = violations(app)
    assert background(app) != light
    app.page.set_viewport_size(PHONE)
    said["phone"] = violations(app)
    assert said == {"light": [], "dark": [], "phone": []}


def test_equations_fit_on_a_phone(visit: Visit) -> None:
    """They do not scroll there, so nothing of them may be cut."""
    app = visit(f"?view={quote(VIEWS['how'])}", viewport=PHONE)
    equations = app.page.locator(".katex-display")
    equations.nth(3).wait_for()
    wider = equations.evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
    assert len(wider) == 4 and max(wider) <= 4, wider  # 2 pixels at any size: no letter is so narrow
