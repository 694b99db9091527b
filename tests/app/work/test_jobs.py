"""Evaluations and trainings that run beside the page."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
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
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[jobs.Queue]:
    monkeypatch.setattr(jobs, "QUEUE", jobs.Queue())
    yield jobs.QUEUE
    for job in reversed(jobs.queue()):
        job.stop()


def test_a_job_tells_its_progress_and_its_end(queue: jobs.Queue) -> None:
    script = "import sys, time; print('scoring:  40%|##  | 1/2', file=sys.stderr, flush=True); time.sleep(60)"
    job = queue.add([sys.executable, "-c", script], kind=jobs.EVALUATION, name="x")
    assert job is not None and jobs.queue() == [job]
    until(lambda: job.progress)
    assert job.progress == 0.4 and job.stage == ("scoring", 0.4) and job.code is None
    job.stop()
    assert job.code not in (0, None) and not jobs.queue()


def test_a_failed_job_says_why(queue: jobs.Queue) -> None:
    fails = [sys.executable, "-c", "import sys; sys.exit('error: /srv/models/tiny: no such split in /srv/films')"]
    hidden = {Path("/srv/models/tiny"): "tiny", Path("/srv/films"): "films"}
    job = queue.add(fails, kind="x", name="x", hidden=hidden)
    assert job is not None
    until(lambda: job.code is not None)
    assert (job.code, job.message) == (1, "tiny: no such split in films"), "whatever checkpoint a page shows by then"


def test_jobs_run_one_after_another(queue: jobs.Queue, tmp_path: Path) -> None:
    """Whether anybody looks at them or not; who stops one that waits takes it out."""
    said = tmp_path / "said"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.02)\n"
    tell = "open({!r}, 'a').write('{}')"
    names = ("a", "b", "c")
    first, second, third = (
        queue.add([sys.executable, "-c", wait + tell.format(str(said), name)], kind=jobs.EVALUATION, name=name)
        for name in names
    )
    assert first is not None and second is not None and third is not None
    assert jobs.queue() == [first, second, third], "a page that is loaded again finds them"
    assert first.begun and not second.begun and second.code is None
    second.stop()
    assert jobs.queue() == [first, third] and second.stopped
    (tmp_path / "go").touch()
    until(lambda: not jobs.queue())
    assert said.read_text() == "ac" and third.code == 0 and second.code == jobs.STOPPED
    fourth = queue.add(SLEEP, kind=jobs.EVALUATION, name="d")
    assert fourth is not None and fourth.begun
    fourth.stop()
    until(lambda: not jobs.queue())


def test_a_queue_is_bounded(queue: jobs.Queue) -> None:
    made = [queue.add(SLEEP, kind=jobs.EVALUATION, name=str(number)) for number in range(jobs.MOST + 1)]
    assert made[-1] is None and None not in made[:-1] and len(jobs.queue()) == jobs.MOST


def test_a_command_that_cannot_be_started_ends(queue: jobs.Queue) -> None:
    job = queue.add(["/no/such/program"], kind=jobs.EVALUATION, name="x")
    after = queue.add([sys.executable, "-c", ""], kind=jobs.EVALUATION, name="y")
    assert job is not None and after is not None
    until(lambda: not jobs.queue())
    assert job.code == 1 and "/no/such/program" in job.message and not job.stopped
    assert after.code == 0, "the next one begins all the same"


def test_the_evaluation_has_the_chosen_scale_and_a_name_of_its_own(
    queue: jobs.Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(jobs, "REPORT_FOLDER", tmp_path)
    ended = SimpleNamespace(code=0, begun=True, wait=lambda: None)
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(
        jobs, "Job", lambda command, **options: commands.append(command) or given.append(options) or ended
    )
    asked: dict[str, Any] = {
        "adapler": tmp_path, "checkpoint": "a/b", "data": tmp_path / "data", "corpus": "Sample: films",
        "split": "test", "threshold_scale": 0.5, "dtype": "float32",
    }  # fmt: skip
    for limit in (None, 10):
        assert jobs.evaluate(**asked, limit=limit) is ended
        (tmp_path / Path(commands[-1][commands[-1].index("--output") + 1]).name).mkdir()
    jobs.evaluate(**asked, limit=10)
    names = [Path(command[command.index("--output") + 1]).name for command in commands]
    assert names == [
        "app-a-b-Sample-films-test-scale-0.5",
        "app-a-b-Sample-films-test-scale-0.5-sample-10",
        "app-a-b-Sample-films-test-scale-0.5-sample-10-2",
    ], "no report is overwritten"
    jobs.evaluate(**{**asked, "dtype": "auto"}, limit=None)
    assert commands[-1][commands[-1].index("--dtype") + 1] == "auto"
    assert commands[-1][commands[-1].index("--output") + 1].endswith("-scale-0.5-auto")
    assert commands[0][commands[0].index("--dtype") + 1] == "float32"
    assert commands[0][1:3] == ["-m", "app.work.evaluation"]
    assert given[0]["hidden"] == {tmp_path: "a/b", tmp_path / "data": "Sample: films"}
    assert commands[0][commands[0].index("--threshold-scale") + 1] == "0.5"
    assert "--limit" not in commands[0] and commands[1][-2:] == ["--limit", "10"]


def test_names_of_reports_are_plain() -> None:
    assert jobs.report_name("a/b", "Sample: films", "..") == "app-a-b-Sample-films-x"
