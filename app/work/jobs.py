"""An evaluation or a training that runs beside the page, with its progress and a way to stop it.

It is a process of its own: it takes no model away from the sessions, and stopping it leaves nothing half-written:
an evaluation writes its folder whole or not at all, and a training goes on from its last stage when started again.
One at a time on a server. A job belongs to the server and not to the session that started it: a page that is loaded
again finds it, and its place is free as soon as its process has ended, whether a session looks at it or not.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from threading import Lock

from adapler.data.minilm import packaged_minilm
from app.sources.loading import CHECKPOINTS, ROOT

REPORT_FOLDER = ROOT / "reports"
SAMPLE_MODEL = CHECKPOINTS / "sample"
SAMPLE_RECIPE = ROOT / "configs" / "sample" / "minilm-post-hoc.yaml"  # that of `make train-sample`
EVALUATION, TRAINING = "evaluation", "training"


class Job:
    """One run of a command; it ends with the server at the latest.

    kind: EVALUATION or TRAINING; name: of the report or the checkpoint that it makes.
    """

    def __init__(self, command: list[str], *, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self._started = time.monotonic()
        self._log = tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace", suffix=".log")
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log
        )
        self._end = weakref.finalize(self, _end, self._process)

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
        """Since it was started."""
        return time.monotonic() - self._started

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    @property
    def message(self) -> str:
        """The command's last line: after a failure, what went wrong."""
        lines = [line for line in re.split(r"[\r\n]+", self._tail()) if line.strip()]
        return lines[-1].removeprefix("error: ") if lines else "no message"

    def stop(self) -> None:
        self._end()

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


class Seat:
    """The server's place for one job. `running` asks the process itself, so an ended job never keeps it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._job: Job | None = None

    def running(self) -> Job | None:
        """The job that runs now, whichever session has started it."""
        job = self._job
        return job if job is not None and job.code is None else None

    def start(self, command: list[str], *, kind: str, name: str) -> Job | None:
        """A new job; None while another one runs."""
        with self._lock:
            if self.running() is not None:
                return None
            self._job = Job(command, kind=kind, name=name)
            return self._job


SEAT = Seat()  # a module is imported once on a server, whatever the page does


def running() -> Job | None:
    """The server's job while it runs."""
    return SEAT.running()


def evaluate(
    *,
    adapler: Path,
    checkpoint: str,
    data: Path,
    corpus: str,
    split: str,
    threshold_scale: float,
    limit: int | None,
) -> Job | None:
    """Evaluate the paper's methods into a new report. None while another job runs.

    adapler, data: folders, and the names that the menus give them: checkpoint, corpus.
    """
    parts = [checkpoint, corpus, split, f"scale {threshold_scale:g}", *([] if limit is None else [f"first {limit}"])]
    name = unused_name(report_name(*parts))
    command = [sys.executable, "-m", "app.work.evaluation", "--adapler", str(adapler), "--checkpoint", checkpoint]
    command += ["--data", str(data), "--corpus", corpus, "--split", split, "--threshold-scale", f"{threshold_scale:g}"]
    command += ["--output", str(REPORT_FOLDER / name)]
    return SEAT.start(command if limit is None else [*command, "--limit", str(limit)], kind=EVALUATION, name=name)


def train_sample() -> Job | None:
    """Train the packaged encoder on the embedded sample, into checkpoints/sample. None while another job runs.

    Raises:
        CheckpointError: the encoder is not installed.
    """
    if running() is not None:
        return None  # asked every second, and the encoder's checksum takes a third of one
    command = [sys.executable, "-m", "adapler", "run", "--config", str(SAMPLE_RECIPE)]
    command += ["--task", str(ROOT / "data" / "eraser" / "sample"), "--model", str(packaged_minilm())]
    command += ["--output", str(SAMPLE_MODEL)]
    return SEAT.start(command, kind=TRAINING, name=SAMPLE_MODEL.name)


def trained_stages() -> tuple[int, int]:
    """(finished, all) stages of `train_sample`: fine-tuning, saliency, AdapLeR with its evaluation."""
    finished = (SAMPLE_MODEL / "finetuned" / "run.json", SAMPLE_MODEL / "saliency" / "run.json")
    return sum(path.is_file() for path in finished), len(finished) + 1


def report_name(*parts: str) -> str:
    """A folder's name made of other names: letters, digits, dots and dashes."""
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") or "x" for part in ("app", *parts))[:120]


def unused_name(name: str) -> str:
    """The name, or the name with the first number after it that no report has: a report is never overwritten."""
    unique, count = name, 1
    while (REPORT_FOLDER / unique).exists():
        count += 1
        unique = f"{name}-{count}"
    return unique
