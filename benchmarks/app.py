"""How fast is the app in a browser, and does its server's memory stay flat?

    python benchmarks/app.py [--interactions 200]

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

from playwright.sync_api import sync_playwright

from tests.app.browser import launch, serve, settle

LINKS = ("Layer by layer", "Who finds it?", "Side by side", "What if?", "Budget", "How it works", "Take away")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=200)
    args = parser.parse_args()
    draw, errors = random.Random(0), 0
    with sync_playwright() as playwright, serve() as server:
        page = launch(playwright).new_page()
        for what in ("first visit", "second visit"):
            started = time.perf_counter()
            page.goto(server.url)
            settle(page)
            print(f"{what}: {time.perf_counter() - started:.1f} s, {resident(server.pid)} MB")
        for name in LINKS:
            started = time.perf_counter()
            page.get_by_role("link", name=name, exact=True).click()
            settle(page)
            print(f"{name}: {time.perf_counter() - started:.1f} s")
        for number in range(1, args.interactions + 1):
            interact(page, draw)
            settle(page)
            errors += page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count()
            if number % 50 == 0:
                print(f"after {number} interactions: {resident(server.pid)} MB, {errors} error boxes")
    return int(errors > 0)


def interact(page: Any, draw: random.Random) -> None:
    """Another view, another scale, another text, another unit, or a token."""
    kind = draw.choice(("view", "scale", "text", "unit", "token"))
    if kind == "view":
        page.get_by_role("link", name=draw.choice(LINKS), exact=True).click()
    elif kind == "scale":
        slider = page.get_by_test_id("stSidebar").get_by_role("slider").first
        slider.focus()
        for _ in range(draw.randrange(1, 6)):
            slider.press(draw.choice(("ArrowLeft", "ArrowRight")))
    elif kind == "text":
        page.get_by_test_id("stSidebar").get_by_role("combobox").first.click()
        draw.choice(page.get_by_role("option").all()).click()
    elif kind == "unit":
        page.get_by_test_id("stSidebar").get_by_text(
            draw.choice(("Wordpieces", "Words", "Sentences")), exact=True
        ).click()
    elif tokens := page.locator(".al-text [data-token]").all():
        draw.choice(tokens[:40]).click()


def resident(pid: int) -> int:
    """Megabytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
