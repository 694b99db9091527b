"""The text that is looked at: of a corpus, of one's own, or out of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, StrictInt, StrictStr, ValidationError

from adapler.eraser import EraserCorpus, match_labels, merge_spans, queries_differ
from adapler.errors import ArgumentError, DataError, validation_reason
from adapler.system import json_lines

SUFFIXES = (".txt", ".jsonl")
MAX_CHARACTERS = 20_000
MAX_BYTES = 2_000_000
MAX_LINES = 200
LIMITS = (
    f"txt or jsonl, UTF-8, up to {MAX_BYTES // 1_000_000} MB; up to {MAX_LINES} lines of JSON, each with `text`, "
    "`tokens` or a pair `text_a` and `text_b`, and optionally `label`, `query` and `rationale` (0 or 1 for each token)"
)


@dataclass(frozen=True)
class Document:
    """A text, and what is known of it.

    Attributes:
        name: id in a corpus, or a file's name.
        text: words separated by white space.
        label: gold label as the corpus or file writes it.
        spans: human rationale: half-open ranges of words.
        query: second segment of the model's input, "" for none.
        labels: all labels of the corpus or file, in the order of their indices.
        source: corpus and split for the reader, "" for a text of one's own.
        part: which part of a longer text it is, for the reader.
    """

    name: str
    text: str
    label: str | None = None
    spans: tuple[tuple[int, int], ...] = ()
    query: str = ""
    labels: tuple[str, ...] = ()
    source: str = ""
    part: str = ""

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.text.split())

    @property
    def query_words(self) -> tuple[str, ...]:
        return tuple(self.query.split())

    @property
    def rationale(self) -> NDArray[np.bool_]:
        """(words,) bool."""
        mask = np.zeros(len(self.words), dtype=np.bool_)
        for start, end in self.spans:
            mask[start:end] = True
        return mask

    def between(self, start: int, end: int, *, part: str = "") -> Document:
        """The words [start, end) as a document of their own."""
        inside = ((max(first, start) - start, min(after, end) - start) for first, after in self.spans)
        text = " ".join(self.words[start:end])
        return replace(self, text=text, spans=tuple(span for span in inside if span[0] < span[1]), part=part)

    def cut(self) -> Document:
        """At most MAX_CHARACTERS of text and query."""
        one = replace(self, query=self.query[:MAX_CHARACTERS])
        return one if len(self.text) <= MAX_CHARACTERS else one.between(0, len(self.text[:MAX_CHARACTERS].split()))

    def gold_index(self, names: Sequence[str]) -> int | None:
        """The model's class of the gold label; None if it has none."""
        if self.label is None:
            return None
        known = self.labels if self.label in self.labels else (self.label,)
        found = match_labels(known, names)
        return None if found is None else found[known.index(self.label)]

    def called(self) -> str:
        """By its words: a menu of file names says nothing."""
        begin = " ".join(self.words[:7])
        return f"{self.label}: {begin} ..." if self.label else f"{begin} ..."


def of_split(corpus: EraserCorpus, split: str, *, title: str) -> tuple[Document, ...]:
    """All documents of a split, as the model is given them."""
    with_query = queries_differ(corpus)
    # a word with white space in it, a no-break space say, would shift all others when the text is split again
    sign = "\N{REPLACEMENT CHARACTER}"
    return tuple(
        Document(
            name=one.id,
            text=" ".join(word if word.split() == [word] else sign.join(word.split()) or sign for word in one.words),
            label=one.label,
            spans=one.spans,
            query=" ".join(one.query.split()) if with_query else "",
            labels=corpus.labels,
            source=f"{title}, {split}",
        )
        for one in corpus.splits[split]
    )


def parts_of(document: Document, tokenizer: Any, *, limit: int) -> tuple[tuple[int, int], ...]:
    """Ranges of words, one after the other, each of which the model reads whole; one where all fit. A single word that
    is longer than the input is cut.

    Raises:
        ArgumentError: the tokenizer sees nothing in the text, or the query leaves no room for it.
    """
    pieces = np.bincount(_pieces(tokenizer, document.words), minlength=len(document.words))
    query = len(_pieces(tokenizer, document.query_words)) if document.query else 0
    room = limit - query - tokenizer.num_special_tokens_to_add(pair=bool(document.query))
    if not pieces.sum():
        raise ArgumentError("the text gives no wordpieces: to the model it is an empty one")
    if room < 1:
        raise ArgumentError(f"the second text alone is {query} tokens long; of both, the model reads {limit}")
    starts, used = [0], 0
    for word, count in enumerate(pieces.tolist()):
        if used and used + count > room:
            starts.append(word)
            used = 0
        used += count
    return tuple(zip(starts, [*starts[1:], len(document.words)], strict=True))


def _pieces(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """The word of each wordpiece."""
    found = tokenizer(list(words), is_split_into_words=True, add_special_tokens=False, truncation=False, verbose=False)
    return [word for word in found.word_ids() if word is not None]


class _Row(BaseModel, coerce_numbers_to_str=True):
    id: str | None = None
    text: str | None = None
    text_a: str | None = None
    text_b: str | None = None
    tokens: list[str] | None = None
    label: StrictInt | StrictStr | None = None
    query: str | None = None
    rationale: list[int] | list[list[int]] | None = None


def read_upload(name: str, content: bytes) -> tuple[Document, ...]:
    """A text file is one document, a jsonl file one a line.

    Raises:
        DataError: one line that names the file and what is wrong.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{name}: {f'a {suffix} file' if suffix else 'no suffix'}; .txt or .jsonl is read")
    if len(content) > MAX_BYTES:
        raise DataError(f"{name}: {len(content) / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB are read")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 text (byte {error.start})") from error
    if suffix == ".txt":
        if not text.split():
            raise DataError(f"{name}: no text in it")
        return (Document(name, " ".join(text.split())),)
    found: list[Document] = []
    for line, fields in json_lines(text, name):
        if len(found) == MAX_LINES:
            raise DataError(f"{name}: more than {MAX_LINES} lines")
        found.append(_of_line(fields, f"{name}:{line}", line))
    if not found:
        raise DataError(f"{name}: holds no lines")
    labels = tuple(sorted({one.label for one in found if one.label is not None}))
    return tuple(replace(one, labels=labels) for one in found)


def _of_line(fields: Mapping[str, Any], where: str, line: int) -> Document:
    try:
        row = _Row.model_validate(fields)
    except ValidationError as error:
        raise DataError(f"{where}: {validation_reason(error)}") from error
    first = row.text if row.text_a is None else row.text_a
    words = row.tokens if row.tokens is not None else (first or "").split()
    if not words or any(word.split() != [word] for word in words):
        raise DataError(f"{where}: needs `text`, `text_a` or `tokens` with words, none of them empty")
    marks = np.array(row.rationale if row.rationale else [0] * len(words), dtype=object)
    try:
        marked = np.atleast_2d(np.array(marks.tolist(), dtype=float)).mean(0) > 0.5  # of several annotators, most
    except ValueError:
        marked = np.zeros(0)
    if marked.shape != (len(words),):
        raise DataError(f"{where}: `rationale` must have 0 or 1 for each of the {len(words)} tokens")
    return Document(
        name=row.id or f"line {line}",
        text=" ".join(words),
        label=None if row.label is None else str(row.label),
        spans=merge_spans((int(place), int(place) + 1) for place in np.flatnonzero(marked)),
        query=" ".join((row.text_b or row.query or "").split()),
    )
