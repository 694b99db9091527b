"""One model, and the bytes that it makes of shards."""

from __future__ import annotations

from collections.abc import Callable

from adapler.bulk.classifier import Classifier
from adapler.bulk.job import Finished, Hello, Job
from adapler.bulk.reading import Shard
from adapler.bulk.rows import Writer, errors_of

__all__ = ["Worker"]


class Worker:
    """A loaded model."""

    def __init__(self, job: Job, *, threads: int, place: str | None = None) -> None:
        """Arguments and errors as of `Classifier`."""
        self._classifier = Classifier(job, threads=threads, place=place)
        one = self._classifier
        self.hello = Hello(one.labels, one.device, one.dtype, one.notes)
        self._writer = Writer(job, one.labels)

    def start(self, shard: Shard) -> Callable[[], Finished]:
        """Begins the work on a shard; calling what it returns waits for the end."""
        wait = self._classifier.start(shard.rows)

        def finish() -> Finished:
            rows, results = wait()
            return Finished(
                index=shard.index,
                digest=shard.digest,
                share_read=shard.share_read,
                missing=shard.missing,
                rows=len(rows),
                bad=sum(row.error is not None for row in rows),
                tokens=sum(results.length),
                unread=results.unread,
                output=self._writer.output(rows, results),
                errors=errors_of(rows),
            )

        return finish

    def close(self) -> None:
        """Ends the threads."""
        self._classifier.close()
