"""Speed of the app in a browser, movement on opening, and memory of its server.

    python benchmarks/app.py [--interactions 200] [--seed 0]

Times are from a click to the page standing still, which takes 0.7 s by itself. Needs Chromium.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Error, sync_playwright

from tests.app.browser import PATIENCE, launch, serve, settle

LINKS = (
    "Layer by layer",
    "Who finds it?",
    "Side by side",
    "What if?",
    "Budget",
    "Trust",
    "Corpus",
    "How it works",
    "Take away",
)
WORDS = "a dull but brave film , never good and not bad . i liked the cat ; <b>jokes</b> \u00fcber [MASK]".split()
# Files are not made, and the browser's own chooser of files is not opened.
USABLE = (
    "[data-testid=stSidebar] [role=combobox]",
    "[data-testid=stSidebar] summary",
    "[role=slider]",
    "[type=range]",
    "textarea",
    ".al-player button",
    "[data-token]",
    "[data-testid=stButton] button:not(:disabled)",
    "[data-testid=stButtonGroup] button",
    ".stMain :is([role=combobox], summary)",
)
SHIFT = """
  window.shifts = {all: 0, sidebar: 0};
  new PerformanceObserver(list => list.getEntries().filter(one => !one.hadRecentInput).forEach(one => {
    shifts.all += one.value;
    const room = part => part.node?.matches?.(":has(> [data-testid=stMain]), [data-testid=stSidebar] *");
    if (one.sources.some(room)) shifts.sidebar += one.value;
  })).observe({type: "layout-shift", buffered: true});
"""
ERRORS = "[data-testid=stException], [data-testid=stAlertContentError]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw, errors, skipped = random.Random(args.seed), 0, 0
    with sync_playwright() as playwright, serve() as server:
        browser = launch(playwright)
        page = browser.new_page()
        for what in ("first visit", "second visit"):
            started = time.perf_counter()
            page.goto(server.url)
            settle(page)
            print(f"{what}: {time.perf_counter() - started:.1f} s, {resident(server.pid)} MB")
        for width in (1280, 390):
            print(f"layout shift on opening at {width} px: {shift(browser, server.url, width)}")
        for name in LINKS:
            started = time.perf_counter()
            page.get_by_role("link", name=name, exact=True).click()
            settle(page)
            print(f"{name}: {time.perf_counter() - started:.1f} s")
        for number in range(1, args.interactions + 1):
            try:
                interact(page, draw)
            except Error as missed:  # it has gone while it was chosen
                skipped += 1
                print(f"skipped: {str(missed).splitlines()[0][:100]}")
                page.keyboard.press("Escape")
            page.wait_for_timeout(100)
            page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')", timeout=PATIENCE)
            for box in page.locator(ERRORS).all_inner_texts():
                errors += 1
                print(f"{number}: {page.url}: {box}")
            if number % 50 == 0:
                print(
                    f"after {number} interactions: {resident(server.pid)} MB, {errors} error boxes, {skipped} skipped"
                )
    return int(errors > 0)


def shift(browser: Any, url: str, width: int) -> str:
    """The cumulative score, and what of it is the whole page that makes room for Streamlit's sidebar."""
    page = browser.new_context(viewport={"width": width, "height": 844}).new_page()
    page.add_init_script(SHIFT)
    page.goto(url)
    settle(page)
    total, sidebar = page.evaluate("[shifts.all, shifts.sidebar]")
    page.context.close()
    return f"{total:.3f}, of it the sidebar {sidebar:.3f}"


def interact(page: Any, draw: random.Random) -> None:
    """Whatever can be used on this screen: a link, a button, a menu, a slider, a token, a sentence."""
    if not draw.randrange(8):  # so that no view keeps it for long
        page.get_by_role("link", name=draw.choice(LINKS), exact=True).click()
        return
    found = [page.locator(selector).filter(visible=True) for selector in draw.sample(USABLE, len(USABLE))]
    every, count = next((every, count) for every in found if (count := every.count()))
    one = every.nth(draw.randrange(count))
    kind = one.get_attribute("role") or one.evaluate("element => element.tagName.toLowerCase()")
    if kind == "slider" or one.get_attribute("type") == "range":
        for _ in range(draw.randrange(1, 6)):
            one.press(draw.choice(("ArrowLeft", "ArrowRight")))
    elif kind == "textarea":
        one.fill(" ".join(draw.choices(WORDS, k=draw.randrange(12))))
        one.press("Control+Enter")
    else:
        one.click(timeout=5000)
        if options := page.get_by_role("option").all():
            draw.choice(options).click(timeout=5000)


def resident(pid: int) -> int:
    """Megabytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
