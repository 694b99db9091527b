"""Texts to classify, row by row, from a file of any size: lines, JSON lines, CSV, TSV or Parquet.

A bad row (blank, unreadable, without the text) does not end the reading: it comes out under its number, with an
`error`. `adapler.data.text_formats` describes the formats.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from adapler.data.text_formats import (
    RAW,
    ParquetRows,
    Record,
    is_text,
    json_object,
    read_json_lines,
    read_lines,
    refuse_compressed,
    table_records,
)
from adapler.eraser import excerpt
from adapler.errors import ArgumentError, DataError

__all__ = ["FORMATS", "STDIN", "SUFFIXES", "TextRow", "TextSource", "shards"]

FORMATS = ("lines", "jsonl", "csv", "tsv", "parquet")
STDIN = Path("-")

_FORMAT_OF_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "lines",
    ".text": "lines",
    "": "lines",
}
SUFFIXES = tuple(filter(None, _FORMAT_OF_SUFFIX))


@dataclass(frozen=True)
class TextRow:
    """One row of the input.

    Attributes:
        number: the line number for lines and jsonl, the number of the row below the header for csv and tsv, the
            number of the row for parquet; all counted from 1.
        id: the value of the id column; None without one.
        text: the text, or the pair of texts; None for a bad row.
        kept: the values of the columns to keep, None where the row lacks one.
        error: why the row is bad; None for a good one.
        raw: of a bad row, what the file holds: its first characters, or its fields as JSON.
    """

    number: int
    id: Any = None
    text: str | tuple[str, str] | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    raw: str | None = None


@dataclass
class TextSource:
    """A file of texts, or standard input (`STDIN`), and which of its columns mean what.

    Attributes:
        path: the file, or STDIN.
        format: one of FORMATS; None takes it from the name of the file (STDIN: lines).
        text_column: default `text`, or else `text_a`.
        pair_column: the second text of a pair; default `text_b` where `text_a` was found by itself, otherwise none.
        id_column: default `id` where there is one.
        keep: columns whose values are handed on.
        missing: filled while reading: columns asked for that no row had.
        types: filled while reading: of a Parquet file, the Arrow type of each column.
    """

    path: Path
    format: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    id_column: str | None = None
    keep: Sequence[str] = ()
    missing: set[str] = field(default_factory=set)
    types: dict[str, str] = field(default_factory=dict)
    _share: Callable[[], float | None] = field(default=lambda: None, repr=False)
    _guessed: bool = field(default=False, repr=False)  # standard input is taken for plain lines
    _single: bool = field(default=False, repr=False)  # the first row has no `text_b`: so must all others

    def __post_init__(self) -> None:
        self._guessed = self.path == STDIN and self.format is None
        self.format = _format_of(self.path, self.format)
        self.missing.update(name for name in (self.id_column, *self.keep) if name is not None)

    @property
    def name(self) -> str:
        """What messages call the input."""
        return "stdin" if self.path == STDIN else str(self.path)

    def where(self, number: int) -> str:
        """The name of a row in messages."""
        return f"{self.name}:{number}" if self.format in ("lines", "jsonl") else f"{self.name}, row {number}"

    def share_read(self) -> float | None:
        """How much of the input was read, from 0 to 1; None where its size is not known."""
        return self._share()

    def rows(self) -> Iterator[TextRow]:
        """Every row, good and bad, in order.

        Raises:
            DataError: no such file, a file that is not of its format, or no column of texts in the header;
                a `text_b` beside a `text`.
            ArgumentError: a column asked for that is not in the header.
        """
        with self._open() as stream:
            if self.format == "parquet":
                table = ParquetRows(self.path)
                header, records, self.types = table.columns, table.records(), table.types
                self._share = lambda: table.done / max(table.total, 1)
            elif self.format in ("csv", "tsv"):
                header, records = table_records(stream, self.name, tabs=self.format == "tsv")
            else:
                header, records = None, read_lines(stream) if self.format == "lines" else read_json_lines(stream)
            if header is not None:
                self._check(header)
                self._name_columns(header)
            for record in records:
                if self._guessed and record.number == 1 and _is_json_object((record.fields or {}).get("text", "")):
                    raise DataError(
                        "stdin: its first line is a JSON object (--format jsonl reads its fields, --format lines takes "
                        "the line itself for the text)"
                    )
                yield self._row(record)

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self.path == STDIN:
            stream = getattr(sys.stdin, "buffer", None)
            if stream is None:  # closed, as of a service, or no file, as in a notebook
                raise DataError("stdin: there is none to read, give a file")
            yield stream
            return
        try:
            stream = self.path.open("rb")
        except FileNotFoundError as error:
            raise DataError(f"{self.path}: no such file") from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        with stream:
            size = os.fstat(stream.fileno()).st_size
            if size:  # a pipe has none
                refuse_compressed(stream, str(self.path))
                self._share = lambda: min(1.0, stream.tell() / size) if not stream.closed else 1.0
            yield stream

    def _check(self, header: Sequence[str]) -> None:
        options = {
            "--text-column": [self.text_column],
            "--pair-column": [self.pair_column],
            "--id-column": [self.id_column],
            "--keep": self.keep,
        }
        for option, names in options.items():
            for name in names:
                if name is not None and name not in header:
                    raise ArgumentError(f"{option}: {self.name} has no column {name!r}, only {_listed(header)}")

    def _name_columns(self, columns: Iterable[str]) -> bool:
        """Settle the columns of the texts by what a header, or a row, has; False when it has none of them."""
        there = set(columns)
        if self.text_column is None:
            name = next((name for name in ("text", "text_a") if name in there), None)
            if name is None:
                if self.format == "jsonl":
                    return False
                hint = "; parted by semicolons?" if any(";" in name for name in there) else ""
                raise DataError(
                    f"{self.name}: has no column 'text' or 'text_a', only {_listed(columns)}{hint} "
                    "(--text-column names another)"
                )
            if self.pair_column is None:
                if "text_b" in there and name == "text":
                    raise DataError(
                        f"{self.name}: has 'text' and 'text_b' (--text-column text reads the first alone, "
                        "--pair-column text_b both; by themselves the texts of a pair are 'text_a' and 'text_b')"
                    )
                self.pair_column = "text_b" if "text_b" in there else None
                self._single = self.pair_column is None
            self.text_column = name
        return True

    def _row(self, record: Record) -> TextRow:
        fields = record.fields
        if fields is None:
            return TextRow(record.number, error=record.error, raw=record.raw)
        self.missing.difference_update(fields)
        identifier = fields.get(self.id_column or "id")
        kept = {name: _storable(fields.get(name)) for name in self.keep}
        text: str | tuple[str, str] | None = None
        error = record.error
        if error is None and not self._name_columns(fields):
            error = f"has none of 'text' and 'text_a', its fields are {_listed(fields)}"
        if error is None:
            names = [name for name in (self.text_column, self.pair_column) if name is not None]
            error = next((found for name in names if (found := _fault(fields, name)) is not None), None)
            if self._single and fields.get("text_b") is not None:
                error = "has 'text_b', which the first row has not (--pair-column text_b reads pairs)"
            texts = [fields.get(name) for name in names]
            if error is None:
                text = texts[0] if len(texts) == 1 else (str(texts[0]), str(texts[1]))
        raw = None if error is None else json.dumps(fields, ensure_ascii=False, default=_as_text)[:RAW]
        return TextRow(record.number, _storable(identifier), text, kept, error, raw)


def shards(rows: Iterable[TextRow], size: int, *, characters: int) -> Iterator[list[TextRow]]:
    """The rows in lists of at most `size`, which end where their texts reach `characters`.

    Memory does not grow with the number of rows, and where a list ends depends on its own rows only.
    """
    shard: list[TextRow] = []
    left = characters
    for row in rows:
        shard.append(row)
        left -= len(row.text) if isinstance(row.text, str) else sum(map(len, row.text or ()))
        if len(shard) == size or left <= 0:
            yield shard
            shard, left = [], characters
    if shard:
        yield shard


def _format_of(path: Path, asked: str | None) -> str:
    if asked is not None:
        if asked not in FORMATS:
            raise ArgumentError(f"--format: {asked!r} is not one of {', '.join(FORMATS)}")
        if asked == "parquet" and path == STDIN:
            raise ArgumentError("--format: parquet cannot be read from standard input, give a file")
        return asked
    if path == STDIN:
        return "lines"
    found = _FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if found is None:
        raise ArgumentError(
            f"{path}: its name does not tell the format ({', '.join(SUFFIXES)} do); --format takes {', '.join(FORMATS)}"
        )
    return found


def _is_json_object(line: str) -> bool:
    try:
        return bool(json_object(line))
    except DataError:
        return False


def _fault(fields: dict[str, Any], name: str) -> str | None:
    """Why a field cannot be classified."""
    text = fields.get(name)
    if name not in fields:
        return f"has no {name!r}, its fields are {_listed(fields)}"
    if not isinstance(text, str):
        return f"field {name!r} must be a string, found {excerpt(text)}"
    if not text.strip():
        return f"field {name!r} is blank"
    return None if is_text(text) else f"field {name!r} holds half of a surrogate pair, which is not text"


def _storable(value: Any) -> Any:
    """A value that a file can hold: bytes, dates and the like become text, within lists too, NaN None. Within lists so
    do infinities, which JSON does not have."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list | tuple | dict):  # there and back, as fast as JSON is, and no deeper than it goes
        return json.loads(json.dumps(value, default=_as_text), parse_constant=lambda name: None)
    return value if value is None or isinstance(value, str | int) else _as_text(value)


def _as_text(value: Any) -> str:
    """Bytes as the UTF-8 that they are, what is not UTF-8 in them as \\xNN; all else as Python prints it."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:12])) + (", ..." if len(listed) > 12 else "") if listed else "none"
