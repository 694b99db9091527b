"""Wordpiece scores -> word scores.

n wordpieces, W different words among them; scores (..., n)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError

AGGREGATIONS = ("none", "max", "mean", "sum")

_UFUNCS = {"max": np.maximum, "mean": np.add, "sum": np.add}


def check_aggregation(how: str) -> None:
    """ArgumentError for anything but one of AGGREGATIONS."""
    if how not in AGGREGATIONS:
        raise ArgumentError(f"aggregation: got {how!r}, allowed are {', '.join(AGGREGATIONS)}")


def aggregate(
    scores: NDArray[Any], words: NDArray[np.int64], *, how: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One score for each word: the max, mean or sum over its wordpieces; "none" gives back what it got.

    scores: (..., n); words: (n,) index of each wordpiece's word, in any order.

    Returns the scores (..., W) and the words (W,), in order of their first wordpiece.

    >>> scores, words = aggregate(np.array([0.1, 0.3, 0.6]), np.array([4, 4, 7]), how="mean")
    >>> scores.tolist(), words.tolist()
    ([0.2, 0.6], [4, 7])
    """
    check_aggregation(how)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape[-1] != len(words):
        raise ArgumentError(f"words: {len(words)} of them, scores have {values.shape[-1]} wordpieces")
    if how == "none" or len(words) == 0:
        return values, words
    order = np.argsort(words, kind="stable")  # a word that a window cut in two has its pieces apart
    ordered = words[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    result = _UFUNCS[how].reduceat(values[..., order], starts, axis=-1)  # (..., W)
    if how == "mean":
        result = result / np.diff(starts, append=len(words))
    first = np.argsort(order[starts], kind="stable")
    return np.asarray(result[..., first]), ordered[starts][first]
