"""Evaluations and trainings that run beside the page, one after another, with their progress and a way to stop them.

Each is a process of its own: it takes no model away from the sessions, and stopping it leaves nothing half-written:
an evaluation writes its folder whole or not at all, and a training goes on from its last stage when started again.
One runs at a time on a server, so that memory is bounded; the others wait in a queue. A job belongs to the server and
not to the session that started it: a page that is loaded again finds it, and the next one begins as soon as its
process has ended, whether a session looks at it or not.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock, Thread

from adapler.minilm import packaged_minilm
from app.sources.loading import CHECKPOINTS, ROOT, without_path

REPORT_FOLDER = ROOT / "reports"
SAMPLE_MODEL = CHECKPOINTS / "sample"
SAMPLE_RECIPE = ROOT / "configs" / "sample" / "minilm-post-hoc.yaml"  # that of `make train-sample`
EVALUATION, TRAINING = "evaluation", "training"
MOST = 8  # jobs of a server that run or wait
STOPPED = -15  # exit code, as of a process that was asked to end


class Job:
    """One run of a command; it ends with the server at the latest, unless that is killed.

    kind: EVALUATION or TRAINING; name: of the report or the checkpoint that it makes; number: of no other job.
    hidden: folders of this machine that its messages may name -> what the page calls them.
    """

    _numbers = itertools.count(1)

    def __init__(self, command: list[str], *, kind: str, name: str, hidden: Mapping[Path, str] | None = None) -> None:
        self.kind, self.name, self.number = kind, name, next(self._numbers)
        self._command, self._hidden = command, {**(hidden or {}), ROOT: "."}
        self._started = time.monotonic()
        self._log = tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace", suffix=".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._code: int | None = None  # of a job that is stopped, or fails, before it has begun
        self._lock = Lock()
        self.stopped = False  # somebody has stopped it

    def begin(self) -> None:
        """Start the process, unless the job was stopped while it waited."""
        with self._lock:
            if self._code is not None:
                return
            self._started = time.monotonic()
            try:
                self._process = subprocess.Popen(
                    self._command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log
                )
            except OSError as error:  # no memory, or no more processes
                self._log.write(f"error: {error}")
                self._log.flush()
                self._code = 1
                return
        weakref.finalize(self, _end, self._process)

    def wait(self) -> None:
        """Until it has ended."""
        if self._process is not None:
            self._process.wait()

    @property
    def begun(self) -> bool:
        """Whether it does not wait any more."""
        return self._process is not None

    @property
    def stage(self) -> tuple[str, float]:
        """What the command's last bar is about, "" before there is one; and how far it is, from 0 to 1."""
        found = re.findall(r"([^\r\n:|]*): +(\d+)%\|", self._tail())
        return (found[-1][0].strip(), int(found[-1][1]) / 100) if found else ("", 0.0)

    @property
    def progress(self) -> float:
        """From 0 to 1, as far as the command's bars tell."""
        found = re.findall(r"(\d+)%\|", self._tail())
        return int(found[-1]) / 100 if found else 0.0

    @property
    def seconds(self) -> float:
        """Since it began, or since it waits."""
        return time.monotonic() - self._started

    @property
    def code(self) -> int | None:
        """The exit code, None while it waits and runs."""
        return self._code if self._process is None else self._process.poll()

    @property
    def message(self) -> str:
        """The command's last line: after a failure, what went wrong."""
        lines = [line for line in re.split(r"[\r\n]+", self._tail()) if line.strip()]
        message = lines[-1].removeprefix("error: ") if lines else "no message"
        for folder, name in self._hidden.items():
            message = without_path(message, folder, name)
        return message

    def stop(self) -> None:
        """End it, or take it out of the queue."""
        with self._lock:
            self.stopped = True
            if self._process is None:
                self._code = STOPPED
                return
        _end(self._process)

    def _tail(self) -> str:
        path = Path(self._log.name)
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 2000))
            return stream.read().decode("utf-8", errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Queue:
    """The server's jobs that have not ended, the one that runs first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._jobs: list[Job] = []

    def jobs(self) -> list[Job]:
        """The job that runs and those that wait, whichever sessions have started them."""
        return [job for job in list(self._jobs) if job.code is None]

    def add(self, make: Callable[[list[Job]], Job]) -> Job | None:
        """A job, which begins when those before it have ended; None where MOST wait already.

        make: given these jobs, makes a new one, or returns one of them; two sessions do not make theirs at once.
        """
        with self._lock:
            known = self.jobs()
            job = make(known)
            if job in known:
                return job
            if len(known) >= MOST:
                return None
            self._jobs.append(job)
        self._advance()
        return job

    def _advance(self) -> None:
        """Begin the first job if none runs; a thread waits for its end, and begins the next."""
        with self._lock:
            self._jobs = self.jobs()
            if not self._jobs or self._jobs[0].begun:
                return
            first = self._jobs[0]
            first.begin()
        Thread(target=self._follow, args=[first], daemon=True).start()

    def _follow(self, job: Job) -> None:
        job.wait()
        self._advance()


QUEUE = Queue()  # a module is imported once on a server, whatever the page does


def queue() -> list[Job]:
    """The server's job that runs, and those that wait."""
    return QUEUE.jobs()


def evaluate(
    *,
    adapler: Path,
    checkpoint: str,
    data: Path,
    corpus: str,
    split: str,
    threshold_scale: float,
    dtype: str,
    limit: int | None,
) -> Job | None:
    """Evaluate the paper's methods into a new report. None where MOST jobs wait already.

    adapler, data: folders, and the names that the menus give them: checkpoint, corpus. dtype: "auto" asks the device
    that the evaluation runs on.
    """
    parts = [checkpoint, corpus, split, f"scale {threshold_scale:g}", *([] if limit is None else [f"sample {limit}"])]
    parts += [] if dtype == "float32" else [dtype]
    command = [sys.executable, "-m", "app.work.evaluation", "--adapler", str(adapler), "--checkpoint", checkpoint]
    command += ["--data", str(data), "--corpus", corpus, "--split", split, "--threshold-scale", str(threshold_scale)]
    command += ["--dtype", dtype, *([] if limit is None else ["--limit", str(limit)])]

    def make(known: list[Job]) -> Job:
        name = unused_name(report_name(*parts), known)
        into = ["--output", str(REPORT_FOLDER / name)]
        return Job([*command, *into], kind=EVALUATION, name=name, hidden={adapler: checkpoint, data: corpus})

    return QUEUE.add(make)


def train_sample() -> Job | None:
    """Train the packaged encoder on the embedded sample, into checkpoints/sample; the job that does so already, where
    there is one. None where MOST jobs wait.

    Raises:
        CheckpointError: the encoder is not installed.
    """
    command = [sys.executable, "-m", "adapler", "run", "--config", str(SAMPLE_RECIPE)]
    command += ["--task", str(ROOT / "data" / "eraser" / "sample"), "--model", str(packaged_minilm())]
    command += ["--output", str(SAMPLE_MODEL)]

    def make(known: list[Job]) -> Job:
        training = [job for job in known if job.kind == TRAINING]
        return training[0] if training else Job(command, kind=TRAINING, name=SAMPLE_MODEL.name)

    return QUEUE.add(make)


def trained_stages() -> tuple[int, int]:
    """(finished, all) stages of `train_sample`: fine-tuning, saliency, AdapLeR with its evaluation."""
    finished = (SAMPLE_MODEL / "finetuned" / "run.json", SAMPLE_MODEL / "saliency" / "run.json")
    return sum(path.is_file() for path in finished), len(finished) + 1


def report_name(*parts: str) -> str:
    """A folder's name made of other names: letters, digits, dots and dashes."""
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") or "x" for part in ("app", *parts))[:120]


def unused_name(name: str, jobs: Iterable[Job] = ()) -> str:
    """The name, or the name with the first number after it that no report has and none of the jobs will make: a report
    is never overwritten."""
    unique, count = name, 1
    taken = {job.name for job in jobs}
    while unique in taken or (REPORT_FOLDER / unique).exists():
        count += 1
        unique = f"{name}-{count}"
    return unique
