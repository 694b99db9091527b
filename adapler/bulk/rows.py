"""The bytes of the output: what a row of the input, and what the model says of it, look like in each format.

    jsonl      an object a line
    csv        a column a value; probabilities in a column for each label, lists and mappings as JSON
    parquet    columns as in csv, lists as lists; on the way an Arrow stream, which becomes the file at the end
    screen     a line for people

The columns, and in Parquet their types, depend on the options and the model alone, never on the rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapler.bulk.job import Job
from adapler.data.texts import TextRow
from adapler.errors import ArgumentError

if TYPE_CHECKING:
    from adapler.bulk.classifier import Results

__all__ = ["FIELDS", "Writer", "errors_of", "write_parquet"]

# Fields of the output. A column that is kept and has one of these names, or that of a label's probability, gets
# `input_` before it.
FIELDS = ("row", "id", "label", "score", "probabilities", "speedup", "length", "lengths", "windows", "tokens", "layers",
          "error")  # fmt: skip

_NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "bool")
_INFINITIES = (float("inf"), float("-inf"))
_ROW_GROUP = 1 << 16  # rows
_RESULTS = {
    "label": "string", "score": "double", "speedup": "double", "length": "int32", "windows": "int32",
    "lengths": "list<int32>", "tokens": "list<string>", "layers": "list<int32>",
}  # fmt: skip


def errors_of(shard: Sequence[TextRow]) -> bytes:
    """The bad rows of a shard for the side file: number, id, reason, and what the file holds."""
    bad = ({"row": row.number, "id": row.id, "error": row.error, "raw": row.raw} for row in shard if row.error)
    return "".join(map(_json_line, bad)).encode()


class Writer:
    """Makes the bytes of shards.

    Raises:
        ArgumentError: two kept columns would have one name in the output.
    """

    def __init__(self, job: Job, labels: Sequence[str]) -> None:
        self.job, self.labels = job, labels
        ours = (*FIELDS, *map(_probability, labels))
        self.kept = {name: f"input_{name}" if name in ours else name for name in job.keep}
        sources: dict[str, str] = {}
        for name, column in self.kept.items():
            if column in sources:
                raise ArgumentError(
                    f"--keep: {sources[column]!r} and {name!r} would both be called {column!r} in the output, keep one "
                    "of them or rename it in the input"
                )
            sources[column] = name

    def header(self) -> bytes:
        """What stands before the first row."""
        if self.job.format == "csv":
            return self._csv([self._flat_names()])
        return bytes(self._schema().serialize()) if self.job.format == "parquet" else b""

    def output(self, shard: Sequence[TextRow], results: Results) -> bytes:
        """The rows of a shard."""
        found = dict(zip(results.places, self._found(results), strict=True))
        rows = [self._row(row, found.get(place)) for place, row in enumerate(shard)]
        if self.job.format == "jsonl":
            return "".join(map(_json_line, rows)).encode()
        if self.job.format == "csv":
            names = self._flat_names()
            return self._csv([[_cell(row.get(name)) for name in names] for row in map(self._flat, rows)])
        if self.job.format == "parquet":
            return self._arrow(list(map(self._flat, rows)))
        return "".join(self._line(row) + "\n" for row in rows).encode()

    def _found(self, results: Results) -> Iterator[dict[str, Any]]:
        """The asked columns of each good row."""
        wanted = self.job.columns
        for number, probabilities in enumerate(results.probabilities):
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            values = {
                "label": self.labels[best],
                "score": probabilities[best],
                "probabilities": dict(zip(self.labels, probabilities, strict=True)),
                "speedup": results.speedup[number],
                "length": results.length[number],
                "lengths": results.lengths[number],
                "windows": results.windows[number],
                "tokens": results.tokens and results.tokens[number],
                "layers": results.layers and results.layers[number],
            }
            yield {name: values[name] for name in wanted}

    def _row(self, row: TextRow, found: dict[str, Any] | None) -> dict[str, Any]:
        kept = {self.kept[name]: value for name, value in row.kept.items()}
        found = found or dict.fromkeys(self.job.columns)
        # A row that could not be read has no kept columns; the output has them all the same.
        kept = kept or dict.fromkeys(self.kept.values())
        return {"row": row.number, "id": row.id, **kept, **found, "error": row.error}

    def _flat_names(self) -> list[str]:
        names = ["row", "id", *self.kept.values()]
        for name in self.job.columns:
            names += map(_probability, self.labels) if name == "probabilities" else [name]
        return [*names, "error"]

    def _flat(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, **{_probability(name): value for name, value in (row.get("probabilities") or {}).items()}}

    def _csv(self, rows: list[list[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()

    def _schema(self) -> Any:
        import pyarrow as pa

        types = {"row": "int64", "error": "string", **_RESULTS}
        types |= dict.fromkeys(map(_probability, self.labels), "double")
        own = {"id": self.job.id_type, **{column: self.job.types.get(name) for name, column in self.kept.items()}}
        types |= {column: kind if kind in _NUMBERS else "string" for column, kind in own.items()}
        lists = {"list<int32>": pa.list_(pa.int32()), "list<string>": pa.list_(pa.string())}
        return pa.schema(
            [(name, lists.get(types[name]) or pa.type_for_alias(types[name])) for name in self._flat_names()]
        )

    def _arrow(self, rows: list[dict[str, Any]]) -> bytes:
        import pyarrow as pa

        schema = self._schema()
        columns = []
        for field in schema:
            values = [row.get(field.name) for row in rows]
            if field.type == pa.string():
                values = [value if value is None or isinstance(value, str) else _cell(value) for value in values]
                values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
            columns.append(pa.array(values, type=field.type))
        return bytes(pa.record_batch(columns, schema=schema).serialize())

    def _line(self, row: dict[str, Any]) -> str:
        begin = ""
        if self.job.numbered:
            begin = f"{row['row']}\t" + ("" if row["id"] is None else f"{row['id']}\t")
        if row["error"] is not None:
            return f"{begin}-\t{row['error']}"
        before = f"{row['windows']} windows" if self.job.encoding.long_documents == "windows" else row["length"]
        lengths = " ".join(map(str, row["lengths"]))
        return f"{begin}{row['label']}\t{row['score']:.4f}\t{row['speedup']:.2f}x\t{before} -> {lengths}"


def _json_line(row: dict[str, Any]) -> str:
    """A row as JSON, which has no infinities: they become null."""
    finite = {name: None if value in _INFINITIES else value for name, value in row.items()}
    return json.dumps(finite, ensure_ascii=False) + "\n"


def _probability(label: str) -> str:
    """The column of a label's probability."""
    return f"probability_{label}"


def _cell(value: Any) -> Any:
    """A value for CSV: lists and mappings as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def write_parquet(stream: Path, path: Path) -> None:
    """Turns an Arrow stream (a schema, and record batches until the file's end) into a Parquet file, in row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.OSFile(str(stream)) as file, pa.ipc.open_stream(file) as reader:
        with pq.ParquetWriter(path, reader.schema) as out:
            batches: list[Any] = []
            for batch in reader:
                batches.append(batch)
                if sum(map(len, batches)) >= _ROW_GROUP:
                    out.write_table(pa.Table.from_batches(batches), row_group_size=_ROW_GROUP)
                    batches = []
            if batches:
                out.write_table(pa.Table.from_batches(batches), row_group_size=_ROW_GROUP)
