"""Scores of one text that were made elsewhere, as one more method.

W words of the text, n tokens of the window; L' rows, one a layer, or 1 for scores of the input
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.corpus import by_index
from analysis.eraser import Given
from analysis.explanation.result import MethodScores
from analysis.explanation.text import Text

SavedScores = Mapping[Any, float] | Sequence[Any] | NDArray[Any]


def saved_method(name: str, values: SavedScores, text: Text) -> MethodScores:
    """Saved scores as a method called `name`.

    values: (W,) or (L', W), a score for each word; (n,) or (L', n), a score for each token, special ones included;
        or a dictionary from words, by index or by name, to scores: the others score 0. A pandas Series goes by its
        index: as numbers in that order where it is 0 to its length, else as a dictionary.

    A word's score is every one of its tokens'. Scores of which none is negative become shares of the input that sum
    to 1, as the scores of a method; others are signed and stay as they are.

    Raises ArgumentError for another number of scores, a word that is not there or there twice, and scores that are
    not finite.
    """
    where = f"scores: {name!r}"
    n_words, n_tokens = len(text.words), len(text.tokens)
    values = _of_series(values, where)
    array = _from_mapping(values, text.words, where) if isinstance(values, Mapping) else _numbers(values, where)
    rows = array[None] if array.ndim == 1 else array  # (L', W) or (L', n)
    if rows.ndim != 2 or rows.shape[1] not in (n_words, n_tokens) or not len(rows):
        raise ArgumentError(
            f"{where} has the shape {array.shape}, must have a score for each of the {n_words} words, or of the "
            f"{n_tokens} tokens"
        )
    if n_words == n_tokens and text.window.special.any() and not isinstance(values, Mapping):
        raise ArgumentError(
            f"{where}: the text has as many words as tokens, {n_words}, so it is open which of them are scored; "
            "give {word index: score}"
        )
    if not np.isfinite(rows).all():
        raise ArgumentError(f"{where}: a score is NaN or infinite")
    signed = bool((rows < 0).any())
    if rows.shape[1] == n_words:
        (window,) = Given(name, {text.window.document: rows}, signed=signed).windows(
            text.window.document, [text.window]
        )
        scores = window.scores
    else:
        total = rows.sum(axis=1, keepdims=True)
        nothing = np.zeros_like(rows)  # a layer that marks nothing selects nothing
        scores = rows if signed else np.divide(rows, total, out=nothing, where=total > 0)
    return MethodScores(
        name=name,
        title=name,
        scope="saved scores",
        target=None,
        scores=scores,
        signed=signed,
        layerwise=array.ndim == 2,
        of_words=rows.shape[1] == n_words,
    )


def _of_series(values: SavedScores, where: str) -> SavedScores:
    if not isinstance(values, pd.Series):
        return values
    if not values.index.is_unique:
        raise ArgumentError(
            f"{where}: the index of the Series names {str(values.index[values.index.duplicated()][0])!r} twice"
        )
    ordered = set(values.index) == set(range(len(values)))
    return by_index(values, where) if ordered else values.to_dict()


def _from_mapping(values: Mapping[Any, float], words: Sequence[str], where: str) -> NDArray[np.float64]:
    array = np.zeros(len(words))
    for key, score in values.items():
        if isinstance(key, str):
            found = [index for index, word in enumerate(words) if word == key]
            if len(found) != 1:
                often = f"{len(found)} times" if found else "not"
                raise ArgumentError(f"{where}: the word {key!r} is {often} in the text; name words by index then")
            array[found[0]] = _number(score, where)
        elif isinstance(key, int | np.integer) and 0 <= key < len(words):
            array[int(key)] = _number(score, where)
        else:
            raise ArgumentError(f"{where}: {key!r} is no word, nor one of the indices 0 to {len(words) - 1}")
    return array


def _number(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"{where}: {value!r} is no number") from None


def _numbers(values: Any, where: str) -> NDArray[np.float64]:
    values = values.detach().cpu().double() if isinstance(values, Tensor) else values  # numpy has no bfloat16
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: torch's, of a list of tensors with gradients
        raise ArgumentError(f"{where} must be numbers, in rows of one length") from None
