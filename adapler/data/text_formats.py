"""The formats in which texts lie in files, each read row by row. A row that cannot be read becomes a record with an
error, and reading goes on.

    lines      one text a line, white space around it dropped
    jsonl      one JSON object a line; blank lines are passed over
    csv        with a header, fields in double quotes where need be (RFC 4180)
    tsv        with a header, parted by tabs, quotes are ordinary characters (IANA's text/tab-separated-values)
    parquet    some rows at a time
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapler.errors import DataError

__all__ = ["Record", "is_text", "parquet_records", "read_json_lines", "read_lines", "table_records"]

_LONGEST_FIELD = 1 << 30  # characters of a CSV field; the module's own limit is 131072
_PARQUET_ROWS = 1024  # read at a time
_MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8


@dataclass(frozen=True)
class Record:
    """A row as it lies in a file.

    Attributes:
        number: counted from 1. The line number for lines and jsonl, otherwise the row number without the header.
        fields: values by column; None for a row that cannot be read.
        error: why it cannot be read.
    """

    number: int
    fields: dict[str, Any] | None
    error: str | None = None


def is_text(text: str) -> bool:
    """Whether a string can be written: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_lines(stream: Iterable[bytes]) -> Iterator[Record]:
    """Each line as the field `text`, without white space around it."""
    for number, text, error in _decoded(stream):
        yield Record(number, None if error else {"text": text.strip()}, error)


def read_json_lines(stream: Iterable[bytes]) -> Iterator[Record]:
    """Each line as a JSON object."""
    for number, text, error in _decoded(stream):
        if error:
            yield Record(number, None, error)
        elif text.strip():
            yield _json_record(number, text)


def _json_record(number: int, text: str) -> Record:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        return Record(number, None, f"not JSON ({reason}): {text.strip()[:40]!r}")
    if not isinstance(fields, dict):
        return Record(number, None, f"a JSON object is expected, found {type(fields).__name__}")
    if "\\ud" in text.lower() and not is_text(json.dumps(fields, ensure_ascii=False)):
        return Record(number, None, "holds half of a surrogate pair, which is not text")
    return Record(number, fields)


def _decoded(stream: Iterable[bytes]) -> Iterator[tuple[int, str, str | None]]:
    """(line number, line, error): lines end at "\\n" or "\\r\\n" only, since texts may hold U+2028 and the like."""
    for number, line in enumerate(stream, start=1):
        line = line.removeprefix(_MARK) if number == 1 else line
        try:
            yield number, line.removesuffix(b"\n").removesuffix(b"\r").decode(), None
        except UnicodeDecodeError as error:
            yield number, "", f"not UTF-8 (byte {error.start})"


def table_records(stream: Iterable[bytes], where: str, *, tabs: bool) -> tuple[list[str], Iterator[Record]]:
    """The header of a table and its rows. `where` names the table in messages.

    A blank line between rows is passed over, unless the table has one column: there it is a blank row.

    Raises:
        DataError: no header, or a column that appears twice.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(_text_lines(stream), dialect=_Tabs if tabs else _Commas)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{where}: its header cannot be read ({error})") from error
    twice = next((name for number, name in enumerate(header) if name in header[:number]), None)
    if twice is not None:
        raise DataError(f"{where}: column {twice!r} appears twice")
    if not header:
        raise DataError(f"{where}: has no header")
    return header, _table_rows(reader, header)


def _text_lines(stream: Iterable[bytes]) -> Iterator[str]:
    """Bytes that are not UTF-8 become lone surrogates, which make their own row a bad one."""
    for number, line in enumerate(stream):
        yield (line if number else line.removeprefix(_MARK)).decode(errors="surrogateescape")


def _table_rows(reader: Any, header: list[str]) -> Iterator[Record]:
    number = 0
    while True:
        begin = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            # A quote that is never closed swallows all lines to the end.
            lines = f"line {begin}" if reader.line_num <= begin else f"lines {begin} to {reader.line_num}"
            yield Record(number, None, f"{lines}: {error}")
            continue
        if not values and len(header) > 1:
            continue  # a blank line between two rows
        number += 1
        values = values or [""]
        if len(values) != len(header):
            yield Record(number, None, f"has {len(values)} fields, the header has {len(header)}")
        elif not is_text("".join(values)):
            yield Record(number, None, "not UTF-8")
        else:
            yield Record(number, dict(zip(header, values, strict=True)))


class _Commas(csv.Dialect):
    delimiter, quotechar, doublequote, lineterminator = ",", '"', True, "\r\n"
    quoting, strict = csv.QUOTE_MINIMAL, True


class _Tabs(csv.Dialect):
    delimiter, quotechar, lineterminator = "\t", None, "\n"
    quoting, strict = csv.QUOTE_NONE, True


def parquet_records(path: Path) -> tuple[list[str], Iterator[Record]]:
    """The columns of a Parquet file and its rows.

    Raises:
        DataError: no Parquet file, or one that is cut short.
    """
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise DataError(f"{path}: not a Parquet file ({' '.join(str(error).split()):.160})") from error

    def records() -> Iterator[Record]:
        number = 0
        with file:
            try:
                for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                    for fields in batch.to_pylist():
                        number += 1
                        yield Record(number, fields)
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{path}: cannot be read after row {number} ({' '.join(str(error).split()):.160})"
                ) from error

    return list(file.schema_arrow.names), records()
