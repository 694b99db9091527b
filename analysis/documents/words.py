"""Saved scores judged without a model: the documents' own words stand where wordpieces stand otherwise.

W words of a document
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.documents.windows import Account, Alignment, AnnotatedDocument, Window


class WordTokens:
    """In the place of a tokenizer: every word is one token, whole documents are in view, nothing is special."""

    mask_token_id = None

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def align(self, example: AnnotatedDocument) -> Alignment:
        """One window with the W words of a document."""
        for word in example.words:
            if word not in self._ids:
                self._ids[word] = len(self._words)
                self._words.append(word)
        rationale = np.asarray(example.rationale(), dtype=bool)  # (W,)
        n, marked = len(example.words), int(rationale.sum())
        window = Window(
            id=example.id,
            document=example.id,
            input_ids=np.array([self._ids[word] for word in example.words], dtype=np.int64),
            token_type_ids=None,
            words=np.arange(n, dtype=np.int64),
            rationale=rationale,
        )
        account = Account(words=n, words_in_view=n, rationale_words=marked, rationale_words_in_view=marked)
        return Alignment((window,), account)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The words of these ids."""
        return [self._words[i] for i in ids]
