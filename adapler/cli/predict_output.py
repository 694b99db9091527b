"""What `adapler predict` writes: one row of output for each row of input, as JSON lines, CSV or on the screen."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapler.data.texts import TextRow
from adapler.files import replacing

__all__ = ["FIELDS", "output_row", "writer"]

# Fields of the output. A column that is kept and has one of these names gets `input_` before it.
FIELDS = ("row", "id", "label", "score", "probabilities", "tokens", "layers", "lengths", "speedup", "windows", "error")


def output_row(row: TextRow, result: dict[str, Any] | None) -> dict[str, Any]:
    """What is written of a row: FIELDS, and the kept columns after the id."""
    kept = {f"input_{name}" if name in FIELDS else name: value for name, value in row.kept.items()}
    found = result or {}
    return {
        "row": row.number,
        "id": row.id,
        **kept,
        **{name: found.get(name) for name in FIELDS if name not in ("row", "id", "error")},
        "error": row.error,
    }


_Write = Callable[[list[dict[str, Any]]], None]


@contextmanager
def writer(path: Path | None, labels: list[str], *, kept: Sequence[str], numbered: bool) -> Iterator[_Write]:
    """A function that writes some rows, to a file that is there whole at the end or not at all, or to the screen."""
    if path is None:
        yield lambda rows: _print_rows(rows, numbered=numbered)
        return
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix.lower() == ".csv":
            names = [f"input_{name}" if name in FIELDS else name for name in kept]
            columns = ["row", "id", *names, "label", "score", "speedup", "windows"]
            table = csv.DictWriter(stream, [*columns, *(f"probability_{name}" for name in labels), "error"])
            table.writeheader()
            yield lambda rows: table.writerows([_flat(row, table.fieldnames) for row in rows])
        else:
            yield lambda rows: stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _flat(row: dict[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """A row for CSV: a column for each probability, lists and mappings as JSON."""
    probabilities = {f"probability_{name}": value for name, value in (row["probabilities"] or {}).items()}
    flat = {**row, **probabilities}
    return {
        name: json.dumps(flat[name], ensure_ascii=False) if isinstance(flat[name], list | dict) else flat[name]
        for name in columns
        if name in flat
    }


def _print_rows(rows: list[dict[str, Any]], *, numbered: bool) -> None:
    for row in rows:
        begin = ("" if row["id"] is None else f"{row['id']}\t") if numbered else ""
        begin = f"{row['row']}\t{begin}" if numbered else begin
        if row["error"] is not None:
            print(f"{begin}-\t{row['error']}")
            continue
        before = f"{row['windows']} windows" if row["tokens"] is None else len(row["tokens"])
        lengths = " ".join(map(str, row["lengths"]))
        print(f"{begin}{row['label']}\t{row['score']:.4f}\t{row['speedup']:.2f}x\t{before} -> {lengths}")
