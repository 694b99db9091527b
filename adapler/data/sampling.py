"""A smaller sample of labelled rows, with as many rows of one label as of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from adapler.errors import ArgumentError

__all__ = ["balanced_indices", "balanced_sample"]


def balanced_indices(labels: Sequence[Any], n: int, *, seed: int) -> list[int]:
    """Row numbers of a random sample that is balanced over the labels.

    Every label gives the same number of rows. Two things can prevent this:

    * A label has too few rows: it gives all it has, and the other labels share the rest equally.
    * `n` is no multiple of the number of labels: the first labels in sorted order give one row more.

    The rows within a label are drawn at random without replacement. The same arguments always give the same
    sample, and a smaller sample is part of every larger one with the same seed.

    Args:
        labels: the label of each row, all integers or all strings.
        n: how many rows; all rows when there are not more than `n`.
        seed: of the random draw, at least 0.

    Returns:
        min(n, len(labels)) different row numbers, counted from 0, in ascending order.

    Raises:
        ArgumentError: `n` is below 1, or `seed` below 0.

    >>> balanced_indices(["NEG", "NEG", "NEG", "NEG", "NEG", "POS"], 4, seed=0)
    [2, 3, 4, 5]
    """
    if n < 1:
        raise ArgumentError(f"n: {n} is not at least 1")
    if seed < 0:
        raise ArgumentError(f"seed: {seed} is not at least 0")
    if n >= len(labels):
        return list(range(len(labels)))
    _, label_of_row, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    random = np.random.default_rng(seed)
    chosen: list[int] = []
    for label, quota in enumerate(_quotas(counts.tolist(), n)):
        chosen += random.permutation(np.flatnonzero(label_of_row == label))[:quota].tolist()
    return sorted(chosen)


def balanced_sample(dataset: Dataset, n: int, *, seed: int, column: str = "label") -> Dataset:
    """A random sample of `n` rows of a data set, balanced over the labels, in the order of the data set.

    A label with fewer rows than its equal share gives all its rows, and the other labels share the rest. When
    the data set has not more than `n` rows, it is returned whole. See `balanced_indices` for the rule in full.

    Args:
        dataset: any, with the column of labels.
        n: how many rows, at least 1.
        seed: of the random draw, at least 0.
        column: the name of the label's column.

    Raises:
        ArgumentError: `n` is below 1, `seed` below 0, or the data set has no such column.
    """
    if column not in dataset.column_names:
        raise ArgumentError(f"column: {column!r} is not in the data, which has {', '.join(dataset.column_names)}")
    return dataset.select(balanced_indices(dataset[column][:], n, seed=seed))


def _quotas(counts: Sequence[int], n: int) -> list[int]:
    """How many rows each label gives, of the `counts` rows that it has; `n` in all, which is less than all rows."""
    quotas = [0] * len(counts)
    left = n
    while left:
        open_labels = [label for label, count in enumerate(counts) if quotas[label] < count]
        share = max(1, left // len(open_labels))
        for label in open_labels[:left]:
            given = min(share, counts[label] - quotas[label], left)
            quotas[label] += given
            left -= given
    return quotas
