"""An uploaded file -> documents. Its limits are small: it is read whole, on the server that runs the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from adapler.eraser import excerpt, json_lines
from adapler.errors import DataError
from analysis.corpus import read_rationale, spans_of
from app.sources.documents import Document
from app.sources.menus import told_apart

SUFFIXES = (".txt", ".jsonl")
MAX_MEGABYTES = 2
MAX_LINES = 200
LIMITS = (
    f"txt or jsonl, UTF-8, up to {MAX_MEGABYTES} MB; of a jsonl file up to {MAX_LINES} lines, each with `text`, "
    "`tokens` or a pair `text_a` and `text_b`, and if you like `label`, `query` (read unless all lines have the same) "
    "and `rationale` (0 or 1 for each token, or one such list an annotator: a token counts that more than half of them "
    "mark)"
)


def read_upload(name: str, content: bytes) -> tuple[Document, ...]:
    """A text file is one document, a jsonl file one a line.

    Raises DataError, one line that names the file and what is wrong, for whatever cannot be read.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{name}: found {f'a {suffix} file' if suffix else 'no suffix'}; .txt or .jsonl is read")
    if len(content) > MAX_MEGABYTES * 1_000_000:
        raise DataError(f"{name}: {len(content) / 1e6:.1f} MB, at most {MAX_MEGABYTES} MB are read")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if suffix == ".txt":
        if not text.split():
            raise DataError(f"{name}: no text in it")
        return (Document(name, text),)
    found: list[Document] = []
    rows: list[Mapping[str, Any]] = []
    for line, row in json_lines(text, name):
        if len(found) == MAX_LINES:
            raise DataError(f"{name}: more than {MAX_LINES} lines; the limit is {MAX_LINES}")
        rows.append(row)
        found.append(_document(row, f"{name}:{line}", number=line))
    if not found:
        raise DataError(f"{name}: holds no lines")
    labels = tuple(sorted({document.label for document in found if document.label is not None}))
    # The rule of an evaluation: one query for all of several lines says nothing. A pair's second text always does.
    shown = len(found) == 1 or len({document.query for document in found}) > 1 or any("text_b" in row for row in rows)
    named = told_apart((one.name, one) for one in found)
    return tuple(
        replace(one, name=name, labels=labels, query=one.query if shown else "") for name, one in named.items()
    )


def _is_name(value: Any) -> bool:
    """Whether an id can be shown as a name: a number, or a text that is not empty."""
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, int) and not isinstance(value, bool)


def _document(row: Mapping[str, Any], where: str, *, number: int) -> Document:
    tokens, text, label = row.get("tokens"), row.get("text"), row.get("label")
    query = "" if row.get("query") is None else row["query"]
    if "text_a" in row or "text_b" in row:  # a pair, as the package trains on
        text, query = row.get("text_a"), row.get("text_b")
        for field, value in (("text_a", text), ("text_b", query)):
            if not isinstance(value, str):
                raise DataError(
                    f"{where}: a pair needs the fields 'text_a' and 'text_b', both strings; "
                    f"{field!r} is {excerpt(value)}"
                )
    if tokens is not None and not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
        raise DataError(f"{where}: field 'tokens' must be a list of strings, found {excerpt(tokens)}")
    if tokens is None and "text" in row and not isinstance(text, str):
        raise DataError(f"{where}: field 'text' must be a string, found {excerpt(text)}")
    if tokens is None and text is None:
        found = ", ".join(map(repr, row)) or "no field"
        raise DataError(f"{where}: needs a field 'text' (a string) or 'tokens' (a list of strings), found {found:.100}")
    words = str(text).split() if tokens is None else tokens
    if any(word.split() != [word] for word in words):
        raise DataError(f"{where}: a token is empty or has white space in it")
    if not words:
        raise DataError(f"{where}: no text in it")
    if label is not None and (isinstance(label, bool) or not isinstance(label, str | int) or not str(label).strip()):
        raise DataError(f"{where}: field 'label' must be a name or a whole number, found {excerpt(label)}")
    if not isinstance(query, str):
        raise DataError(f"{where}: field 'query' must be a string, found {excerpt(query)}")
    mask = read_rationale(row.get("rationale"), len(words), where=where)
    name = row.get("id")
    return Document(
        name=str(name)[:80] if _is_name(name) else f"line {number}",
        text=" ".join(words),
        label=None if label is None else str(label),
        spans=tuple(spans_of(mask)),
        query=" ".join(query.split()),
    )
