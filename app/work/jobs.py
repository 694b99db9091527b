"""An evaluation or a training that runs beside the page, with its progress and a way to stop it.

It is a process of its own: it takes no model away from the sessions, and stopping it leaves nothing half-written:
an evaluation writes its folder whole or not at all, and a training goes on from its last stage when started again.
One at a time on a server.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from adapler.data.minilm import packaged_minilm
from app.server import locks
from app.sources.loading import CHECKPOINTS, ROOT

REPORT_FOLDER = ROOT / "reports"
SAMPLE_MODEL = CHECKPOINTS / "sample"
# As `make train-sample`: the whole pipeline, one and a half minutes on 2 cores.
SAMPLE_OPTIONS = (
    "--epochs 3 --finetune-epochs 8 --batch-size 8 --learning-rate 5e-5 --freeze-backbone "
    "--predictor-learning-rate 5e-3 --eta-learning-rate 1e-2 --gamma 0.2 --phi 1e-3"
)


class Job:
    """One run of a command; it ends with the session that started it."""

    def __init__(self, command: list[str], *, name: str, release: Callable[[], None]) -> None:
        self.name = name
        self._log = tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace", suffix=".log")
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log
        )
        self._end = weakref.finalize(self, _end, self._process, release)

    @property
    def progress(self) -> float:
        """From 0 to 1, as far as the command's bars tell."""
        found = re.findall(r"(\d+)%\|", self._tail())
        return int(found[-1]) / 100 if found else 0.0

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._end()
        return code

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


def _end(process: subprocess.Popen[bytes], release: Callable[[], None]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    release()


def evaluate(*, adapler: Path, data: Path, split: str, limit: int | None, name: str) -> Job | None:
    """Evaluate the paper's methods; the report becomes reports/`name`. None while another job runs."""
    command = [sys.executable, "-m", "analysis.rationale_eval", "--adapler", str(adapler), "--data", str(data)]
    command += ["--split", split, "--output", str(REPORT_FOLDER / name)]
    return _start(command if limit is None else [*command, "--limit", str(limit)], name=name)


def train_sample() -> Job | None:
    """Train the packaged encoder on the embedded sample, into checkpoints/sample. None while another job runs.

    Raises:
        CheckpointError: the encoder is not installed.
    """
    if locks.working().locked():
        return None  # asked every second, and the encoder's checksum takes a third of one
    command = [sys.executable, "-m", "adapler", "run", "--task", str(ROOT / "data" / "eraser" / "sample")]
    command += ["--model", str(packaged_minilm()), "--output", str(SAMPLE_MODEL), *SAMPLE_OPTIONS.split()]
    return _start(command, name=SAMPLE_MODEL.name)


def trained_stages() -> tuple[int, int]:
    """(finished, all) stages of `train_sample`: fine-tuning, saliency, AdapLeR with its evaluation."""
    finished = (SAMPLE_MODEL / "finetuned" / "run.json", SAMPLE_MODEL / "saliency" / "state.json")
    return sum(path.is_file() for path in finished), len(finished) + 1


def _start(command: list[str], *, name: str) -> Job | None:
    lock = locks.working()
    if not lock.acquire(blocking=False):
        return None
    try:
        return Job(command, name=name, release=lock.release)
    except OSError:
        lock.release()
        raise


def report_name(*parts: str) -> str:
    """A folder's name made of other names: letters, digits, dots and dashes."""
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") or "x" for part in ("app", *parts))[:120]
