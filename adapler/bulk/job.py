"""What is computed and what is written of it: all that a worker has to know, in plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapler.text import Encoding

__all__ = ["Finished", "Hello", "Job"]


@dataclass(frozen=True)
class Job:
    """Plain values that decide the output's bytes.

    Attributes:
        model: folder or hub name.
        removal, threshold_scale: as of `AdapLeRForSequenceClassification.forward`.
        encoding: which part of a long text is read.
        device, dtype: as asked for ("auto" allowed).
        format: of the output: jsonl, csv, parquet, or screen.
        columns: what is written of each row.
        keep: columns of the input that are copied.
        types: of the kept columns of a Parquet file, their Arrow types.
        id_type: of the id column, whatever its name, the same.
        numbered: whether the rows have ids (on the screen).
    """

    model: str
    removal: str
    threshold_scale: float
    encoding: Encoding
    device: str
    dtype: str
    format: str
    columns: tuple[str, ...]
    keep: tuple[str, ...] = ()
    types: dict[str, str] = field(default_factory=dict)
    id_type: str = "string"
    numbered: bool = True


@dataclass(frozen=True)
class Hello:
    """What a worker says once its model is loaded.

    Attributes:
        labels: the model's.
        device: its kind.
        dtype: what the layers compute in.
        notes: lines to show.
    """

    labels: list[str]
    device: str
    dtype: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Finished:
    """A shard that was classified.

    Attributes:
        index: of the shard.
        digest, share_read, missing: as of the `Shard`.
        rows: number of its rows.
        bad: how many of them have no prediction.
        tokens: wordpieces that were read.
        unread: rows of which nothing but [CLS] entered the first layer; they all have the same label.
        output: the bytes of its rows.
        errors: the bytes of its bad rows, one JSON object a line.
    """

    index: int
    digest: str
    share_read: float | None
    missing: tuple[str, ...]
    rows: int
    bad: int
    tokens: int
    unread: int
    output: bytes
    errors: bytes
