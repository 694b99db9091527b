"""Words and rationales of an ERASER document -> wordpieces, by index.

    W words of the document, n wordpieces of one window (special tokens included)

Nothing is ever looked up by its text: the tokenizer gets the words as they are and says which word each
wordpiece comes from. A document longer than the model's input is cut into windows; the policy says which
windows are seen, and the account says what the others would have held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError

SPECIAL = -1  # the word index of a special token


class AnnotatedDocument(Protocol):
    """What `align` reads of a document; `adapler.data.eraser.EraserExample` is one."""

    @property
    def id(self) -> str: ...

    @property
    def words(self) -> tuple[str, ...]: ...

    def rationale(self) -> NDArray[np.bool_]: ...


@dataclass(frozen=True, eq=False)
class Window:
    """One model input cut from one document.

    input_ids       (n,) int64, special tokens included
    token_type_ids  (n,) int64, or None if the tokenizer makes none
    words           (n,) int64, index of the word a wordpiece comes from; -1 for a special token
    rationale       (n,) bool, the wordpiece's word is in a human rationale; False for a special token
    """

    id: str
    document: str
    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64] | None
    words: NDArray[np.int64]
    rationale: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def special(self) -> NDArray[np.bool_]:
        """(n,) bool, True for the tokens that the tokenizer added."""
        return np.asarray(self.words == SPECIAL)


@dataclass(frozen=True)
class Account:
    """How much of one document (or, summed with `+`, of many) the policy shows to the model.

    A word is in view when at least one of its wordpieces is. A word that gives no wordpiece at all (a control
    character, say) is neither in view nor lost.
    """

    words: int = 0
    words_in_view: int = 0
    words_without_pieces: int = 0
    rationale_words: int = 0
    rationale_words_in_view: int = 0
    rationale_words_without_pieces: int = 0

    def __add__(self, other: Account) -> Account:
        mine, theirs = asdict(self), asdict(other)
        return Account(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def words_lost(self) -> int:
        return self.words - self.words_in_view - self.words_without_pieces

    @property
    def rationale_words_lost(self) -> int:
        return self.rationale_words - self.rationale_words_in_view - self.rationale_words_without_pieces

    def to_dict(self) -> dict[str, int]:
        return asdict(self) | {
            "words_lost": self.words_lost,
            "rationale_words_lost": self.rationale_words_lost,
        }


@dataclass(frozen=True, eq=False)
class Alignment:
    """The windows of one document that the policy shows, and the account of what it hides."""

    windows: tuple[Window, ...]
    account: Account


# A policy picks from all consecutive windows of a document the ones that are seen.
_POLICIES: dict[str, Callable[[Sequence[Window]], Sequence[Window]]] = {
    "truncate": lambda windows: windows[:1],
}
POLICIES = tuple(_POLICIES)


def align(example: AnnotatedDocument, tokenizer: Any, *, max_length: int = 512, policy: str = "truncate") -> Alignment:
    """Cut a document into windows of at most `max_length` wordpieces and label each wordpiece.

    tokenizer: a fast transformers tokenizer; its own special tokens are used, the first of which is where a
        classifier reads.
    policy: "truncate" shows the first window.

    Raises ArgumentError for an unknown policy, a window too short to hold a word, a tokenizer that cannot say
    which word a wordpiece comes from or that starts with no special token, and a rationale as long as no
    text.
    """
    if policy not in _POLICIES:
        raise ArgumentError(f"policy: got {policy!r}, allowed are {', '.join(POLICIES)}")
    if not getattr(tokenizer, "is_fast", False):
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} cannot say which word a wordpiece comes from; "
            "a fast tokenizer (is_fast) is needed"
        )
    shortest = tokenizer.num_special_tokens_to_add() + 1
    if max_length < shortest:
        raise ArgumentError(f"max_length: got {max_length}, must be at least {shortest} with this tokenizer")
    rationale = np.asarray(example.rationale(), dtype=bool)  # (W,)
    if len(rationale) != len(example.words):
        raise ArgumentError(
            f"document {example.id}: the rationale covers {len(rationale)} words, the text has {len(example.words)}"
        )
    every = _windows(example, tokenizer, max_length, rationale)
    if every[0].words[0] != SPECIAL:
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} puts no special token first; the classification token is read there"
        )
    seen = tuple(_POLICIES[policy](every))
    return Alignment(seen, _account(rationale, every, seen))


def _windows(example: AnnotatedDocument, tokenizer: Any, max_length: int, rationale: NDArray[np.bool_]) -> list[Window]:
    encoding = tokenizer(
        list(example.words),
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,
        return_attention_mask=False,
    )
    windows = []
    for k, ids in enumerate(encoding["input_ids"]):
        words = np.array([SPECIAL if word is None else word for word in encoding.word_ids(k)], dtype=np.int64)  # (n,)
        labels = np.zeros(len(words), dtype=bool)
        content = words != SPECIAL
        labels[content] = rationale[words[content]]
        types = encoding["token_type_ids"][k] if "token_type_ids" in encoding else None
        windows.append(
            Window(
                id=example.id if k == 0 else f"{example.id}#{k}",
                document=example.id,
                input_ids=np.array(ids, dtype=np.int64),
                token_type_ids=None if types is None else np.array(types, dtype=np.int64),
                words=words,
                rationale=labels,
            )
        )
    return windows


def _account(rationale: NDArray[np.bool_], every: Sequence[Window], seen: Sequence[Window]) -> Account:
    has_pieces = _words_of(every, len(rationale))  # (W,)
    in_view = _words_of(seen, len(rationale))  # (W,)
    return Account(
        words=len(rationale),
        words_in_view=int(in_view.sum()),
        words_without_pieces=int((~has_pieces).sum()),
        rationale_words=int(rationale.sum()),
        rationale_words_in_view=int((in_view & rationale).sum()),
        rationale_words_without_pieces=int((~has_pieces & rationale).sum()),
    )


def _words_of(windows: Sequence[Window], n_words: int) -> NDArray[np.bool_]:
    found = np.zeros(n_words, dtype=bool)
    for window in windows:
        found[window.words[window.words != SPECIAL]] = True
    return found
