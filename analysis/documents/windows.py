"""What the model is shown of a document, and the account of what it is not shown.

W words of the document, n wordpieces of one window (special tokens included)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SPECIAL = -1  # the word index of a token that is no word of the document


class AnnotatedDocument(Protocol):
    """What `align` reads of a document; `adapler.eraser.EraserExample` is one. `query` is optional."""

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
    words           (n,) int64, index of the word a wordpiece comes from; -1 for a special token and for the
                    wordpieces of a query, which nobody annotated
    rationale       (n,) bool, the wordpiece's word is in a human rationale; False where words is -1
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
        """(n,) bool, True for the tokens that are not the document's: the tokenizer's own, and the query's."""
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
    """The windows of one document that the policy shows, at least one, and the account of what it hides."""

    windows: tuple[Window, ...]
    account: Account


def words_of(windows: Sequence[Window], n_words: int) -> NDArray[np.bool_]:
    """(W,) bool, the words with a wordpiece in one of the windows."""
    found = np.zeros(n_words, dtype=bool)
    for window in windows:
        found[window.words[~window.special]] = True
    return found
