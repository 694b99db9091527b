"""`adapler predict`: texts from the command line, a file or standard input, classified and written row by row."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from adapler.bulk.job import Finished, Hello, Job
from adapler.bulk.progress import Progress
from adapler.bulk.reading import Shard, read_shards, source_of
from adapler.bulk.rows import Writer, write_parquet
from adapler.bulk.settings import PredictSettings
from adapler.bulk.state import state_of
from adapler.bulk.store import Entry, Store, errors_path
from adapler.data.texts import TextSource
from adapler.errors import ArgumentError, DataError, counted
from adapler.text import Encoding, choose_encoding, recorded_encoding

__all__ = ["Totals", "predict_file"]

SHOWN_ERRORS = 20  # bad rows that are named on the screen; all are in the side file
SCREEN_COLUMNS = ("label", "score", "speedup", "length", "lengths", "windows")


@dataclass(frozen=True)
class Totals:
    """What a run did.

    Attributes:
        rows: of the input.
        bad: of them without a prediction.
        tokens: wordpieces that were read.
        resumed: rows that an earlier run had done.
        speed: rows and tokens a second, as text.
    """

    rows: int
    bad: int
    tokens: int
    resumed: int
    speed: str


class Engine(Protocol):
    """Shards in, finished shards out, in the same order."""

    hello: Hello

    def results(self, shards: Iterator[Shard]) -> Iterator[Finished]: ...

    def close(self) -> None: ...


def predict_file(settings: PredictSettings) -> Totals:
    """Classify texts and write a file, or lines on the screen.

    Raises:
        DataError, ArgumentError, CheckpointError: a file, an option or a model that cannot be used.
        DataError: not one row can be classified, or a bad row under --strict.
        WorkerError: a process or a cluster has ended.
    """
    source = source_of(settings)
    run = _Run(settings, source)
    shards = read_shards(settings, source)
    first = next(shards)  # before the model is loaded: most mistakes show here
    run.refuse_bad(first)
    job = _job(settings, source)
    try:
        engine = _engine(job, settings)
        try:
            run.work(engine, job, chain([first], shards))
        finally:
            engine.close()
    finally:
        run.close()
    for note in () if settings.writing.quiet else (job.encoding.note, *engine.hello.notes, *run.notes()):
        print(f"note: {note}", file=sys.stderr)
    return run.totals()


def _job(settings: PredictSettings, source: TextSource | None) -> Job:
    output, keep = settings.writing.output, settings.files.keep
    types = {} if source is None else source.types
    encoding = choose_encoding(
        recorded_encoding(settings.model),
        max_length=settings.max_length,
        long_documents=settings.long_documents,
        stride=settings.stride,
    )
    return Job(
        model=settings.model,
        removal=settings.removal,
        threshold_scale=_threshold_scale(settings, encoding),
        encoding=encoding,
        device=settings.device,
        dtype=settings.dtype,
        format="screen" if output is None else output.suffix.lower().removeprefix("."),
        columns=SCREEN_COLUMNS if output is None else settings.writing.output_columns,
        keep=keep,
        types={name: kind for name, kind in types.items() if name in keep},
        id_type=types.get(settings.files.id_column or "id", "string"),
        numbered=source is not None,
    )


def _threshold_scale(settings: PredictSettings, encoding: Encoding) -> float:
    """The scale, settled once, before work begins: from here on it is a number, and it is in the state."""
    if not settings.target.given:
        return 1.0 if settings.threshold_scale is None else settings.threshold_scale
    from adapler.distributed import device
    from adapler.modeling import AdapLeRForSequenceClassification

    model = AdapLeRForSequenceClassification.from_pretrained(settings.model).to(device(settings.device))
    model = model.for_inference(dtype=settings.dtype)
    if settings.writing.quiet:
        return float(model.choose_scale(**settings.target.given).threshold_scale)
    return float(model.announce_scale(encoding=encoding, **settings.target.given))


def _engine(job: Job, settings: PredictSettings) -> Engine:
    work = settings.work
    threads = work.threads or default_threads(work.processes)
    if work.engine == "ray":
        from adapler.bulk.engines.on_ray import RayEngine

        if settings.files.input is None:
            raise ArgumentError("--engine: ray reads a file, give --input")
        return RayEngine(job, settings, actors=work.processes, threads=threads)
    if work.processes > 1:
        from adapler.bulk.engines.processes import ProcessEngine

        return ProcessEngine(job, processes=work.processes, threads=threads)
    from adapler.bulk.engines.local import LocalEngine

    return LocalEngine(job, threads=threads)


def default_threads(processes: int) -> int:
    """The cores that this process may use, or OMP_NUM_THREADS, divided by the number of processes; at least 1."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (int(asked) if asked.isdecimal() else there) // processes)


class _Run:
    """One run: what was done before it, what it does, and what is to be said at the end."""

    def __init__(self, settings: PredictSettings, source: TextSource | None) -> None:
        self.settings, self.source = settings, source
        self.strict = settings.files.strict or source is None
        self.progress = Progress(quiet=settings.writing.quiet)
        self.store: Store | None = None
        self.resumed = 0
        self.refused = False  # what an earlier run did, for this input
        self.shown: list[str] = []
        self.missing: tuple[str, ...] = ()
        self.unread = 0

    def refuse_bad(self, shard: Shard) -> None:
        """Raises DataError for a bad row, where none is allowed."""
        bad = next((row for row in shard.rows if row.error is not None), None)
        if self.strict and bad is not None:
            raise DataError(f"{self._where(bad.number)}: {bad.error}")

    def work(self, engine: Engine, job: Job, shards: Iterator[Shard]) -> None:
        """Classifies what is left, and makes the output."""
        output = self.settings.writing.output
        if output is not None:
            header = Writer(job, engine.hello.labels).header()
            restart = self.settings.writing.restart
            state = state_of(job, engine.hello, self.settings)
            self.store = Store(output, state=state, header=header, restart=restart)
        self.progress.restart_clock()
        left = self._skip_done(shards)
        for finished in engine.results(self._checked(left)):
            self._take(finished)
        if self.progress.bad == self.progress.rows:
            more = "" if self.progress.rows == 1 else f"; none of the {self.progress.rows} rows can be classified"
            if self.store is not None:
                self.store.discard()
            raise DataError(self.shown[0] + more)
        if self.store is not None:
            self.store.finish(write_parquet if job.format == "parquet" else None)

    def _skip_done(self, shards: Iterator[Shard]) -> Iterator[Shard]:
        """Passes over the shards that an earlier run did, once the input has the same rows there."""
        store = self.store
        if store is None or not store.entries:
            return shards
        for entry in store.entries:
            shard = next(shards, None)
            begin = self.progress.rows + 1
            if shard is None or shard.digest != entry.digest:
                self.refused = True
                what = "ends before" if shard is None else "differs in"
                raise ArgumentError(
                    f"--input: the input {what} rows {begin} to {begin + entry.rows - 1}, which "
                    f"{store.folder.name} was made from; --restart begins anew"
                )
            if self.strict and entry.bad:
                self.refused = True
                raise DataError(self._shown_before(store, 1)[0])
            self._count(entry, share_read=shard.share_read, own=False)
            self.missing = shard.missing
        self.resumed = self.progress.rows
        self.shown = self._shown_before(store, SHOWN_ERRORS) if self.progress.bad else []
        return shards

    def _shown_before(self, store: Store, most: int) -> list[str]:
        """The first rows without a prediction in what an earlier run did."""
        return [f"{self._where(row['row'])}: {row['error']}" for row in store.first_errors(most)]

    def _checked(self, shards: Iterator[Shard]) -> Iterator[Shard]:
        for shard in shards:
            self.refuse_bad(shard)
            yield shard

    def _take(self, finished: Finished) -> None:
        """Writes a shard, or shows it."""
        if finished.bad and (self.strict or len(self.shown) < SHOWN_ERRORS):
            rows = [json.loads(line) for line in finished.errors.splitlines()[:SHOWN_ERRORS]]
            messages = [f"{self._where(row['row'])}: {row['error']}" for row in rows]
            if self.strict:
                raise DataError(messages[0])
            self.shown = [*self.shown, *messages][:SHOWN_ERRORS]
        if self.store is not None:
            self.store.append(
                finished.output,
                finished.errors,
                digest=finished.digest,
                rows=finished.rows,
                bad=finished.bad,
                tokens=finished.tokens,
                unread=finished.unread,
            )
        else:
            sys.stdout.write(finished.output.decode())
        self.missing = finished.missing
        self._count(finished, share_read=finished.share_read, own=True)

    def _count(self, part: Finished | Entry, *, share_read: float | None, own: bool) -> None:
        self.progress.add(rows=part.rows, bad=part.bad, tokens=part.tokens, share_read=share_read, own=own)
        self.unread += part.unread

    def _where(self, number: int) -> str:
        return f"text {number}" if self.source is None else self.source.where(number)

    def close(self) -> None:
        """After an error: keeps what is done, if anything is, and says so."""
        self.progress.close()
        if self.store is None or not self.store.folder.exists():
            return
        if not self.store.entries:
            self.store.discard()
            return
        if not self.refused:  # then the same command would be refused again
            done = sum(entry.rows for entry in self.store.entries)
            so_far = f"{counted(done, 'row')} {'is' if done == 1 else 'are'} done"
            print(f"note: {so_far}; the same command goes on ({self.store.folder})", file=sys.stderr)
        self.store.close()

    def notes(self) -> Iterator[str]:
        if self.resumed:
            yield f"{counted(self.resumed, 'row')} {'was' if self.resumed == 1 else 'were'} done by an earlier run"
        if self.progress.bad:
            yield from self.shown
            output = self.settings.writing.output
            where = "" if output is None else f" (see `error` in the output, and {errors_path(output)})"
            have = "has" if self.progress.bad == 1 else "have"
            yield f"{self.progress.bad} of {self.progress.rows} rows {have} no prediction{where}"
        if self.unread:
            whose = "its label does" if self.unread == 1 else "their labels do"
            yield (
                f"of {self.unread} of {self.progress.rows} rows nothing but [CLS] entered the first layer: {whose} not "
                "depend on the text; a smaller --threshold-scale or --speedup keeps more"
            )
        for name in self.missing:
            yield f"column {name!r} is in no row"

    def totals(self) -> Totals:
        one = self.progress
        return Totals(one.rows, one.bad, one.tokens, self.resumed, one.speed())
