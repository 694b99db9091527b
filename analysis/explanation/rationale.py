"""A human rationale as people write it down -> one mark a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError, is_number
from analysis.documents.values import by_index


def word_mask(rationale: Sequence[Any] | NDArray[Any], n_words: int) -> NDArray[np.bool_]:
    """(n_words,) bool, True for the marked words.

    rationale: 0 or 1 (False or True) for each word; or spans `(start, end)` of words, the end not included; or the
        indices of the marked words, each once. A list of 0 and 1 that is as long as the text is always the first. A
        pandas Series goes by its index.

    Raises ArgumentError for anything else, and for a span or an index outside the text.

    >>> word_mask([0, 1, 1, 0], 4).tolist(), word_mask([(1, 3)], 4).tolist(), word_mask([1, 2], 4).tolist()
    ([False, True, True, False], [False, True, True, False], [False, True, True, False])
    """
    rationale = by_index(rationale, "rationale")
    is_pair = isinstance(rationale, tuple) and len(rationale) == 2
    if is_pair and n_words != 2 and all(is_number(one, whole=True) for one in rationale):  # of two words it is marks
        raise ArgumentError(f"rationale: {rationale}: one span is [{rationale}], two words are {list(rationale)}")
    try:
        values = np.asarray(rationale)
    except ValueError:  # rows of different length
        raise ArgumentError(_expected(rationale, n_words)) from None
    if values.size == 0:
        return np.zeros(n_words, dtype=np.bool_)
    if values.ndim == 2 and values.shape[1] == 2 and np.issubdtype(values.dtype, np.integer):
        return _from_spans([(int(start), int(end)) for start, end in values], n_words)
    if values.ndim != 1 or not (values.dtype == np.bool_ or np.issubdtype(values.dtype, np.number)):
        raise ArgumentError(_expected(rationale, n_words))
    marks = bool(np.isin(values, (0, 1)).all())
    if marks and len(values) == n_words:
        return values.astype(np.bool_)
    if values.dtype == np.bool_ or (marks and len(set(values.tolist())) < len(values)):
        raise ArgumentError(f"rationale: {len(values)} marks of 0 and 1, the text has {n_words} words")
    if not np.issubdtype(values.dtype, np.integer):
        raise ArgumentError(_expected(rationale, n_words))
    return _from_indices(values.tolist(), n_words)


def _from_spans(spans: Sequence[tuple[int, int]], n_words: int) -> NDArray[np.bool_]:
    mask = np.zeros(n_words, dtype=np.bool_)
    for start, end in spans:
        if not 0 <= start < end <= n_words:
            raise ArgumentError(f"rationale: span ({start}, {end}) is not within the text's words 0 to {n_words}")
        mask[start:end] = True
    return mask


def _from_indices(indices: Sequence[int], n_words: int) -> NDArray[np.bool_]:
    mask = np.zeros(n_words, dtype=np.bool_)
    for index in indices:
        if not 0 <= index < n_words:
            raise ArgumentError(f"rationale: word {index} is not among the text's, 0 to {n_words - 1}")
        if mask[index]:
            raise ArgumentError(f"rationale: word {index} is named twice")
        mask[index] = True
    return mask


def _expected(rationale: Any, n_words: int) -> str:
    return (
        f"rationale: got {str(rationale)[:60]!r}, must be 0 or 1 for each of the {n_words} words, "
        "spans (start, end) of words, or the marked words' indices"
    )
