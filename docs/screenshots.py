"""Pictures of the app's views, from the embedded sample: light, dark, and at a phone's width.

    python docs/screenshots.py [--only VIEW ...] [--output DIR]

Writes docs/app-VIEW-light.webp, -dark.webp and -phone.webp, tokens-dropping.gif, a review that loses its tokens, and
notebook.webp and explain.png, a sentence as a notebook and as a figure show it.
Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests are no installed package

from PIL import Image
from playwright.sync_api import sync_playwright

from adapler import AdapLeRForSequenceClassification
from adapler.embedded import CHECKPOINT, SAMPLE
from adapler.eraser import read_corpus
from adapler.text import load_tokenizer
from analysis import explain
from app.documents import of_split
from app.export import animation
from app.joining import join_words
from app.tracing import trace
from tests.app.browser import launch, serve, settle

# View -> its address; most are of a review that people marked, the first of the menu.
VIEWS = {
    "layers": "",
    "story": "story",
    "sides": "sides",
    "what-if": "what_if",
    "budget": "budget",
    "trust": "trust",
    "corpus": "corpus",
    "how": "how",
    "take-away": "take_away",
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(VIEWS), default=list(VIEWS))
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent)
    args = parser.parse_args()
    with sync_playwright() as playwright, serve() as server:
        browser = launch(playwright)
        for look, options in LOOKS.items():
            page = browser.new_context(**options, reduced_motion="reduce").new_page()
            for view in args.only:
                page.goto(f"{server.url}/{VIEWS[view]}")
                settle(page)
                if view == "story" and page.get_by_text("Show a review that people marked").count():
                    page.get_by_text("Show a review that people marked").click()
                    page.wait_for_timeout(6000)
                    settle(page)
                page.wait_for_timeout(1000)  # charts are drawn after the script has run
                path = args.output / f"app-{view}-{look}.webp"
                Image.open(io.BytesIO(page.screenshot())).save(path, "WEBP", quality=85)
                print(path, path.stat().st_size // 1000, "kB")
        notebook(browser, args.output)
        browser.close()
    animate(args.output / "tokens-dropping.gif")
    return 0


def notebook(browser: Any, output: Path) -> None:
    """notebook.webp, what a notebook shows of the README's example, and explain.png, the figure that `save` makes."""
    shown = explain("the plot is dull but the acting is wonderful .", methods=["cp", "decompx"])
    page = browser.new_context(viewport={"width": 640, "height": 300}, device_scale_factor=2).new_page()
    page.set_content(f'<body style="margin: 8px; background: #fff">{shown._repr_html_()}</body>')
    Image.open(io.BytesIO(page.screenshot(full_page=True))).save(output / "notebook.webp", "WEBP", quality=90)
    shown.save(output / "explain.png")


def animate(path: Path) -> None:
    model, tokenizer = AdapLeRForSequenceClassification.from_pretrained(CHECKPOINT).eval(), load_tokenizer(CHECKPOINT)
    review = of_split(read_corpus(SAMPLE), "test", title="sample")[0].between(0, 90)
    path.write_bytes(
        animation(join_words(trace(model, tokenizer, review.words, rationale=review.rationale)), review, "gif")
    )


if __name__ == "__main__":
    sys.exit(main())
