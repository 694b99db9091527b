"""One server and one browser for the session; each test a context of its own, watched for what must not happen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.app.e2e.browser import (
    PATIENCE,
    AppPage,
    Server,
    find_chromium,
    launch,
    sample_report,
    serve,
)

# In the log of the server, after all tests: errors, code outside of a session, and a widget with two values.
UNWANTED = ("Traceback", "ScriptRunContext", "created with a default value")
REQUIRED = "ADAPLER_BROWSER_TESTS"  # set to 1, as .ci/run does, a missing browser is a failure and not a skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if (executable := find_chromium()) is None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"no chromium on the path; {REQUIRED}=1 says that there must be one")
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright, executable)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(chromium: Any, tmp_path_factory: pytest.TempPathFactory, app_checkpoints: Path) -> Iterator[Server]:
    """The app as it comes; more checkpoints, one of them damaged, and two reports, one damaged, are named to it."""
    reports = tmp_path_factory.mktemp("reports")
    sample_report(reports / "sample-small", methods=["cp", "attention_received"], limit=12)
    (reports / "torn").mkdir()
    (reports / "torn" / "report.json").write_text('{"schema": "adapler.rationale-report", "sche', encoding="utf-8")
    arguments = ["--checkpoints", str(app_checkpoints), "--reports", str(reports)]
    with serve(tmp_path_factory.mktemp("server"), arguments=arguments) as running:
        yield running
        for unwanted in UNWANTED:
            assert unwanted not in running.log, running.log[-4000:]


@dataclass
class Watch:
    """What a browser context did behind the page's back."""

    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def on(self, context: Any) -> None:
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("dialog", self._dialog)

    def _dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def check(self, url: str) -> None:
        home = urlsplit(url).netloc
        schemes = {"http", "https", "ws", "wss"}
        away = [one for one in self.requests if (parts := urlsplit(one)).scheme in schemes and parts.netloc != home]
        assert not away, f"requests to other hosts: {away}"
        assert not self.dialogs and not self.errors


@pytest.fixture
def visit(chromium: Any, server: Server) -> Iterator[Callable[..., AppPage]]:
    """`visit("?query", viewport=..., ...)` opens the app in a new context; keywords are Playwright's for a context."""
    opened = []

    def open_page(query: str = "", **options: Any) -> AppPage:
        watch = Watch()
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(PATIENCE * 1000)
        watch.on(context)
        opened.append((context, watch))
        return AppPage(context.new_page(), server.url).open(query)

    yield open_page
    for context, _ in opened:
        context.close()
    for _, watch in opened:
        watch.check(server.url)
