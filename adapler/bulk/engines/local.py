"""The work in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from adapler.bulk.engines.worker import Worker
from adapler.bulk.job import Finished, Hello, Job
from adapler.bulk.reading import Shard

__all__ = ["LocalEngine"]


class LocalEngine:
    """One model in this process."""

    def __init__(self, job: Job, *, threads: int) -> None:
        """Arguments and errors as of `Classifier`."""
        self._worker = Worker(job, threads=threads)
        self.hello: Hello = self._worker.hello

    def results(self, shards: Iterator[Shard]) -> Iterator[Finished]:
        """The finished shards. Two are in work, so that the threads have something to do while one ends."""
        waiting: deque[Callable[[], Finished]] = deque()
        for shard in shards:
            waiting.append(self._worker.start(shard))
            if len(waiting) == 2:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()

    def close(self) -> None:
        """Ends the threads."""
        self._worker.close()
