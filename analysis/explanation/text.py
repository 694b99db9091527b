"""A text as the model reads it: a string, a pair of strings, or a list of words -> one window of wordpieces.

    W words of the text, n wordpieces of the window (special tokens included)

A string goes to the tokenizer as it is, as in transformers' own pipeline; its words are what stands between white
space. Of a pair of strings both texts are scored, the words of the second after those of the first. A list goes word
by word, as the documents of an evaluation do; a second text beside it is a query, whose wordpieces count as special.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from adapler.text import tokenized
from analysis.alignment import SPECIAL, Window, WordTokens, align, words_of
from analysis.tokens import readable_tokens

Source = str | Sequence[str] | tuple[str | Sequence[str], str]


@dataclass(frozen=True, eq=False)
class Text:
    """window: what the model is given; tokens: its n wordpieces; words: all W words of the text, also those beyond
    the model's length; note: what was left out, or ""."""

    window: Window
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class _Document:
    """What `align` reads of a document; nobody has marked a rationale in it."""

    id: str
    words: tuple[str, ...]
    query: str

    def rationale(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.words), dtype=np.bool_)


MOST_IN_A_WORD = 3  # parts between white space, of a name such as "New York City"


def split_source(text: Source) -> tuple[str | tuple[str, ...], str]:
    """(the text as a string or as words, the second text of a pair or "").

    Raises ArgumentError for an empty text, for a list of texts, and for anything but a string, a pair (text, query) or
    a list of words.

    >>> split_source("so dull .")
    ('so dull .', '')
    >>> split_source((["so", "dull"], "how is it ?"))
    (('so', 'dull'), 'how is it ?')
    """
    query = ""
    if isinstance(text, tuple):
        if len(text) != 2 or not isinstance(text[1], str) or not isinstance(text[0], str | list | tuple):
            raise ArgumentError(
                f"text: a tuple must be a pair (text, query), got {len(text)} values; give words as a list"
            )
        text, query = text
        if not query.strip():
            raise ArgumentError("text: the second text of the pair is empty")
        _check_text(query)
    if isinstance(text, str):
        if not text.strip():
            raise ArgumentError("text: is empty or white space")
        _check_text(text)
        return text, query
    if not isinstance(text, list | tuple) or not all(isinstance(word, str) for word in text):
        raise ArgumentError(
            f"text: got {type(text).__name__}, must be a string, a pair (text, query) or a list of words"
        )
    if not text:
        raise ArgumentError("text: has no words")
    _check_text(" ".join(text))
    if blank := [index for index, word in enumerate(text) if not word.strip()]:
        raise ArgumentError(f"text: word {blank[0]} is empty or white space")
    texts = [word for word in text if len(word.split()) > MOST_IN_A_WORD]
    if texts or all(len(word.split()) > 1 for word in text):  # texts, which would be read as one of that many words
        raise ArgumentError(
            f"text: a list is one text, word by word, and {(texts or text)[0][:40]!r} in this one holds white space; "
            "give one text, as a string"
        )
    return tuple(text), query


def _check_text(text: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ArgumentError("text: holds half of a surrogate pair, which is not text")


def read_text(text: Source, tokenizer: Any, *, max_length: int, name: str = "text") -> Text:
    """The window of at most `max_length` wordpieces that the model reads of a text.

    tokenizer: a fast transformers tokenizer, or None: then every word is one token and there is no special one.
    name: the document's id, from which the methods that draw take their seed.

    Raises ArgumentError for a text without a wordpiece, a second text that leaves no room for the first, and a
    tokenizer that is slow or puts no special token first.
    """
    first, query = split_source(text)
    words = tuple(first.split()) if isinstance(first, str) else first
    if tokenizer is None:
        if query:
            raise ArgumentError("text: a pair needs a tokenizer; give model= or tokenizer=")
        return Text(align(_Document(name, words, ""), WordTokens()).windows[0], words, words, "")
    if isinstance(first, str):
        window, cut = _plain(first, query, tokenizer, max_length, name)
        seen, lost = words_of([window], len(words) + len(query.split()))[: len(words)], 0
        if cut:  # words after the last one in view; a word without a wordpiece is not lost
            lost = len(words) - 1 - int(np.flatnonzero(seen).max())
    else:
        found = align(_Document(name, words, query), tokenizer, max_length=max_length, with_query=bool(query))
        seen = found.coverage["words_in_view"] + found.coverage["words_without_pieces"]
        window, lost = found.windows[0], len(words) - seen
        cut = lost > 0
    note, n_first = "", len(words)
    words += tuple(query.split()) if isinstance(first, str) else ()
    if cut:
        note = (
            f"the text is longer than the input: the model reads {len(window)} wordpieces of it, "
            f"{lost} of its {n_first} words are left out"
        )
    return Text(window, readable_tokens(tokenizer, window.input_ids.tolist()), words, note)


def _plain(text: str, query: str, tokenizer: Any, max_length: int, name: str) -> tuple[Window, bool]:
    """The window of a string, and whether it holds only the text's beginning."""
    if not getattr(tokenizer, "is_fast", False):
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} cannot say where in the text a wordpiece comes from; "
            "a fast tokenizer (is_fast) is needed"
        )
    room = max_length - _overhead(tokenizer, query)
    if room < 1 and query:
        pieces = max_length - room - int(tokenizer.num_special_tokens_to_add(pair=True))
        raise ArgumentError(
            f"max_length: {max_length} tokens are read, and the second text of the pair has {pieces} wordpieces, which "
            "leaves none for the first"
        )
    if room < 1:
        raise ArgumentError(
            f"max_length: got {max_length}, must be at least {max_length - room + 1} with this tokenizer"
        )
    encoding = tokenized(
        tokenizer,
        text,
        *([query] if query else []),
        truncation="only_first" if query else True,
        max_length=max_length,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    sequences, offsets = encoding.sequence_ids(0), encoding["offset_mapping"]
    words = np.full(len(offsets), SPECIAL, dtype=np.int64)  # (n,)
    of_text = [token for token, sequence in enumerate(sequences) if sequence == 0]
    words[of_text] = word_indices(text, [offsets[token] for token in of_text])
    of_second = [token for token, sequence in enumerate(sequences) if sequence == 1]
    if of_second:
        second = word_indices(query, [offsets[token] for token in of_second])
        words[of_second] = [len(text.split()) + word for word in second]
    if not of_text:
        raise ArgumentError("text: gives no wordpiece")
    if words[0] != SPECIAL:
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} puts no special token first; the classification token is read there"
        )
    types = encoding["token_type_ids"] if "token_type_ids" in encoding else None
    window = Window(
        id=name,
        document=name,
        input_ids=np.array(encoding["input_ids"], dtype=np.int64),
        token_type_ids=None if types is None else np.array(types, dtype=np.int64),
        words=words,
        rationale=np.zeros(len(words), dtype=np.bool_),
    )
    return window, bool(encoding.encodings[0].overflowing)


def _overhead(tokenizer: Any, query: str) -> int:
    """Wordpieces of an input that are not the text's."""
    if not query:
        return int(tokenizer.num_special_tokens_to_add())
    # Its length is for us to judge.
    pieces = tokenized(tokenizer, query, add_special_tokens=False, verbose=False)["input_ids"]
    if not pieces:
        raise ArgumentError("text: the second text of the pair gives no wordpiece")
    return int(tokenizer.num_special_tokens_to_add(pair=True)) + len(pieces)


def word_indices(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The word, between white space, that each range of characters lies in.

    A range that begins with the space before its word (SentencePiece, byte-level BPE) belongs to that word.
    """
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    found = []
    for start, end in offsets:
        inside = len(text[start:end]) - len(text[start:end].lstrip())
        first = start + inside if inside < end - start else start
        found.append(min(int(np.searchsorted(ends, first, side="right")), len(ends) - 1))
    return found
