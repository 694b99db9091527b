"""A server of the app and a Chromium, for tests, the pictures of the documentation and the benchmark."""

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
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 120_000  # milliseconds
STANDS = "[data-testid=stApp][data-test-script-state=notRunning]:has(.al-head-line h1)"


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass(frozen=True)
class Server:
    url: str
    pid: int


@contextmanager
def serve(arguments: Sequence[str] = ()) -> Iterator[Server]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["--server.port", str(port), "--server.headless", "true", "--server.fileWatcherType", "none"]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", *options, "--", *arguments]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, **quiet)
    try:
        url = f"http://localhost:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield Server(url, process.pid)
    finally:
        process.terminate()
        process.wait()


def settle(page: Any) -> None:
    """Wait until the script has run, for more than the moment between a run and one that it asks for."""
    still = 0
    for _ in range(PATIENCE // 100):
        page.wait_for_timeout(100)
        still = still + 1 if page.locator(STANDS).count() else 0
        if still == 7:
            return
    raise TimeoutError("the page does not come to rest")


def launch(playwright: Any) -> Any:
    return playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
