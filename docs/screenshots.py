"""Pictures of each view of the app, from the embedded sample: light, dark, and at a phone's width.

    python docs/screenshots.py [--only VIEW ...] [--output DIR]

Writes docs/app-VIEW-light.webp, -dark.webp and -phone.webp, each below 150 KB (it ends with status 1 where one is not).
Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests are no installed package

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.app.e2e.browser import (
    PATIENCE,
    VIEWS,
    AppPage,
    find_chromium,
    launch,
    sample_report,
    serve,
)

DOCS = Path(__file__).resolve().parent
LIMIT = 150_000  # bytes
TALK = "talk"  # the player alone
PROJECTOR = {"width": 1024, "height": 768}
TALK_LAYER = 2  # some tokens are gone, and some go
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 1100}, "color_scheme": "light", "has_touch": True},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*VIEWS, TALK], default=[*VIEWS, TALK])
    parser.add_argument("--looks", nargs="+", choices=list(LOOKS), default=list(LOOKS))
    parser.add_argument("--output", type=Path, default=DOCS)
    args = parser.parse_args()
    if (executable := find_chromium()) is None:
        parser.error("no chromium on the path")
    args.output.mkdir(parents=True, exist_ok=True)
    saved: list[Path] = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (folder / "reports").mkdir()
        if {"corpus", "trust"} & {*args.only}:  # the views with a report in them; it takes minutes
            sample_report(folder / "reports" / "sample-test")
        browser = launch(playwright, executable)
        with serve(folder, arguments=["--reports", str(folder / "reports")]) as server:
            for look in args.looks:
                for view in args.only:
                    size = {} if view != TALK or look == "phone" else {"viewport": PROJECTOR}
                    context = browser.new_context(**{**LOOKS[look], **size})
                    context.set_default_timeout(PATIENCE * 1000)
                    page = AppPage(context.new_page(), server.url)
                    if view == TALK:
                        page.open(f"?talk=true&layer={TALK_LAYER}")
                    else:
                        page.open().show(view)
                    page.page.wait_for_timeout(800)  # charts are drawn after the script has run
                    saved.append(save(page.page.screenshot(), args.output / f"app-{view}-{look}.webp"))
                    context.close()
        browser.close()
    return 0 if all(path.stat().st_size <= LIMIT for path in saved) else 1


def save(png: bytes, path: Path) -> Path:
    """As WebP, of the best quality that keeps below LIMIT, or else of the lowest."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (88, 80, 70, 55, 40):
        image.save(path, quality=quality, method=6)
        if path.stat().st_size <= LIMIT:
            break
    print(f"{path.name}: {path.stat().st_size // 1000} KB")
    return path


if __name__ == "__main__":
    raise SystemExit(main())
