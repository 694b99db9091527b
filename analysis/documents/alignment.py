"""Words and rationales of an ERASER document -> wordpieces, by index.

    W words of the document, n wordpieces of one window (special tokens included)

Nothing is ever looked up by its text: the tokenizer gets the words as they are and says which word each
wordpiece comes from. A document longer than the model's input is cut into windows, and the policy says how:

    truncate            the beginning, as in fine-tuning; whatever lies beyond is lost
    rationale-windows   consecutive windows, no rationale span cut in two unless it is longer than a window; those
                        that hold a rationale are seen, each as an input of its own (AdapLeR's protocol)
    all-windows         consecutive windows of whole words over the whole document, nothing is lost
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from adapler.text import tokenized
from analysis.documents.windows import (
    SPECIAL,
    Account,
    Alignment,
    AnnotatedDocument,
    Window,
    words_of,
)

__all__ = ["POLICIES", "SPECIAL", "Account", "Alignment", "AnnotatedDocument", "Window", "align"]

POLICIES = ("truncate", "rationale-windows", "all-windows")


def align(
    example: AnnotatedDocument,
    tokenizer: Any,
    *,
    max_length: int = 512,
    policy: str = "truncate",
    with_query: bool = False,
) -> Alignment:
    """Cut a document into windows of at most `max_length` wordpieces and label each wordpiece.

    tokenizer: a fast transformers tokenizer; its own special tokens are used, the first of which is where a
        classifier reads.
    policy: one of POLICIES. A document without a rationale has no window to show under "rationale-windows":
        its first one stands in, so that it can be classified.
    with_query: give every window `example.query` as second segment; only the document is ever cut.

    Raises ArgumentError for an unknown policy, a window too short to hold a word, a tokenizer that cannot say
    which word a wordpiece comes from or that starts with no special token, a document without a wordpiece, and
    a rationale longer or shorter than the text.
    """
    if policy not in POLICIES:
        raise ArgumentError(f"policy: got {policy!r}, allowed are {', '.join(POLICIES)}")
    if not getattr(tokenizer, "is_fast", False):
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} cannot say which word a wordpiece comes from; "
            "a fast tokenizer (is_fast) is needed"
        )
    query = str(getattr(example, "query", "")).split() if with_query else []
    room = max_length - _overhead(tokenizer, query)
    if room < 1:
        because = f"with the query of document {example.id}" if query else "with this tokenizer"
        raise ArgumentError(f"max_length: got {max_length}, must be at least {max_length - room + 1} {because}")
    rationale = np.asarray(example.rationale(), dtype=bool)  # (W,)
    if len(rationale) != len(example.words):
        raise ArgumentError(
            f"document {example.id}: the rationale covers {len(rationale)} words, the text has {len(example.words)}"
        )
    cutter = _Cutter(example, tokenizer, query, max_length, rationale)
    if policy == "truncate":
        every = cutter.cut(0, len(rationale))
        windows, has_pieces = every[:1], words_of(every, len(rationale))
    else:
        pieces = _pieces_per_word(example, tokenizer)  # (W,)
        windows, has_pieces = _consecutive(cutter, pieces, room, whole_spans=policy == "rationale-windows"), pieces > 0
    if not has_pieces.any():
        raise ArgumentError(f"document {example.id}: its {len(rationale)} words give no wordpiece")
    if windows[0].words[0] != SPECIAL:
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} puts no special token first; the classification token is read there"
        )
    return Alignment(tuple(windows), _account(rationale, has_pieces, windows))


class _Cutter:
    """Encodes ranges of one document's words; `Window.words` counts from the document's first word."""

    def __init__(
        self,
        example: AnnotatedDocument,
        tokenizer: Any,
        query: Sequence[str],
        max_length: int,
        rationale: NDArray[np.bool_],
    ) -> None:
        self.example, self.tokenizer, self.query = example, tokenizer, list(query)
        self.max_length, self.rationale = max_length, rationale

    def cut(self, start: int, end: int) -> list[Window]:
        """Windows of the words [start, end): one, unless they do not fit."""
        encoding = tokenized(
            self.tokenizer,
            list(self.example.words[start:end]),
            *([self.query] if self.query else []),
            is_split_into_words=True,
            truncation="only_first" if self.query else True,
            max_length=self.max_length,
            return_overflowing_tokens=True,
            return_attention_mask=False,
        )
        return self.named([self._window(encoding, k, start) for k in range(len(encoding["input_ids"]))])

    def _window(self, encoding: Any, k: int, start: int) -> Window:
        sequences = encoding.sequence_ids(k)  # 0: the document, 1: the query, None: a special token
        words = np.array(
            [
                start + word if sequence == 0 and word is not None else SPECIAL
                for word, sequence in zip(encoding.word_ids(k), sequences, strict=True)
            ],
            dtype=np.int64,
        )  # (n,)
        labels = np.zeros(len(words), dtype=bool)
        content = words != SPECIAL
        labels[content] = self.rationale[words[content]]
        types = encoding["token_type_ids"][k] if "token_type_ids" in encoding else None
        return Window(
            id=self.example.id,
            document=self.example.id,
            input_ids=np.array(encoding["input_ids"][k], dtype=np.int64),
            token_type_ids=None if types is None else np.array(types, dtype=np.int64),
            words=words,
            rationale=labels,
        )

    def named(self, windows: Sequence[Window]) -> list[Window]:
        """The windows numbered: the first has the document's id, the next ones "#1", "#2" after it."""
        name = self.example.id
        return [
            Window(
                id=name if k == 0 else f"{name}#{k}",
                document=name,
                input_ids=window.input_ids,
                token_type_ids=window.token_type_ids,
                words=window.words,
                rationale=window.rationale,
            )
            for k, window in enumerate(windows)
        ]


def _consecutive(cutter: _Cutter, pieces: NDArray[np.int64], room: int, *, whole_spans: bool) -> list[Window]:
    """Windows of whole words over the document; with `whole_spans`, those that hold a rationale, or the first."""
    every = list(_ranges(pieces, room, cutter.rationale if whole_spans else np.zeros(len(pieces), dtype=bool)))
    ranges = [part for part in every if cutter.rationale[slice(*part)].any()] if whole_spans else every

    def windows_of(parts: Sequence[tuple[int, int]]) -> Iterator[Window]:
        """Not of words without wordpieces."""
        windows = (window for start, end in parts for window in cutter.cut(start, end))
        return (window for window in windows if (~window.special).any())

    # A word longer than a window makes several, of which some may hold no marked piece.
    windows = [window for window in windows_of(ranges) if window.rationale.any() or not whole_spans]
    windows = windows or list(islice(windows_of(every), 1))
    return cutter.named(windows)


def _overhead(tokenizer: Any, query: Sequence[str]) -> int:
    """Wordpieces of an input that are not the document's."""
    if not query:
        return int(tokenizer.num_special_tokens_to_add())
    pieces = tokenized(tokenizer, list(query), is_split_into_words=True, add_special_tokens=False)["input_ids"]
    return int(tokenizer.num_special_tokens_to_add(pair=True)) + len(pieces)


def _pieces_per_word(example: AnnotatedDocument, tokenizer: Any) -> NDArray[np.int64]:
    """(W,) wordpieces of each word."""
    encoding = tokenized(
        tokenizer, list(example.words), is_split_into_words=True, add_special_tokens=False, verbose=False
    )  # verbose: no warning about a text longer than the model's input
    found = [word for word in encoding.word_ids(0) if word is not None]
    return np.bincount(np.array(found, dtype=np.int64), minlength=len(example.words))


def _ranges(pieces: NDArray[np.int64], room: int, rationale: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of words [start, end) with at most `room` wordpieces, cut as late as possible.

    A cut inside a rationale span moves to the span's beginning; the span is cut only if it begins the range and
    is longer than that. A single word longer than `room` gets a range of its own.
    """
    start, n_words = 0, len(pieces)
    totals = np.concatenate([[0], np.cumsum(pieces)])  # (W + 1,) wordpieces before each word
    while start < n_words:
        end = int(np.searchsorted(totals, totals[start] + room, side="right")) - 1
        end = max(end, start + 1)
        if end < n_words and rationale[end - 1] and rationale[end]:
            outside = np.flatnonzero(~rationale[start:end])
            if len(outside):
                end = start + int(outside[-1]) + 1
        yield start, end
        start = end


def _account(rationale: NDArray[np.bool_], has_pieces: NDArray[np.bool_], seen: Sequence[Window]) -> Account:
    in_view = words_of(seen, len(rationale))  # (W,)
    return Account(
        words=len(rationale),
        words_in_view=int(in_view.sum()),
        words_without_pieces=int((~has_pieces).sum()),
        rationale_words=int(rationale.sum()),
        rationale_words_in_view=int((in_view & rationale).sum()),
        rationale_words_without_pieces=int((~has_pieces & rationale).sum()),
    )
