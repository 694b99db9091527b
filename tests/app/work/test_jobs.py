"""Evaluations and trainings that run beside the page."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest

from app.work import jobs

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def until(done: Any) -> None:
    deadline = time.monotonic() + 60
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)


def added(queue: jobs.Queue, command: list[str], *, name: str) -> jobs.Job | None:
    return queue.add(lambda _: jobs.Job(command, kind=jobs.EVALUATION, name=name))


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[jobs.Queue]:
    monkeypatch.setattr(jobs, "QUEUE", jobs.Queue())
    yield jobs.QUEUE
    for job in reversed(jobs.queue()):
        job.stop()


def test_a_job_tells_its_progress_and_its_end(queue: jobs.Queue) -> None:
    script = "import sys, time; print('scoring:  40%|##  | 1/2', file=sys.stderr, flush=True); time.sleep(60)"
    job = added(queue, [sys.executable, "-c", script], name="x")
    assert job is not None and jobs.queue() == [job]
    until(lambda: job.progress)
    assert job.progress == 0.4 and job.stage == ("scoring", 0.4) and job.code is None
    job.stop()
    assert job.code not in (0, None) and not jobs.queue()


def test_a_failed_job_says_why(queue: jobs.Queue) -> None:
    fails = [sys.executable, "-c", "import sys; sys.exit('error: /srv/models/tiny: no such split in /srv/films')"]
    hidden = {Path("/srv/models/tiny"): "tiny", Path("/srv/films"): "films"}
    job = queue.add(lambda _: jobs.Job(fails, kind="x", name="x", hidden=hidden))
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
        added(queue, [sys.executable, "-c", wait + tell.format(str(said), name)], name=name) for name in names
    )
    assert first is not None and second is not None and third is not None
    assert jobs.queue() == [first, second, third], "a page that is loaded again finds them"
    assert first.begun and not second.begun and second.code is None
    second.stop()
    assert jobs.queue() == [first, third] and second.stopped
    (tmp_path / "go").touch()
    until(lambda: not jobs.queue())
    assert said.read_text() == "ac" and third.code == 0 and second.code == jobs.STOPPED
    fourth = added(queue, SLEEP, name="d")
    assert fourth is not None and fourth.begun
    fourth.stop()
    until(lambda: not jobs.queue())


def test_a_queue_is_bounded(queue: jobs.Queue) -> None:
    made = [added(queue, SLEEP, name=str(number)) for number in range(jobs.MOST + 1)]
    assert made[-1] is None and None not in made[:-1] and len(jobs.queue()) == jobs.MOST


def test_a_command_that_cannot_be_started_ends(queue: jobs.Queue) -> None:
    job = added(queue, ["/no/such/program"], name="x")
    after = added(queue, [sys.executable, "-c", ""], name="y")
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
    jobs.evaluate(**{**asked, "dtype": "auto", "threshold_scale": 1 / 3}, limit=None)
    assert commands[-1][commands[-1].index("--threshold-scale") + 1] == str(1 / 3), "as it was, not to six digits"
    assert commands[-1][commands[-1].index("--dtype") + 1] == "auto"
    assert commands[-1][commands[-1].index("--output") + 1].endswith("-scale-0.333333-auto")
    assert commands[0][commands[0].index("--dtype") + 1] == "float32"
    assert commands[0][1:3] == ["-m", "app.work.evaluation"]
    assert given[0]["hidden"] == {tmp_path: "a/b", tmp_path / "data": "Sample: films"}
    assert commands[0][commands[0].index("--threshold-scale") + 1] == "0.5"
    assert "--limit" not in commands[0] and commands[1][commands[1].index("--limit") + 1] == "10"


def test_two_sessions_at_once_get_two_names(queue: jobs.Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs, "REPORT_FOLDER", tmp_path)
    together = Barrier(2)

    def asked(_: int) -> str:
        together.wait()
        job = jobs.evaluate(
            adapler=tmp_path, checkpoint="tiny", data=tmp_path, corpus="films", split="test", threshold_scale=1.0,
            dtype="float32", limit=None,
        )  # fmt: skip
        assert job is not None
        return job.name

    queue.add(lambda _: jobs.Job(SLEEP, kind=jobs.EVALUATION, name="first"))  # both wait behind it
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(asked, range(2))) == ["app-tiny-films-test-scale-1", "app-tiny-films-test-scale-1-2"]


def test_a_training_of_the_sample_that_waits_is_not_begun_twice(
    queue: jobs.Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jobs, "packaged_minilm", lambda: tmp_path)
    first = queue.add(lambda _: jobs.Job(SLEEP, kind=jobs.EVALUATION, name="first"))
    assert first is not None
    made = jobs.train_sample()
    assert made is not None and jobs.train_sample() is made and jobs.queue() == [first, made]


def test_no_message_names_the_server_s_folder(queue: jobs.Queue) -> None:
    fails = [sys.executable, "-c", f"import sys; sys.exit('error: {jobs.ROOT}/checkpoints/sample: is in use')"]
    job = queue.add(lambda _: jobs.Job(fails, kind=jobs.TRAINING, name="sample"))
    assert job is not None
    until(lambda: job.code is not None)
    assert job.message == "./checkpoints/sample: is in use"


def test_names_of_reports_are_plain() -> None:
    assert jobs.report_name("a/b", "Sample: films", "..") == "app-a-b-Sample-films-x"
