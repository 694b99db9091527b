"""Runs jobs: a training and a measurement in processes of their own, as many at once as asked for.

Nothing is half-written: trainings go on where they were stopped, a measurement's result is one file, and only this
process writes to the output folder. Jobs of one run folder never run at once. The processes that a job starts hold a
lock on the folder of all runs, so that a second benchmark cannot start beside one that goes on after its parent died.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapler.errors import AdapLeRError, ArgumentError, CheckpointError
from adapler.training.records import read_json, write_record
from benchmarks.tradeoff import systems
from benchmarks.tradeoff.plan import Job, Settings, epochs_of
from benchmarks.tradeoff.records import Key, collect
from benchmarks.tradeoff.systems import FINETUNED, POINTS, point_folder, read_system_recipe, run_folder, system_of

_REMOVED = ".removed"  # ends the name of a folder that is being removed
_TERMINATE_WAIT = 20  # seconds that a process gets to end by itself


@contextmanager
def locked(runs: Path) -> Iterator[int]:
    """A lock on the folder of all runs; yields its file descriptor, which children inherit.

    Raises:
        ArgumentError: it cannot be written, or another benchmark, or what one left running, has it.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        handle = os.open(runs / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ArgumentError(f"--runs: {runs} is in use by another benchmark, or by a run that one left") from error
    except OSError as error:
        raise ArgumentError(f"--runs: {runs} cannot be a folder to write in ({error.strerror})") from error
    try:
        yield handle
    finally:
        os.close(handle)


@dataclass
class Children:
    """The processes that run now; after `stop` none is started any more."""

    lock: int
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    stopped: bool = False
    guard: threading.Lock = field(default_factory=threading.Lock)

    def call(self, words: Sequence[str], *, log: Path) -> int:
        """Run a command to its end, its output appended to a file; returns its exit code."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        with log.open("ab") as stream:
            stream.write(f"$ {' '.join(words)}\n".encode())
            stream.flush()
            with self.guard:
                if self.stopped:
                    return -signal.SIGTERM
                # A session of its own: Ctrl-C reaches this process only, which then ends its children itself.
                child = subprocess.Popen(
                    words,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=(self.lock,),
                    start_new_session=True,
                )
                self.running.add(child)
        try:
            return child.wait()
        finally:
            self.running.discard(child)

    def stop(self) -> None:
        """End all children; they may go on later where they were."""
        with self.guard:
            self.stopped = True
        for child in list(self.running):
            child.terminate()
        deadline = time.monotonic() + _TERMINATE_WAIT
        for child in list(self.running):
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


def training_command(job: Job, settings: Settings, *, budget: float | None) -> list[str]:
    """`adapler run` or `adapler finetune` for one of a job's points."""
    system = job.system
    folder = run_folder(job.folder, system)
    words = [
        sys.executable,
        "-m",
        "adapler",
        system.command,
        "--config",
        str(job.recipe.path),
        "--task",
        job.facts.data,
    ]
    words += ["--model", settings.backbone, "--seed", str(job.seed)]
    words += ["--output", str(folder / FINETUNED if system.name == FINETUNED else folder)]
    if system.command == "finetune":
        words.append("--resume")
    if system.policy is not None:
        words += ["--policy", system.policy]
    if budget is not None:
        words += [f"--{str(system.budget).replace('_', '-')}", repr(budget)]
    if settings.limit is not None:
        words += ["--limit", str(settings.limit)]
    if settings.epochs is not None:
        if system.command == "run":
            words += ["--finetune-epochs", str(settings.epochs)]
        if system.policy is None:
            words += ["--epochs", str(settings.epochs)]
        else:
            stages = epochs_of(job.task, system, job.recipe, asked=1)
            words += ["--policy-epochs", *[str(settings.epochs)] * stages]
    return words


def description(job: Job, settings: Settings, *, budget: float | None) -> dict[str, object]:
    """What `benchmarks.tradeoff.measure` reads."""
    return {
        "backbone": settings.name,
        "task": job.task,
        "system": job.system.name,
        "seed": job.seed,
        "budget": budget,
        "folder": str(job.folder),
        "data": job.facts.data,
        "coverage": job.facts.coverage,
        "epoch_flops": job.facts.flops["train"],
        "recipe": dict(job.recipe.options),
        "changes": settings.changes,
        "max_drop": settings.max_drop,
        "timed": settings.timed,
        "timed_single": settings.timed_single,
        "rounds": settings.rounds,
        "jobs": settings.jobs,
    }


def work_on(job: Job, settings: Settings, children: Children, take: Callable[[Path], None]) -> None:
    """Train and measure a job's points, one after the other; `take` gets the file of each that is measured.

    A point that fails ends no other.

    Raises:
        _Failed: commands ended with an error; it says in which points, and the last line of the log.
    """
    log, file = job.folder / f"{job.system.name}.log", systems.job_file(job.folder, job.system)
    file.parent.mkdir(parents=True, exist_ok=True)
    if job.system.variant:
        _share_classifier(job, settings, children, log)
    if job.system.is_family:
        systems.share_targets(job.folder, job.system, job.recipe)
    failed = []
    for budget in job.budgets:
        write_record(file, description(job, settings, budget=budget))
        measure = [sys.executable, "-m", "benchmarks.tradeoff.measure", str(file)]
        key = Key(settings.name, job.task, job.system.name, job.seed, budget)
        for words in (training_command(job, settings, budget=budget), measure):
            if children.call(words, log=log):
                failed.append(f"{key.name}: {_last_line(log)}")
                break
        else:
            take(file.with_name(f"{key.name}.point.json"))
            if settings.delete_weights and job.system.name != FINETUNED:
                _remove(point_folder(job.folder, job.system, budget))
    if failed:
        raise _Failed(f"{job.task}, {'; '.join(failed)} (see {log})")


class _Failed(AdapLeRError):
    """A job's command ended with an error."""


def _share_classifier(job: Job, settings: Settings, children: Children, log: Path) -> None:
    """A variant has a folder of its own, with a link to the fine-tuned classifier of all systems."""
    shared = job.folder / FINETUNED
    if not (shared / "run.json").is_file():
        system = system_of(FINETUNED)
        recipe = read_system_recipe(settings.configs, job.task, system)
        first = Job(job.task, system, job.seed, (None,), recipe, job.facts, job.folder, 0.0, job.source)
        if children.call(training_command(first, settings, budget=None), log=log):
            raise _Failed(f"{job.title}: {_last_line(log)} (see {log})")
    own = run_folder(job.folder, job.system) / FINETUNED
    own.parent.mkdir(parents=True, exist_ok=True)
    if not own.is_symlink():
        own.symlink_to(shared.resolve(), target_is_directory=True)


def _last_line(log: Path) -> str:
    said = f"\n{log.read_text(encoding='utf-8', errors='replace')}".rpartition("\n$ ")[2]  # by the last command
    lines = [line.strip() for line in said.splitlines()[1:] if line.strip()]  # without its words
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["no output"])[-1][:300]


def leftovers(settings: Settings) -> dict[Path, dict[str, Any]]:
    """What was measured before a benchmark was killed: file -> point. Test need not be read a second time.

    What a quick run (`--limit`, `--epochs`) measured stays with quick runs, and what was chosen with another
    `--max-drop` with those: in this output it would be in the way.
    """
    files = sorted(settings.runs.glob(f"{settings.name}/*/seed-*/{POINTS}/*.point.json"))
    points = {path: read_json(path) for path in files}
    wanted = (settings.changes, settings.max_drop)
    return {path: one for path, one in points.items() if (one.get("changes"), one.get("max_drop")) == wanted}


def remove_weights(settings: Settings, records: Iterable[Mapping[str, Any]]) -> int:
    """Remove what a benchmark with `delete_weights` left that was killed after a record; returns the number of points.

    Of the tasks, systems and seeds that were asked for.
    """
    number = 0
    for path in (settings.runs / settings.name).rglob(f".*{_REMOVED}"):
        shutil.rmtree(path)
    for record in records:
        key = Key.of(record)
        asked = key.task in settings.tasks and key.system in settings.systems and key.seed in settings.seeds
        if not asked or key.backbone != settings.name or key.system == FINETUNED:
            continue
        run = settings.runs / key.backbone / key.task / f"seed-{key.seed}"
        try:
            folder = point_folder(run, system_of(key.system), key.budget)
        except CheckpointError:  # it is gone, as it should be
            continue
        _remove(folder)
        number += 1
    return number


def _remove(folder: Path) -> None:
    """Remove a folder, which is whole or has another name: half of a point would be taken for one, or for none."""
    gone = folder.with_name(f".{folder.name}{_REMOVED}")
    folder.rename(gone)
    shutil.rmtree(gone)


def work(jobs: Sequence[Job], settings: Settings, *, lock: int, say: Callable[[str], None] = print) -> list[str]:
    """Run all jobs, in their order as far as run folders are free; returns what failed, a line each.

    `lock` is what `locked` gave. A job that fails ends no other. When this process is interrupted or terminated, its
    children are, too.
    """
    failed: list[str] = []
    waiting, started = list(jobs), time.monotonic()
    done_minutes = spent_minutes = 0.0
    children, writing = Children(lock), threading.Lock()

    def take(path: Path) -> None:
        with writing:  # two points of a task go into one file
            collect(settings.output, path)
            path.unlink()

    with ThreadPoolExecutor(settings.jobs) as pool:
        running: dict[Future[None], tuple[Job, float]] = {}
        try:
            while waiting or running:
                busy = {job.folder for job, _ in running.values()}
                for job in list(waiting):
                    if len(running) < settings.jobs and job.folder not in busy:
                        waiting.remove(job)
                        busy.add(job.folder)
                        say(
                            f"[{len(jobs) - len(waiting)}/{len(jobs)}] {job.title}, {job.points}: {job.minutes:.0f} min"
                        )
                        running[pool.submit(work_on, job, settings, children, take)] = (job, time.monotonic())
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    job, since = running.pop(future)
                    took = (time.monotonic() - since) / 60
                    try:
                        future.result()
                    except AdapLeRError as error:
                        failed.append(str(error))
                        say(f"failed: {error}")
                    else:
                        done_minutes, spent_minutes = done_minutes + job.minutes, spent_minutes + took
                        # What is left, by how far the plan was off so far.
                        rest = [*waiting, *(other for other, _ in running.values())]
                        factor = spent_minutes / done_minutes if done_minutes else 1.0
                        left = sum(other.minutes for other in rest) * factor / settings.jobs
                        say(
                            f"done: {job.title}, {took:.1f} min (planned {job.minutes:.1f}); {len(rest)} runs left, "
                            f"{left / 60:.1f} h"
                        )
        except BaseException:
            children.stop()
            raise
    say(f"{len(jobs) - len(failed)} of {len(jobs)} runs done in {(time.monotonic() - started) / 3600:.2f} h")
    return failed
