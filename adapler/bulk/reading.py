"""Rows of the input in shards: the unit that is classified, written, counted and never begun twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b

from adapler.bulk.settings import PredictSettings
from adapler.data.texts import TextRow, TextSource, shards
from adapler.errors import DataError

__all__ = ["Shard", "packed", "read_shards", "source_of", "unpacked"]

SHARD_CHARACTERS = 1 << 20  # a shard of long texts ends here


@dataclass(frozen=True)
class Shard:
    """Some rows of the input.

    Attributes:
        index: of the shard, from 0.
        rows: good and bad ones.
        digest: checksum of the rows; resuming compares it with the journal's.
        share_read: how much of the input was read when the shard was; None where its size is not known.
        missing: columns asked for that no row had until here.
    """

    index: int
    rows: list[TextRow]
    digest: str
    share_read: float | None = None
    missing: tuple[str, ...] = ()


def source_of(settings: PredictSettings) -> TextSource | None:
    """The file to read; None for texts of the command line."""
    files = settings.files
    if files.input is None:
        return None
    return TextSource(
        files.input,
        format=files.format,
        text_column=files.text_column,
        pair_column=files.pair_column,
        id_column=files.id_column,
        keep=files.keep,
    )


def read_shards(settings: PredictSettings, source: TextSource | None) -> Iterator[Shard]:
    """Every row of the input.

    Raises:
        DataError, ArgumentError: see `TextSource.rows`.
        DataError: not one row.
    """
    rows = _given_rows(settings.text) if source is None else source.rows()
    index = -1
    for index, part in enumerate(shards(rows, settings.work.shard_rows, characters=SHARD_CHARACTERS)):
        share, missing = (None, ()) if source is None else (source.share_read(), tuple(sorted(source.missing)))
        yield Shard(index, part, _digest(part), share, missing)
    if index < 0:
        raise DataError(f"{'text' if source is None else source.name}: no texts")


def _given_rows(texts: Sequence[str]) -> Iterator[TextRow]:
    """The texts of the command line. What a terminal hands over that is no UTF-8 comes as half surrogate pairs."""
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            yield TextRow(number, error="not UTF-8")
            continue
        yield TextRow(number, text=text) if text.strip() else TextRow(number, error="blank")


def _digest(rows: list[TextRow]) -> str:
    digest = blake2b(digest_size=16)
    for row in rows:
        digest.update(repr((row.number, row.id, row.text, row.kept, row.error, row.raw)).encode())
    return digest.hexdigest()


def packed(rows: list[TextRow]) -> str:
    """Rows as JSON, to send them to another machine."""
    return json.dumps([list(asdict(row).values()) for row in rows])


def unpacked(text: str) -> list[TextRow]:
    """The rows that `packed` made the text of."""
    rows = []
    for number, identifier, content, kept, error, raw in json.loads(text):
        content = tuple(content) if isinstance(content, list) else content
        rows.append(TextRow(number, identifier, content, kept, error, raw))
    return rows
