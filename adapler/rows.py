"""Rows of a file, one after the other in constant memory: lines, JSON lines, CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from adapler.errors import ArgumentError, DataError, excerpt

STDIN = Path("-")
FORMATS = {  # by the file's suffix
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "lines",
    ".text": "lines",
}


def format_of(path: Path) -> str:
    """The format that a file's name tells; standard input and a name without suffix: lines.

    Raises:
        ArgumentError: another suffix.
    """
    if path == STDIN or not path.suffix:
        return "lines"
    if path.suffix.lower() not in FORMATS:
        raise ArgumentError(f"{path}: its name does not tell the format ({', '.join(FORMATS)} do); give --format")
    return FORMATS[path.suffix.lower()]


def read_rows(path: Path, format: str | None = None) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(number from 1, place for messages, fields) of each row; the number is the line's for lines and JSON lines, where
    blank lines are passed over. A line is the field `text`; the fields of CSV and TSV are strings.

    Args:
        path: the file, or STDIN.
        format: one of FORMATS' values; default: by the name.

    Raises:
        DataError: no such file, or a row that cannot be read, by its place.
    """
    kind, place = format or format_of(path), str(path)
    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            number = 0
            for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, (place := f"{path}, row {number}"), row
            return
        # Texts may hold a lone carriage return, which ends no line of them.
        newline = "" if kind in ("csv", "tsv") else "\n"
        opened: Any = (
            path.open(encoding="utf-8-sig", newline=newline) if path != STDIN else nullcontext(_stdin(newline))
        )
        with opened as stream:
            if kind == "jsonl":
                yield from ((number, f"{path}:{number}", row) for number, row in json_lines(stream, str(path)))
                return
            if kind == "lines":
                for number, line in enumerate(stream, start=1):
                    yield number, f"{path}:{number}", {"text": line.strip()}
                return
            csv.field_size_limit(sys.maxsize)
            options: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {}
            reader = csv.DictReader(stream, strict=True, **options)
            for number, row in enumerate(reader, start=1):
                place = f"{path}, row {number}"
                if None in row or None in row.values():
                    raise DataError(f"{place}: has other fields than the header, {', '.join(reader.fieldnames or ())}")
                yield number, place, row
    except (OSError, ValueError, csv.Error) as error:  # UTF-8's and Arrow's are ValueErrors
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place}: cannot be read ({' '.join(str(error).split()):.160})") from error


def json_lines(lines: str | Iterable[str], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of every line that is not blank. DataError, with the line, for another value."""
    # Not splitlines(): JSON strings may hold U+2028 and other characters that it takes for line ends.
    for number, line in enumerate(lines.split("\n") if isinstance(lines, str) else lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}:{number}: not JSON ({error}): {excerpt(line.strip())}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}:{number}: a JSON object is expected, found {type(row).__name__}")
        yield number, row


def _stdin(newline: str) -> Any:
    if sys.stdin is None or not hasattr(sys.stdin, "reconfigure"):  # closed, or a notebook's
        raise DataError("stdin: no standard input, give a file")
    sys.stdin.reconfigure(encoding="utf-8-sig", newline=newline)
    return sys.stdin
