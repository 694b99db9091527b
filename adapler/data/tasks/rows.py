"""The rows of a task's files, one after the other; `adapler.data.text_formats` describes the formats."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapler.data.archive import FileTree, json_lines
from adapler.data.text_formats import ParquetRows, Record, refuse_compressed, table_records
from adapler.errors import DataError

__all__ = ["SUFFIXES", "SplitFile", "split_files"]

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")  # of several files of one split, the first kind that is there

_OPTIONAL = ("id", "label", "query", "text_b")  # fields that may be empty

# The names of each split's file; of several, the first that is there.
_STEMS = {"train": ("train",), "validation": ("validation", "val", "dev"), "test": ("test",)}


@dataclass(frozen=True)
class SplitFile:
    """A file with the rows of one split.

    Attributes:
        path: its suffix, in any case, is one of SUFFIXES.
    """

    path: Path

    @property
    def is_typed(self) -> bool:
        """Whether the format tells a number from a text that is written like one."""
        return self._kind not in (".csv", ".tsv")

    @property
    def _kind(self) -> str:
        return self.path.suffix.lower()

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(the row's name in messages, its fields) of each row; never a whole file at once.

        Raises:
            DataError: a file or a row that cannot be read.
        """
        if self._kind == ".jsonl":
            tree = FileTree(str(self.path.parent), {self.path.name: self.path})
            where = tree.where(self.path.name)
            for line, row in json_lines(tree.lines(self.path.name), where):
                yield f"{where}:{line}", row
            return
        for record in self._records():
            at = f"{self.path}, row {record.number}"
            if record.fields is None:
                raise DataError(f"{at}: {record.error}")
            # In CSV and TSV nothing is an empty text.
            empty = () if self.is_typed else [name for name in _OPTIONAL if record.fields.get(name) == ""]
            yield at, {**record.fields, **dict.fromkeys(empty)}

    def _records(self) -> Iterator[Record]:
        if self._kind == ".parquet":
            yield from ParquetRows(self.path).records()
            return
        try:
            with self.path.open("rb") as stream:
                refuse_compressed(stream, str(self.path))
                yield from table_records(stream, str(self.path), tabs=self._kind == ".tsv")[1]
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error

    def first(self) -> tuple[str, dict[str, Any]]:
        """The first row. Raises DataError where there is none."""
        found = next(self.rows(), None)
        if found is None:
            raise DataError(f"{self.path}: holds no rows")
        return found


def split_files(folder: Path) -> tuple[dict[str, SplitFile], list[str]]:
    """The file of each split that is in a folder, and notes on those that are not read: the second of a split, and of
    another format than train's.

    Raises:
        DataError: something is called like such a file and is none.
    """
    found: dict[str, SplitFile] = {}
    notes = []
    for split, stems in _STEMS.items():
        names = (f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
        there = [name for name in names if os.path.lexists(folder / name)]
        if unread := [name for name in there if not (folder / name).is_file()]:
            raise DataError(f"{folder / unread[0]}: is no file, but a folder or a link that leads nowhere")
        kind = found["train"].path.suffix if "train" in found else None
        read = [name for name in there if kind in (None, Path(name).suffix)][:1]
        if read:
            found[split] = SplitFile(folder / read[0])
        if left := [name for name in there if name not in read]:
            why = f"{read[0]}; " if read else f"train is a {kind}; "
            notes.append(f"{split}: {why}{', '.join(left)} is not read")
    return found, notes
