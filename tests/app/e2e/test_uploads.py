"""Files of one's own: what is read, and what is refused with a reason while the page stays usable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import expect

from app.server import state
from tests.app.e2e.browser import AppPage

Visit = Callable[..., AppPage]
HERE = f"?source={quote(state.OWN_TEXT)}"


def usable(app: AppPage) -> None:
    while (remove := app.widget("upload").get_by_role("button", name="Remove")).count():
        left = remove.count()
        remove.first.click()
        expect(remove).to_have_count(left - 1)
    expect(app.page.get_by_test_id("stException")).to_have_count(0)
    app.write("after all a good film")
    app.submit()
    app.shows("after all a good film")


def test_text_file(visit: Visit) -> None:
    app = visit(HERE)
    app.upload("film.txt", b"One of the quiet wonders of the year .")
    app.shows("quiet wonders")


def test_lines(visit: Visit) -> None:
    rows = [{"text": f"the film number{n} is good", "label": "POS"} for n in range(3)]
    app = visit(HERE)
    app.upload("films.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    app.shows("number0")
    app.shows("gold label POS")


def test_refused_with_a_reason(visit: Visit) -> None:
    app = visit(HERE)
    for name, content, reason in (
        ("latin.txt", "caf\u00e9".encode("latin-1"), "latin.txt: not UTF-8"),
        ("binary.txt", bytes(range(256)) * 50, "binary.txt: not UTF-8"),
        ("empty.txt", b"", "empty.txt: no text"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": ', "broken.jsonl:2"),
        ("many.jsonl", b'{"text": "a"}\n' * 201, "many.jsonl: more than 200 lines"),
    ):
        app.upload(name, content)
        expect(app.page.get_by_test_id("stAlert").first).to_contain_text(reason)
    usable(app)


def test_fifty_megabytes(visit: Visit, tmp_path: Path) -> None:
    """The browser is told of the limit and sends nothing."""
    large = tmp_path / "large.txt"
    large.write_bytes(b"film " * 10_000_000)
    app = visit(HERE)
    app.widget("upload").locator("input[type=file]").set_input_files(large)
    expect(app.widget("upload")).to_contain_text("must be 2.0MB or smaller")
    usable(app)
    large.unlink()
