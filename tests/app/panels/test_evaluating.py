"""Make a report: the queue of the server's jobs in the Corpus view."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.panels import evaluating
from app.server import state
from app.work import jobs
from tests.app.pages import plain


class FakeJob:
    kind, begun, stopped, seconds = jobs.EVALUATION, True, False, 12.4
    message = "no such split"
    code: int | None = None

    def __init__(self, name: str = "films", number: int = 1) -> None:
        self.name, self.number, self.stage = name, number, ("", 0.0)

    def stop(self) -> None:
        self.stopped, self.code = True, jobs.STOPPED


@pytest.fixture
def queue(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the server runs; the view is open."""
    made: list[Any] = []
    monkeypatch.setattr(jobs, "queue", lambda: [job for job in made if job.code is None])
    monkeypatch.setattr(evaluating, "SECONDS_PER_LOOK", 60.0)
    page.session_state["view"] = state.CORPUS
    return made


def bars(page: AppTest) -> list[str]:
    return [plain(one.proto.text) for one in page.get("progress")]


def test_progress_stop_and_failure(page: AppTest, queue: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def evaluate(**options: Any) -> FakeJob:
        asked.append(options)
        queue.append(FakeJob(number=len(asked)))
        return queue[-1]

    monkeypatch.setattr(jobs, "evaluate", evaluate)
    page.session_state["scale"] = 0.5
    page.session_state["dtype"] = "auto"
    page.run()
    assert page.selectbox(key="limit").value == "a sample of 25, labels balanced"
    page.button(key="evaluate").click().run()
    assert not page.exception and asked[0]["limit"] == 25 and asked[0]["split"] == "test"
    assert asked[0]["threshold_scale"] == 0.5 and asked[0]["checkpoint"] == "tiny" and asked[0]["dtype"] == "auto"
    assert bars(page) == ["Evaluating films: loading the model, 12 s"]
    queue[0].stage = ("drawing the figures", 0.4)
    page.run()
    assert bars(page) == ["Evaluating films: drawing the figures 40%, 12 s"]
    page.button(key="stop-job-1").click().run()
    assert queue[0].stopped and not bars(page) and not page.error, "who stops a job knows why it ended"
    page.button(key="evaluate").click().run()
    queue[1].code = 2
    page.run()
    page.run()
    assert "films: no such split" in plain(page.error[0].value), "it stays until the next one is asked for"
    page.button(key="evaluate").click().run()
    assert not page.error
    queue[2].code = 0
    page.run()
    assert not page.exception and page.selectbox(key="report").value == "films" and not bars(page)


def test_others_wait(page: AppTest, queue: list[Any]) -> None:
    """A page that is loaded again finds all jobs; each can be stopped, and nobody is locked out."""
    queue += [FakeJob("films"), FakeJob("books", 2), FakeJob("songs", 3)]
    page.run()
    assert [one.split(", 12")[0] for one in bars(page)] == [
        "Evaluating films: loading the model",
        "Evaluating books: waits for 1 other",
        "Evaluating songs: waits for 2 others",
    ]
    assert page.button(key="stop-job-1").label == "Stop" and page.button(key="stop-job-3").label == "Cancel"
    assert page.button(key="evaluate")
    page.button(key="stop-job-2").click().run()
    assert [job.stopped for job in queue] == [False, True, False] and len(bars(page)) == 2
    for job in queue:
        job.code = 0
    page.run()
    assert not bars(page) and not page.exception


def test_a_full_queue_is_said(page: AppTest, queue: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "evaluate", lambda **asked: None)
    page.run()
    page.button(key="evaluate").click().run()
    assert f"{jobs.MOST} jobs run or wait" in page.info[0].value
