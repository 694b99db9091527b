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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from adapler.errors import DataError
from adapler.text import tokenized

__all__ = [
    *("RAW", "ParquetRows", "Record", "gives_wordpieces", "is_text", "json_object", "read_json_lines", "read_lines"),
    *("refuse_blank", "refuse_compressed", "table_records"),
]

RAW = 1000  # characters of a bad row that are kept, to show it
_LONGEST_FIELD = 1 << 30  # characters of a CSV field; the module's own limit is 131072
_PARQUET_ROWS = 1024  # read at a time
_GZIP = b"\x1f\x8b"  # how such a file begins
_MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8


@dataclass(frozen=True)
class Record:
    """A row as it lies in a file.

    Attributes:
        number: counted from 1. The line number for lines and jsonl, otherwise the row number without the header.
        fields: values by column; None for a row that cannot be read.
        error: why it cannot be read.
        raw: its first RAW characters, of a row that cannot be read; bytes that are not UTF-8 as \\xNN.
    """

    number: int
    fields: dict[str, Any] | None
    error: str | None = None
    raw: str | None = None


def is_text(text: str) -> bool:
    """Whether a string can be written: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def gives_wordpieces(text: str, tokenizer: Any) -> bool:
    """Whether a tokenizer sees anything in a text. Some see nothing in zero-width spaces or lone accents: to a model,
    such a text is an empty one.

    A letter or a digit is a wordpiece to all of them, the unknown one at least, so most texts are not asked for.
    """
    return any(map(str.isalnum, text)) or bool(tokenized(tokenizer, text, add_special_tokens=False)["input_ids"])


def refuse_blank(ids: Iterable[str], texts: Iterable[str | Sequence[str]], tokenizer: Any) -> None:
    """Raises DataError for the first text, or list of words, that gives no wordpieces; it names the example."""
    for identifier, text in zip(ids, texts, strict=True):
        joined = text if isinstance(text, str) else " ".join(text)
        if not gives_wordpieces(joined, tokenizer):
            raise DataError(f"example {identifier!r}: its text {joined[:20]!a} gives no wordpieces, as an empty one")


def json_object(text: str) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        DataError: not JSON, not an object, a key that comes twice, or half of a surrogate pair in a string.
    """
    try:
        found = json.loads(text, object_pairs_hook=_without_repeats)
    except DataError as error:
        raise DataError(f"{error}: {text.strip()[:40]!r}") from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(f"not JSON ({reason}): {text.strip()[:40]!r}") from error
    if not isinstance(found, dict):
        raise DataError(f"a JSON object is expected, found {type(found).__name__}")
    # Only an escape can bring half of a surrogate pair into a string.
    if "\\ud" in text.lower() and not is_text(json.dumps(found, ensure_ascii=False)):
        raise DataError("holds half of a surrogate pair, which is not text")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its keys and values. Raises DataError where a key comes twice: which value is meant?"""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DataError(f"the key {next(name for name in names if names.count(name) > 1)!r} comes twice")
    return found


def refuse_compressed(stream: IO[bytes], where: str) -> None:
    """Raises DataError for a compressed file; leaves the stream at its beginning."""
    if stream.read(len(_GZIP)) == _GZIP:
        raise DataError(f"{where}: is compressed (gzip), give it uncompressed")
    stream.seek(0)


def read_lines(stream: Iterable[bytes]) -> Iterator[Record]:
    """Each line as the field `text`, without white space around it."""
    for number, text, error in _decoded(stream):
        yield Record(number, None, error, text) if error else Record(number, {"text": text.strip()})


def read_json_lines(stream: Iterable[bytes]) -> Iterator[Record]:
    """Each line as a JSON object."""
    for number, text, error in _decoded(stream):
        if error:
            yield Record(number, None, error, text)
        elif text.strip():
            yield _json_record(number, text)


def _json_record(number: int, text: str) -> Record:
    try:
        return Record(number, json_object(text))
    except DataError as error:
        return Record(number, None, str(error), text[:RAW])


def _decoded(stream: Iterable[bytes]) -> Iterator[tuple[int, str, str | None]]:
    """(line number, line, error); with an error the line's beginning.

    Lines end at "\\n" or "\\r\\n" only, since texts may hold U+2028 and the like.
    """
    for number, line in enumerate(stream, start=1):
        line = line.removeprefix(_MARK) if number == 1 else line
        try:
            yield number, line.removesuffix(b"\n").removesuffix(b"\r").decode(), None
        except UnicodeDecodeError as error:
            yield number, line[:RAW].decode(errors="backslashreplace"), f"not UTF-8 (byte {error.start})"


def table_records(stream: Iterable[bytes], where: str, *, tabs: bool) -> tuple[list[str], Iterator[Record]]:
    """The header of a table and its rows. `where` names the table in messages.

    A blank line between rows is passed over, unless the table has one column: there it is a blank row.

    Raises:
        DataError: no header, or a column that appears twice.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    lines = _TextLines(stream)
    reader = csv.reader(lines, dialect=_Tabs if tabs else _Commas)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{where}: its header cannot be read ({_reason(error)})") from error
    if not is_text("".join(header)):
        raise DataError(f"{where}: its header is not UTF-8")
    _check_once(header, where)
    if not header:
        raise DataError(f"{where}: has no header")
    return header, _table_rows(reader, lines, header)


def _reason(error: csv.Error) -> str:
    """What is wrong with a row. Of a lone carriage return the module speaks of opening files otherwise."""
    return "a carriage return that ends no line and is not in quotes" if "new-line" in str(error) else str(error)


def _check_once(columns: list[str], where: str) -> None:
    """Raises DataError for a column that appears twice: which of them is meant, nobody says."""
    twice = next((name for number, name in enumerate(columns) if name in columns[:number]), None)
    if twice is not None:
        raise DataError(f"{where}: column {twice!r} appears twice")


class _TextLines:
    """Lines as text, and the beginning of what was read since `forget`.

    Bytes that are not UTF-8 become lone surrogates, which make their own row a bad one.
    """

    def __init__(self, stream: Iterable[bytes]) -> None:
        self.stream, self.first, self.kept = iter(stream), True, ""

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        line = next(self.stream)
        if self.first:
            line, self.first = line.removeprefix(_MARK), False
        text = line.decode(errors="surrogateescape")
        if len(self.kept) < RAW:
            self.kept += text[:RAW]
        return text

    def forget(self) -> None:
        self.kept = ""

    def raw(self) -> str:
        kept = self.kept[:RAW].rstrip("\r\n")
        return kept.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _table_rows(reader: Any, lines: _TextLines, header: list[str]) -> Iterator[Record]:
    number = 0
    while True:
        begin = reader.line_num + 1
        lines.forget()
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            # A quote that is never closed swallows all lines to the end.
            where = f"line {begin}" if reader.line_num <= begin else f"lines {begin} to {reader.line_num}"
            yield Record(number, None, f"{where}: {_reason(error)}", lines.raw())
            continue
        if not values and len(header) > 1:
            continue  # a blank line between two rows
        number += 1
        values = values or [""]
        if len(values) != len(header):
            error_text = f"has {len(values)} fields, the header has {len(header)}"
            yield Record(number, None, error_text, lines.raw())
        elif not is_text("".join(values)):
            yield Record(number, None, "not UTF-8", lines.raw())
        else:
            yield Record(number, dict(zip(header, values, strict=True)))


class _Commas(csv.Dialect):
    delimiter, quotechar, doublequote, lineterminator = ",", '"', True, "\r\n"
    quoting, strict = csv.QUOTE_MINIMAL, True


class _Tabs(csv.Dialect):
    delimiter, quotechar, lineterminator = "\t", None, "\n"
    quoting, strict = csv.QUOTE_NONE, True


class ParquetRows:
    """The rows of a Parquet file, read some at a time.

    Attributes:
        columns: their names.
        types: the Arrow type of each, as pyarrow names it ("int64", "string", ...).
        total: rows of the file.
        done: rows that were read.

    Raises:
        DataError: no Parquet file, one that is cut short, or a column that appears twice.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path, self.done = path, 0
        try:
            self.file = pq.ParquetFile(path)
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise DataError(f"{path}: not a Parquet file ({' '.join(str(error).split()):.160})") from error
        self.columns: list[str] = list(self.file.schema_arrow.names)
        _check_once(self.columns, str(path))
        self.types = {field.name: str(field.type) for field in self.file.schema_arrow}
        self.total: int = self.file.metadata.num_rows

    def records(self) -> Iterator[Record]:
        """The rows, in order.

        Raises:
            DataError: a part of the file cannot be read; names the last row that could, and the column.
        """
        column = ""
        with self.file:
            try:
                for batch in self.file.iter_batches(batch_size=_PARQUET_ROWS):
                    values = []
                    for name in self.columns:
                        column = f", column {name!r}"
                        values.append(batch.column(name).to_pylist())
                    column = ""
                    for row in zip(*values, strict=True):
                        self.done += 1
                        yield Record(self.done, dict(zip(self.columns, row, strict=True)))
            # Of a date that Python does not have, pyarrow raises an OverflowError.
            except (OSError, ValueError, OverflowError) as error:
                raise DataError(
                    f"{self.path}: cannot be read after row {self.done}{column} ({' '.join(str(error).split()):.160})"
                ) from error
