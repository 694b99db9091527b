"""The work in several processes of this machine.

This process reads, hands out shards, and gets the results back in any order; it loads the model only to settle a budget
before that. Each worker has one pipe. A worker whose pipe closes ends at once, so nothing is left when this process is
killed.

On Linux the workers are forked from one process that has imported PyTorch and transformers and nothing else: they share
that memory (300 MB), and import nothing again. It has no threads and no model, and has not touched a GPU, so it can be
forked. It ends with this process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from adapler import errors
from adapler.bulk.job import Finished, Hello, Job
from adapler.bulk.reading import Shard
from adapler.errors import AdapLeRError, WorkerError

__all__ = ["ProcessEngine"]

_EACH = 2  # shards that a worker has: one in work, one that it finds when that is done
_AHEAD = 4  # shards for each worker that may wait for an earlier one


@contextmanager
def _without_script() -> Iterator[None]:
    """A new process runs the script of its parent again, before anything else. A worker needs nothing of it, and a
    script without `if __name__ == "__main__"` would start over in each. Nor does it hear Ctrl-C while it imports."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context() -> Any:
    """How processes start. Other systems cannot fork safely, or not at all."""
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["adapler.bulk.engines.preload"])
    return context


class ProcessEngine:
    """Several processes, each with its own model.

    Attributes:
        hello: what the first one said.
    """

    def __init__(self, job: Job, *, processes: int, threads: int) -> None:
        """Start the workers and wait until each has its model.

        Raises:
            AdapLeRError: as of `Classifier`; a worker that died.
        """
        context = _context()
        self._workers: list[Any] = []
        self._pipes: list[Connection] = []
        try:
            for number in range(processes):
                mine, theirs = context.Pipe()
                worker = context.Process(target=_serve, args=(theirs, job, threads, number), daemon=True)
                with _without_script():
                    worker.start()
                theirs.close()
                self._workers.append(worker)
                self._pipes.append(mine)
            hellos: list[Hello] = [self._receive(number) for number in range(processes)]
        except BaseException:
            self.close()
            raise
        self.hello = hellos[0]

    def results(self, shards: Iterator[Shard]) -> Iterator[Finished]:
        """The finished shards in the order of the input."""
        working = [0] * len(self._pipes)
        held: dict[int, Finished] = {}
        following: int | None = None  # the shard that is to come out next
        more, out = True, 0
        while more or any(working) or held:
            while more and min(working) < _EACH and out < _AHEAD * len(self._pipes):
                shard = next(shards, None)
                if shard is None:
                    more = False
                    break
                following = shard.index if following is None else following
                number = working.index(min(working))
                self._send(number, shard)
                working[number] += 1
                out += 1
            if any(working):
                ready = wait([pipe for pipe, busy in zip(self._pipes, working, strict=True) if busy])
                for number, pipe in enumerate(self._pipes):
                    if pipe in ready:
                        finished = self._receive(number)
                        held[finished.index] = finished
                        working[number] -= 1
            while following in held:
                yield held.pop(following)
                following, out = following + 1, out - 1

    def close(self) -> None:
        """Ends the workers, whatever they are doing: a closed pipe tells them."""
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            worker.join(5)
            if worker.is_alive():
                worker.kill()
                worker.join()

    def _send(self, number: int, shard: Shard) -> None:
        try:
            self._pipes[number].send(shard)
        except OSError as error:
            raise self._dead(number) from error

    def _receive(self, number: int) -> Any:
        try:
            kind, value = self._pipes[number].recv()
        except (EOFError, OSError) as error:
            raise self._dead(number) from error
        if kind == "error":
            name, message = value
            raise getattr(errors, name, AdapLeRError)(message)
        return value

    def _dead(self, number: int) -> WorkerError:
        worker = self._workers[number]
        worker.join(5)
        code = worker.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        why = "; the machine may be out of memory, fewer --processes need less" if how == "signal SIGKILL" else ""
        return WorkerError(f"process {number + 1} of {len(self._workers)} ended ({how}){why}")


def _serve(pipe: Connection, job: Job, threads: int, number: int) -> None:
    """What a worker does: load the model, then one shard after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the main process ends the others
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    shards: SimpleQueue[Shard] = SimpleQueue()
    threading.Thread(target=_receive_into, args=(pipe, shards), daemon=True).start()
    try:
        from adapler.bulk.engines.worker import Worker

        worker = Worker(job, threads=threads, place=_place(job.device, number))
        pipe.send(("hello", worker.hello))
        while True:
            pipe.send(("finished", worker.start(shards.get())()))
    except AdapLeRError as error:
        pipe.send(("error", (type(error).__name__, str(error))))
    except OSError:
        pass  # nobody is there any more to take what is done


def _receive_into(pipe: Connection, shards: SimpleQueue[Shard]) -> None:
    """Takes shards out of the pipe while the model works, so that sending never blocks; ends with the main process."""
    try:
        while True:
            shards.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)


def _place(device: str, number: int) -> str | None:
    """With several GPUs, and none chosen, each worker has its own."""
    if device not in ("auto", "cuda"):
        return None
    import torch

    there = torch.cuda.device_count()
    return f"cuda:{number % there}" if there else None
