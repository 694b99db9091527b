"""The rows of a split as a `datasets` table: few rows in memory, many in a file that is mapped into memory.

Rows are taken one by one and become Arrow in batches, so a split of any size is never a list of Python objects.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, List, Value
from numpy.typing import NDArray

from adapler.data.tasks.scratch import IN_MEMORY_ROWS, scratch_file

__all__ = ["BATCH", "batches_of", "features_of", "labels_of", "split_rows", "with_column", "write_rows"]

BATCH = 1000  # rows that are Python objects at a time


def features_of(columns: tuple[str, ...], labels: Sequence[str]) -> Features:
    """The types of a task's columns: `id`, the text columns, and `label`."""
    texts = {column: List(Value("string")) if column == "words" else Value("string") for column in columns}
    return Features({"id": Value("string"), **texts, "label": ClassLabel(names=list(labels))})


def write_rows(rows: Iterable[Mapping[str, Any]], features: Features) -> Dataset:
    """A table of checked rows; of more than IN_MEMORY_ROWS it lies on disk until this process ends.

    Args:
        rows: a value for each feature, labels as numbers. What the iterable raises is passed on, and nothing is left.
        features: names and types.
    """
    rows, schema = iter(rows), features.arrow_schema

    def batches() -> Iterator[Any]:
        while some := list(islice(rows, BATCH)):
            yield pa.RecordBatch.from_pylist(some, schema=schema)

    return _stored(batches(), schema)


def split_rows(rows: Dataset, chosen: NDArray[np.bool_]) -> tuple[Dataset, Dataset]:
    """The rows that are not chosen and those that are, in their order, as tables of their own.

    Args:
        rows: from `write_rows`.
        chosen: (rows,).
    """

    def part(kept: NDArray[np.bool_]) -> Iterator[Any]:
        begin = 0
        for batch in batches_of(rows):
            yield batch.filter(pa.array(kept[begin : begin + batch.num_rows]))
            begin += batch.num_rows

    schema = rows.features.arrow_schema
    return _stored(part(~chosen), schema), _stored(part(chosen), schema)


def batches_of(rows: Dataset, *columns: str) -> Iterator[Any]:
    """The rows of a table in record batches of at most BATCH, with all columns or some; nothing is copied."""
    table = rows.data.table
    yield from (table.select(list(columns)) if columns else table).to_batches(max_chunksize=BATCH)


def labels_of(rows: Dataset) -> NDArray[np.int64]:
    """(rows,) the labels as numbers."""
    found: NDArray[np.int64] = rows.data.table.column("label").to_numpy()
    return found


def with_column(rows: Dataset, name: str, values: Sequence[Any], *, kind: Any) -> Dataset:
    """The same rows with one column replaced; the others are neither read nor copied, and no cache file is written."""
    # A given fingerprint spares `datasets` a checksum of all values.
    kept = rows.remove_columns(name)
    changed: Dataset = kept.add_column(name, list(values), new_fingerprint=uuid.uuid4().hex, feature=kind)
    return changed


def _stored(batches: Iterator[Any], schema: Any) -> Dataset:
    held: list[Any] = []
    total = 0
    for batch in batches:
        held.append(batch)
        total += batch.num_rows
        if total > IN_MEMORY_ROWS:
            break
    else:
        table = pa.Table.from_batches(held, schema=schema).combine_chunks()
        return Dataset(table, fingerprint=uuid.uuid4().hex)
    path = scratch_file()
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for batch in chain(held, batches):
                writer.write_batch(batch)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Dataset.from_file(str(path))
