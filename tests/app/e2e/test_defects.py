"""What was once wrong with the app, as a reader met it; other files have the rest of that list."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from app.server import state
from app.work.jobs import REPORT_FOLDER
from tests.app.e2e.browser import VIEWS, AppPage
from tests.app.e2e.test_take_away import save

Visit = Callable[..., AppPage]
OWN = f"?source={quote(state.OWN_TEXT)}"


def at(view: str, rest: str = "") -> str:
    return f"?view={quote(VIEWS[view])}{rest}"


@pytest.fixture
def new_reports() -> Iterator[Callable[[], list[str]]]:
    """The names of the reports that a test has made; they go when it ends."""
    before = set(REPORT_FOLDER.glob("*"))

    def names() -> list[str]:
        return sorted(path.name for path in set(REPORT_FOLDER.glob("*")) - before)

    yield names
    for name in names():
        shutil.rmtree(REPORT_FOLDER / name)


def test_a_reload_finds_its_job(visit: Visit) -> None:
    """And frees the place: nobody is locked out by a page that is gone."""
    app = visit(at("corpus"))
    app.widget("evaluate").locator("button").click()
    stop = app.jobs().locator("button")
    expect(stop).to_be_visible()
    app.page.reload()
    expect(stop).to_be_visible()
    app.shows("Evaluating")
    stop.click()
    expect(app.widget("evaluate").locator("button")).to_be_visible()


def test_jobs_wait_for_each_other_and_lock_nobody_out(visit: Visit) -> None:
    first, second = visit(at("corpus")), visit(at("corpus"))
    first.widget("evaluate").locator("button").click()
    expect(first.jobs()).to_have_count(1)
    second.widget("evaluate").locator("button").click()
    second.shows("waits for 1 other")
    second.jobs().nth(1).get_by_role("button", name="Cancel").click()
    expect(second.jobs()).to_have_count(1)
    second.jobs().get_by_role("button", name="Stop").click()
    expect(second.jobs()).to_have_count(0)
    expect(first.jobs()).to_have_count(0)
    expect(first.widget("evaluate").locator("button")).to_be_enabled()
    expect(first.page.get_by_test_id("stAlert")).to_have_count(0)


def test_a_second_report_does_not_take_the_place_of_the_first(
    visit: Visit, new_reports: Callable[[], list[str]]
) -> None:
    app = visit(at("corpus"))
    app.choose("limit", "a sample of 10, labels balanced")
    for number in (1, 2):
        app.settle()
        app.widget("evaluate").locator("button").click()
        expect(app.jobs()).to_be_visible()
        app.jobs_end()
        assert len(new_reports()) == number
    first, second = new_reports()
    assert "sample-10" in first and first in second and first != second


def test_a_link_that_cannot_be_restored_says_what_is_missing(visit: Visit) -> None:
    app = visit("?corpus=MultiRC&document=foo&checkpoint=bert-large")
    alert = app.page.get_by_test_id("stAlert").first
    expect(alert).to_contain_text("The address asks for what is not here")
    for missing in ("MultiRC", "foo", "bert-large"):
        expect(alert).to_contain_text(missing)


def test_a_file_that_cannot_be_read_has_no_verdict(visit: Visit) -> None:
    app = visit(OWN)
    expect(app.page.locator(".al-cards").first).to_be_visible()
    app.upload("latin.txt", "caf\u00e9".encode("latin-1"))
    expect(app.page.get_by_test_id("stAlert").first).to_contain_text("latin.txt: not UTF-8")
    expect(app.page.locator(".al-cards")).to_have_count(0)


def test_own_text_is_a_source_and_no_view(visit: Visit) -> None:
    """It stays through the views, and the review comes back where one finds it."""
    app = visit()
    app.own_text()
    app.write("a quiet film")
    app.submit()
    for view in ("compare", "layers"):
        app.show(view)
        app.shows("quiet")
        expect(app.widget("text").locator("textarea")).to_be_visible()
    app.pick("source", state.SOURCES[0])
    expect(app.widget("text")).to_have_count(0)
    app.shows("negS_063.txt")
    old = visit("?view=Your text")  # a view of earlier versions
    expect(old.widget("text").locator("textarea")).to_be_visible()


def test_progress_of_an_evaluation_moves(visit: Visit, new_reports: Callable[[], list[str]]) -> None:
    app = visit(at("corpus"))
    app.page.evaluate(
        """() => { window.told = new Set(); setInterval(() => {
        const bar = document.querySelector('[data-testid="stProgress"]');
        if (bar) told.add(bar.innerText); }, 50); }"""
    )
    app.widget("evaluate").locator("button").click()
    expect(app.jobs()).to_be_visible()
    app.jobs_end()
    told = app.page.evaluate("[...told]")
    assert len(new_reports()) == 1
    assert len({found[1] for one in told if (found := re.search(r"(\d+) ?%", one))} - {"0", "100"}) >= 3, " ".join(
        one[-30:] for one in told
    )


def test_a_pair_is_read_as_two_texts(visit: Visit) -> None:
    app = visit(OWN)
    app.write("a quiet film")
    app.widget("query").locator("input").fill("was it dull ?")
    app.widget("query").locator("input").press("Enter")
    expect(app.large()).to_contain_text("dull")
    assert app.large().inner_text().count("[SEP]") == 2


def test_a_method_of_many_passes_can_be_stopped(visit: Visit) -> None:
    app = visit(at("compare", "&method=cp&method=lime"))
    app.widget("run-lime").locator("button").click()
    stop = app.widget("stop-method").locator("button")
    expect(stop).to_be_visible()
    expect(app.page.get_by_test_id("stProgress")).to_be_visible()
    stop.click()
    app.shows("not run yet")


def test_a_table_of_scores_leaves_signs_as_they_are(visit: Visit) -> None:
    app = visit(at("take-away", f"&source={quote(state.OWN_TEXT)}&text={quote('a film -- good =1+1')}"))
    _, content = save(app, "save-scores")
    tokens = {row["token"] for row in csv.DictReader(io.StringIO(content.decode()))}
    assert "-" in tokens and not {"'-", "'--", "'="} & tokens


def test_lines_of_a_file_have_a_table_of_verdicts(visit: Visit) -> None:
    app = visit(OWN)
    rows = [{"id": f"line{n}", "text": f"the film number{n} is a mess", "label": "NEG"} for n in range(3)]
    app.upload("films.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    app.shows("number0")
    app.widget("verdicts-open").locator("summary").click()
    expect(app.widget("rows")).to_be_visible()
    app.shows("labelled lines are right")
    name, content = save(app, "save-verdicts")
    table = list(csv.DictReader(io.StringIO(content.decode())))
    assert name == "verdicts.csv" and len(table) == 3
    assert {"checkpoint", "scale", "verdict", "without removal", "probability"} <= set(table[0])


def test_the_text_has_no_scroller_of_its_own(visit: Visit) -> None:
    """Also on a phone."""
    for viewport in ({"width": 1280, "height": 900}, {"width": 390, "height": 844}):
        app = visit(viewport=viewport)
        app.open_all()
        inner = (
            app.grid()
            .locator(".al-text")
            .evaluate_all("all => all.map(one => one.scrollHeight - one.clientHeight).filter(more => more > 2).length")
        )
        assert inner == 0, viewport


def test_a_wide_screen_is_used(visit: Visit) -> None:
    app = visit(viewport={"width": 1920, "height": 1080})
    box = app.large().locator(".al-text").bounding_box()
    assert box is not None and box["width"] > 1000
    expect(app.player().locator(".al-play")).to_be_in_viewport()
