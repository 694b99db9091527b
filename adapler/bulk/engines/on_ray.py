"""The work on a Ray cluster, with Ray Data: one task reads shards, a pool of actors classifies them.

A shard is one row of the Ray dataset, in a block of its own. So its bounds, and with them every digit of the output,
are those of the other engines. Ray hands the blocks on as the actors need them, so memory does not grow with the input.
The input is read on the node that starts the command. Every node must have the model under the name that was given.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from adapler.bulk.job import Finished, Hello, Job
from adapler.bulk.reading import Shard, packed, read_shards, source_of, unpacked
from adapler.bulk.settings import PredictSettings
from adapler.errors import AdapLeRError, ArgumentError, WorkerError

__all__ = ["RayEngine"]

_SHARD = pa.schema(
    [("index", pa.int64()), ("rows", pa.string()), ("digest", pa.string()), ("share_read", pa.float64()),
     ("missing", pa.list_(pa.string()))]
)  # fmt: skip


class RayEngine:
    """A pool of actors, each with its own model.

    Attributes:
        hello: what a first actor said; the pool starts with the work.
    """

    def __init__(self, job: Job, settings: PredictSettings, *, actors: int, threads: int) -> None:
        """Connect to the cluster in RAY_ADDRESS, or start one on this machine, and try the model there.

        Raises:
            ArgumentError: Ray is not installed.
            AdapLeRError: as of `Classifier`; a cluster that has no room.
        """
        self._ray = _imported()
        self._job, self._settings, self._actors, self._threads = job, settings, actors, threads
        self._mine = not self._ray.is_initialized()
        if self._mine:
            own: dict[str, Any] = {"address": "local", "num_cpus": actors * threads + 1, "include_dashboard": False}
            where = {} if "RAY_ADDRESS" in os.environ else own
            self._ray.init(logging_level=logging.ERROR, log_to_driver=False, **where)
        gpu = job.device != "cpu" and self._ray.cluster_resources().get("GPU", 0) >= 1
        self._needs: dict[str, Any] = {"num_cpus": threads, "num_gpus": 1 if gpu else 0}
        hello = self._ray.remote(**self._needs)(_hello)
        try:
            self.hello: Hello = self._call(lambda: self._ray.get(hello.remote(job)))
        except BaseException:
            self.close()
            raise

    def results(self, shards: Iterator[Shard]) -> Iterator[Finished]:
        """The finished shards in the order of the input.

        Args:
            shards: those that are left. Only the first is taken from it: the reading task skips as many.
        """
        first = next(shards, None)
        if first is None:
            return
        from ray.data import ActorPoolStrategy, DataContext, read_datasource

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        before = (context.target_max_block_size, context.execution_options.preserve_order, context.enable_progress_bars)
        context.target_max_block_size, context.execution_options.preserve_order = 1, True  # one shard in a block
        context.enable_progress_bars = False
        try:
            here = {"ray.io/node-id": self._ray.get_runtime_context().get_node_id()}
            data = read_datasource(
                _datasource(self._settings, skip=first.index),
                num_cpus=0.5,  # unlike the actors' share, so that Ray does not put reading and computing into one task
                label_selector=here,
                override_num_blocks=1,
            ).map_batches(
                _Actor,
                batch_size=1,
                compute=ActorPoolStrategy(size=self._actors),
                fn_constructor_kwargs={"job": self._job, "threads": self._threads},
                **self._needs,
            )
            rows = iter(data.iter_rows())
            while True:
                row = self._call(lambda: next(rows, None))
                if row is None:
                    return
                yield Finished(**{**row, "missing": tuple(row["missing"])})
        finally:
            context.target_max_block_size, context.execution_options.preserve_order = before[:2]
            context.enable_progress_bars = before[2]

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        if self._mine:
            self._ray.shutdown()

    def _call(self, work: Any) -> Any:
        """What a task raised for a user's mistake is raised here as what it is."""
        try:
            return work()
        except self._ray.exceptions.RayError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, AdapLeRError):
                cause = getattr(cause, "cause", None) or cause.__cause__
            if cause is not None:
                raise AdapLeRError(str(getattr(cause, "cause", None) or cause.args[0])) from error
            first = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise WorkerError(f"--engine ray: {type(error).__name__}: {first:.300}") from error


def _imported() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # tasks without a GPU leave the choice alone
    # Ray tells of what it would do otherwise, such as restart actors; what goes wrong comes as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    warnings.filterwarnings("ignore", module=r"ray\.data")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ArgumentError(f"--engine: ray needs the extra `ray` (pip install 'adapler[ray]'): {error}") from error
    return ray


def _hello(job: Job) -> Hello:
    from adapler.bulk.engines.worker import Worker

    worker = Worker(job, threads=1)
    worker.close()
    return worker.hello


class _Actor:
    """One model; a batch of Ray Data is one shard."""

    def __init__(self, *, job: Job, threads: int) -> None:
        from adapler.bulk.engines.worker import Worker

        self._worker = Worker(job, threads=threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shard = Shard(
            index=int(batch["index"][0]),
            rows=unpacked(str(batch["rows"][0])),
            digest=str(batch["digest"][0]),
            share_read=None if batch["share_read"][0] is None else float(batch["share_read"][0]),
            missing=tuple(map(str, batch["missing"][0])),
        )
        finished = asdict(self._worker.start(shard)())
        return pa.table({name: [list(v) if isinstance(v, tuple) else v] for name, v in finished.items()})  # type: ignore[no-any-return]


def _datasource(settings: PredictSettings, *, skip: int) -> Any:
    """A Ray Data source of the shards from number `skip` on."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def tables() -> Iterable[Any]:
        for shard in read_shards(settings, source_of(settings)):
            if shard.index >= skip:
                values = (shard.index, packed(shard.rows), shard.digest, shard.share_read, list(shard.missing))
                columns = [pa.array([value], type=f.type) for value, f in zip(values, _SHARD, strict=True)]
                yield pa.Table.from_arrays(columns, schema=_SHARD)

    class Shards(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int | None:
            path = settings.files.input
            return None if path is None else Path(path).stat().st_size

        def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[Any]:
            return [ReadTask(tables, BlockMetadata(None, self.estimate_inmemory_data_size(), None, None))]

    return Shards()
