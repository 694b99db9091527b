"""docs/tokens-dropping.gif: the app plays through the layers of a sample review, and tokens drop.

    python docs/animate.py [--document ID] [--output FILE]

Takes pictures of the running app in Chromium; below 2 MB.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests are no installed package

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.app.e2e.browser import PATIENCE, AppPage, find_chromium, launch, serve

DOCS = Path(__file__).resolve().parent
LIMIT = 2_000_000  # bytes
WIDTH = 760  # below this width the sidebar is folded away
MARGIN = 12
COLORS = 256
MILLISECONDS, LAST = 1100, 2600  # of a layer, and of the last one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", default=None, help="of the sample's test split; default: the app's first")
    parser.add_argument("--output", type=Path, default=DOCS / "tokens-dropping.gif")
    args = parser.parse_args()
    if (executable := find_chromium()) is None:
        parser.error("no chromium on the path")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = launch(playwright, executable)
        with serve(Path(name)) as server:
            context = browser.new_context(viewport={"width": WIDTH, "height": 1200}, color_scheme="light")
            context.set_default_timeout(PATIENCE * 1000)
            query = f"?document={quote(args.document)}" if args.document else ""
            frames = pictures(AppPage(context.new_page(), server.url).open(query))
        browser.close()
    save(frames, args.output)
    size = args.output.stat().st_size
    print(f"{args.output.name}: {len(frames)} frames, {size // 1000} KB")
    return 0 if size < LIMIT else 1


def pictures(page: AppPage) -> list[Image.Image]:
    """The controls and the text at each layer, and the legend."""
    page.slide("layer", "Home")
    frames = []
    for layer in range(page.layers()):
        if layer:
            page.slide("layer", "ArrowRight")
        page.shows_layer(layer)
        page.page.evaluate("document.activeElement.blur()")
        page.page.wait_for_timeout(900)  # the fading of what was just dropped
        legend, player = page.page.locator(".al-legend").bounding_box(), page.player().bounding_box()
        assert legend and player
        clip = {"x": 0, "width": WIDTH, "y": player["y"] - MARGIN}
        clip["height"] = legend["y"] + legend["height"] + MARGIN - clip["y"]
        frames.append(Image.open(io.BytesIO(page.page.screenshot(clip=clip))).convert("RGB"))
    return frames


def save(frames: list[Image.Image], path: Path) -> None:
    """One palette for all frames, so that what stays does not flicker."""
    size = max(one.width for one in frames), max(one.height for one in frames)
    sheet = Image.new("RGB", (size[0], size[1] * len(frames)), "white")
    for number, frame in enumerate(frames):
        sheet.paste(frame, (0, number * size[1]))
    palette = sheet.quantize(COLORS, dither=Image.Dither.NONE)
    flat = [palette.crop((0, number * size[1], size[0], (number + 1) * size[1])) for number in range(len(frames))]
    durations = [MILLISECONDS] * (len(flat) - 1) + [LAST]
    flat[0].save(path, save_all=True, append_images=flat[1:], duration=durations, loop=0, optimize=True, disposal=1)


if __name__ == "__main__":
    raise SystemExit(main())
