"""How fast is the app in a browser, and does its server's memory stay flat? Times as the browser sees them.

    python benchmarks/app.py [--checkpoint movies-minilm] [--repeats 5] [--interactions 200]

Painting runs from the navigation, in a browser context without a cache, to the verdict on a server that has shown the
page before. A change of layer, one step of the slider, and a new text of 300 words run from the key press to the change
on the page. The plain page is Streamlit with a slider and a line of text, measured in the same run and in turn: it is
what the framework itself takes. Budget is a text of 512 wordpieces, from the click on the view's name to the
last number of it. Memory is the server's resident set, over texts in one session.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests are no installed package

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from adapler.errors import CommandParser, run_command
from tests.app.e2e.browser import (
    PATIENCE,
    AppPage,
    Server,
    find_chromium,
    launch,
    serve,
)

HELLO = """
import streamlit as st

layer = st.slider("Layer", 0, 5, key="layer")
st.html(f'<div class="al-large"><p class="al-hello al-name">Layer {layer}</p></div>')
"""
PAINTED = ".al-cards, .al-hello"
WORDS = "the film is never dull and its quiet ending moves more than a loud plot could although some jokes fall flat"
# Both clocks run in the page: the key press starts, the first change after which `done` holds stops.
STOPWATCH = """done => {
    const holds = new Function("return " + done);
    window.watched = new Promise(resolve => {
        let start = null;
        addEventListener("keydown", () => { start = performance.now(); }, {capture: true, once: true});
        const look = new MutationObserver(() => {
            if (start === null || !holds()) return;
            look.disconnect();
            requestAnimationFrame(() => resolve((performance.now() - start) / 1000));
        });
        look.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
    });
}"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=None, help="a name of the app's menu; default: the one it opens on")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--interactions", type=int, default=200, help="for memory; 0 skips it")
    args = parser.parse_args(argv)

    if (executable := find_chromium()) is None:
        parser.error("no chromium on the path")
    query = f"?checkpoint={args.checkpoint}" if args.checkpoint else ""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        hello = folder / "hello.py"
        hello.write_text(HELLO, encoding="utf-8")
        browser = launch(playwright, executable)
        with serve(folder) as app, serve(folder, script=hello) as plain:
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Chromium {browser.version}")
            measure(browser, app=app, plain=plain, query=query, repeats=args.repeats)
            if args.interactions:
                memory(browser, app, query=query, interactions=args.interactions)
        browser.close()
    return 0


def measure(browser: Browser, *, app: Server, plain: Server, query: str, repeats: int) -> None:
    print(f"{'first visit, the model still to load':40} {paint(browser, app.url, query):6.2f} s")
    paint(browser, plain.url)
    both = [(paint(browser, app.url, query), paint(browser, plain.url)) for _ in range(repeats)]
    _line("paint of the opening view, warm", [one for one, _ in both])
    _line("paint of a plain Streamlit page", [one for _, one in both])
    ratio = statistics.median(one / other for one, other in both)
    print(f"{'ratio of the two':40} {ratio:6.2f}")
    pages = [AppPage(_tab(browser), app.url).open(query), AppPage(_tab(browser), plain.url)]
    pages[1].page.goto(plain.url)
    pages[1].large().wait_for()
    both = [(change_layer(pages[0], step), change_layer(pages[1], step)) for step in range(repeats + 1)][1:]
    _line("change of layer, in the browser", [one for one, _ in both])
    _line("the same by the plain page's server", [one for _, one in both])
    _line("new text of 300 words", new_text(pages[0], repeats))
    _line("Budget of 512 tokens", budget(pages[0], repeats))
    for page in pages:
        page.page.close()


def _tab(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE * 1000)
    return page


def paint(browser: Browser, url: str, query: str = "") -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    start = time.perf_counter()
    page.goto(f"{url}/{query}", wait_until="commit")
    page.wait_for_function(f"document.querySelector({PAINTED!r})?.offsetHeight > 0", polling="raf", timeout=120_000)
    seconds = time.perf_counter() - start
    context.close()
    return seconds


def change_layer(page: AppPage, step: int) -> float:
    """Seconds of one step, to and fro."""
    before = page.layer_shown()
    page.page.evaluate(STOPWATCH, f"document.querySelector('.al-large .al-name')?.textContent !== {before!r}")
    handle = page.page.locator(".al-player, .st-key-layer").get_by_role("slider").first
    handle.focus()
    handle.press("ArrowRight" if step % 2 == 0 else "ArrowLeft")
    seconds = float(page.page.evaluate("window.watched"))
    page.settle()
    return seconds


def new_text(page: AppPage, repeats: int) -> list[float]:
    seconds, draw = [], random.Random(0)
    page.own_text()
    for step in range(repeats):
        mark = f"round{step}"
        page.write(" ".join([mark, *draw.choices(WORDS.split(), k=299)]))
        shown = f"[...document.querySelectorAll('.al-large')].some(one => one.textContent.includes({mark!r}))"
        page.page.evaluate(STOPWATCH, shown)
        page.submit()
        seconds.append(page.page.evaluate("window.watched"))
        page.settle()
    return seconds


def budget(page: AppPage, repeats: int) -> list[float]:
    """Seconds from the click on Budget to its last number, a new text each time."""
    seconds, draw = [], random.Random(2)
    for step in range(repeats):
        mark = f"budget{step}"
        page.write(" ".join([mark, *draw.choices(WORDS.split(), k=600)]))
        page.submit()
        page.shows(mark)
        page.settle()
        start = time.perf_counter()
        page.view("budget")
        page.page.locator(".al-timing").wait_for()
        seconds.append(time.perf_counter() - start)
        page.settle()
        page.show("layers")
    return seconds


def memory(browser: Browser, server: Server, *, query: str, interactions: int) -> None:
    """New texts, one after the other, in one session. The first tenth fills the caches and is no growth."""
    page = AppPage(_tab(browser), server.url).open(query)
    page.own_text()
    draw, warm, sizes = random.Random(1), max(interactions // 10, 1), []
    for step in range(interactions):
        page.write(" ".join([f"step{step}", *draw.choices(WORDS.split(), k=60)]))
        page.submit()
        page.shows(f"step{step}")
        page.settle()
        sizes.append(resident(server))
    page.page.close()
    print(
        f"{f'memory over {interactions} interactions':40} {sizes[warm - 1]:6.0f} MB after {warm}, "
        f"{sizes[interactions // 2 - 1]:.0f} MB halfway, {sizes[-1]:.0f} MB at the end"
    )


def resident(server: Server) -> float:
    """MB of the server's process."""
    found: Any = psutil.Process(server.process.pid).memory_info()
    return found.rss / 2**20


def _line(what: str, seconds: list[float]) -> None:
    print(f"{what:40} {statistics.median(seconds):6.2f} s   ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    sys.exit(run_command(main))
