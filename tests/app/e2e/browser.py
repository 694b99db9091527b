"""A server of the app and a headless Chromium before it: what the tests, the benchmark and the pictures share."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Playwright, TimeoutError, expect

from app.server import state

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "app" / "main.py"
PATIENCE = 180.0  # seconds; a machine that trains something else is slow, and a test that waits costs nothing
VIEWS = dict(
    zip(
        ("layers", "compare", "sides", "what-if", "budget", "trust", "corpus", "take-away", "how"),
        state.VIEWS,
        strict=True,
    )
)
IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
STAYS_IDLE = """selector => {
    if (!document.querySelector(selector)) window.idleSince = null;
    else window.idleSince ??= performance.now();
    return window.idleSince !== null && performance.now() - window.idleSince > 250;
}"""
LATE = '.al-cards, .al-talk, .st-key-evaluate, [data-testid="stAlert"]'


def find_chromium() -> str | None:
    """Debian's Chromium, or another one of the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def launch(playwright: Playwright, executable: str) -> Browser:
    """Headless, without the requests that Chromium makes for itself; `expect` gets patience too."""
    expect.set_options(timeout=PATIENCE * 500)
    quiet = ["--disable-background-networking", "--disable-component-update"]
    quiet += ["--disable-gpu", "--disable-dev-shm-usage"]  # a container has neither
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=executable, args=[*quiet, *sandbox])


@dataclass(frozen=True)
class Server:
    """A running app. `log` is what it has printed."""

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")


@contextmanager
def serve(
    folder: Path, *, arguments: Sequence[str] = (), script: Path = PAGE, options: Sequence[str] = ()
) -> Iterator[Server]:
    """`streamlit run script -- arguments` on a free port of this machine, its log in `folder`, until it is left.

    Raises:
        RuntimeError: it ends or does not answer; the message ends with its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    command += ["--server.headless=true", "--server.address=127.0.0.1", f"--server.port={port}"]
    command += ["--server.fileWatcherType=none", "--browser.gatherUsageStats=false", *options, "--", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log_file = folder / f"server-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    server = Server(f"http://127.0.0.1:{port}", process, log_file)
    try:
        _wait(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:  # URLError is one too: nobody listens yet
            time.sleep(0.2)
    raise RuntimeError(f"the app does not answer at {server.url}:\n{server.log[-2000:]}")


class AppPage:
    """The app in one browser tab, in the words of who uses it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def open(self, query: str = "") -> AppPage:
        self.page.goto(f"{self.url}/{query}")
        # Between the runs that a page starts with, the script counts as idle too: wait for what comes late in it.
        self.page.locator(LATE).first.wait_for(timeout=PATIENCE * 1000)
        return self.settle()

    def settle(self) -> AppPage:
        """Wait until the script has run and begins no other run at once, as it does while a page opens.

        After an action `expect` what it changes first: the run may not have begun.
        """
        self.page.evaluate("() => { window.idleSince = null; }")
        self.page.wait_for_function(STAYS_IDLE, arg=IDLE, polling=50, timeout=PATIENCE * 1000)
        return self

    def view(self, name: str) -> AppPage:
        """Change to a view, by its name in VIEWS."""
        self.widget("view").get_by_text(VIEWS[name], exact=True).click()
        return self

    def show(self, name: str) -> AppPage:
        """Change to a view and wait for what comes last on it."""
        last = {
            "layers": ".al-large .al-text",
            "compare": ".al-method:nth-child(4) .al-text",
            "sides": ".al-method:nth-child(2) .al-text",
            "what-if": ".st-key-faithful",
            "budget": ".al-timing",
            "trust": ".st-key-survey, .st-key-sure",
            "corpus": ".st-key-evaluate",
            "take-away": ".st-key-save-html",
            "how": ".katex-display >> nth=1",
        }
        expect(self.view(name).page.locator(last[name]).first).to_be_visible()
        return self.settle()

    def widget(self, key: str) -> Locator:
        """What Streamlit draws for the widget of this key."""
        return self.page.locator(f".st-key-{key}")

    def text(self) -> str:
        return self.page.locator('[data-testid="stMain"]').inner_text()

    def shows(self, text: str) -> None:
        expect(self.page.locator('[data-testid="stMain"]')).to_contain_text(text)

    def choose(self, key: str, option: str) -> None:
        """An option of a select box, found by its name: a long list is drawn in part. A run of the page that ends
        meanwhile, as when a job does, closes the list: then it is opened again."""
        found = self.page.get_by_role("option", name=option, exact=True).first
        until = time.monotonic() + PATIENCE
        while True:
            self.widget(key).locator("input").first.click()
            self.widget(key).locator("input").first.fill(option)
            try:
                found.click(timeout=10_000)
                return
            except TimeoutError:
                if time.monotonic() > until:
                    raise
                self.page.keyboard.press("Escape")

    def pick(self, key: str, option: str) -> None:
        """A segment of a segmented control, or a radio button."""
        self.widget(key).get_by_text(option, exact=True).click()

    def slide(self, key: str, presses: str) -> None:
        """Press keys on a slider: `ArrowRight ArrowRight`, `Home`, `End`."""
        handle = self.player().get_by_role("slider") if key == "layer" else self.widget(key).get_by_role("slider").first
        handle.focus()
        for press in presses.split():
            handle.press(press)

    def open_all(self) -> None:
        """All layers under each other."""
        self.pick("show", state.ALL_LAYERS)
        expect(self.grid()).to_be_visible()

    def player(self) -> Locator:
        return self.page.locator(".al-player").first

    def large(self) -> Locator:
        return self.page.locator(".al-large").last  # while the page changes, the one before may still be there

    def grid(self) -> Locator:
        return self.page.locator(".al-grid").first

    def layer_shown(self) -> str:
        return self.large().locator(".al-name").inner_text()

    def shows_layer(self, layer: int) -> None:
        expect(self.large().locator(".al-name")).to_have_text(f"Layer {layer}")

    def layers(self) -> int:
        """How many there are, from the slider."""
        return int(self.player().get_by_role("slider").evaluate("one => one.max")) + 1

    def jobs(self) -> Locator:
        """The Stop and Cancel buttons of the server's queue of evaluations."""
        return self.page.locator('[class*="st-key-stop-job-"]')

    def jobs_end(self) -> None:
        """Wait until the queue of evaluations is empty: ten documents take 40 s on a slow core, or twice that."""
        expect(self.jobs()).to_have_count(0, timeout=2 * PATIENCE * 1000)

    def read_all(self) -> None:
        """Let the server read the whole split, unless somebody has done so before."""
        button = self.widget("survey").locator("button")
        button.or_(self.widget("sure")).or_(self.widget("elsewhere")).first.wait_for()
        if button.count():
            button.click()

    def own_text(self) -> None:
        """Show a text of one's own."""
        self.pick("source", state.OWN_TEXT)
        expect(self.widget("text").locator("textarea")).to_be_visible()

    def write(self, text: str) -> None:
        self.widget("text").locator("textarea").fill(text)

    def upload(self, name: str, content: bytes) -> None:
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self.widget("upload").locator("input[type=file]").set_input_files(file)

    def submit(self) -> None:
        self.widget("text").locator("textarea").press("Control+Enter")


def sample_report(folder: Path, *, methods: Sequence[str] | None = None, limit: int | None = None) -> Path:
    """A report.json of the embedded sample in `folder`; without `methods` and `limit` it takes minutes."""
    from analysis.rationale_eval import evaluate

    folder.mkdir(parents=True)
    report = evaluate(data=ROOT / "data" / "eraser" / "sample", methods=methods, limit=limit, progress=False)
    report.to_json(folder / "report.json")
    return folder
