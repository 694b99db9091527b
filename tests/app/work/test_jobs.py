"""Evaluations and trainings that run beside the page."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.work import jobs

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def until(done: Any) -> None:
    deadline = time.monotonic() + 60
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture
def seat(monkeypatch: pytest.MonkeyPatch) -> jobs.Seat:
    monkeypatch.setattr(jobs, "SEAT", jobs.Seat())
    return jobs.SEAT


def test_a_job_tells_its_progress_and_its_end(seat: jobs.Seat) -> None:
    script = "import sys, time; print('scoring:  40%|##  | 1/2', file=sys.stderr, flush=True); time.sleep(60)"
    job = seat.start([sys.executable, "-c", script], kind=jobs.EVALUATION, name="x")
    assert job is not None and jobs.running() is job
    until(lambda: job.progress)
    assert job.progress == 0.4 and job.stage == ("scoring", 0.4) and job.code is None
    job.stop()
    assert job.code not in (0, None) and jobs.running() is None


def test_a_failed_job_says_why(seat: jobs.Seat) -> None:
    job = seat.start([sys.executable, "-c", "import sys; sys.exit('error: no such split')"], kind="x", name="x")
    assert job is not None
    until(lambda: job.code is not None)
    assert (job.code, job.message) == (1, "no such split")


def test_an_ended_job_whose_session_is_gone_keeps_no_place(seat: jobs.Seat) -> None:
    started = seat.start([sys.executable, "-c", ""], kind=jobs.EVALUATION, name="x")
    assert started is not None and seat.start(SLEEP, kind=jobs.EVALUATION, name="y") is None, "one at a time"
    del started  # nobody looks at it any more
    until(lambda: jobs.running() is None)
    second = seat.start(SLEEP, kind=jobs.EVALUATION, name="y")
    assert second is not None and jobs.running() is second, "a page that is loaded again finds it"
    second.stop()


def test_the_evaluation_has_the_chosen_scale_and_a_name_of_its_own(
    seat: jobs.Seat, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(jobs, "REPORT_FOLDER", tmp_path)
    ended = SimpleNamespace(code=0)
    monkeypatch.setattr(jobs, "Job", lambda command, **options: commands.append(command) or ended)
    asked: dict[str, Any] = {
        "adapler": tmp_path, "checkpoint": "a/b", "data": tmp_path, "corpus": "Sample: films", "split": "test",
        "threshold_scale": 0.5,
    }  # fmt: skip
    for limit in (None, 10):
        assert jobs.evaluate(**asked, limit=limit) is ended
        (tmp_path / Path(commands[-1][commands[-1].index("--output") + 1]).name).mkdir()
    jobs.evaluate(**asked, limit=10)
    names = [Path(command[command.index("--output") + 1]).name for command in commands]
    assert names == [
        "app-a-b-Sample-films-test-scale-0.5",
        "app-a-b-Sample-films-test-scale-0.5-first-10",
        "app-a-b-Sample-films-test-scale-0.5-first-10-2",
    ], "no report is overwritten"
    assert commands[0][1:3] == ["-m", "app.work.evaluation"]
    assert commands[0][commands[0].index("--threshold-scale") + 1] == "0.5"
    assert "--limit" not in commands[0] and commands[1][-2:] == ["--limit", "10"]


def test_names_of_reports_are_plain() -> None:
    assert jobs.report_name("a/b", "Sample: films", "..") == "app-a-b-Sample-films-x"
