from __future__ import annotations

from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler.data.sampling import balanced_indices, balanced_sample
from adapler.errors import ArgumentError


def test_sorted_input_gives_both_labels() -> None:
    """The first rows of such a file are all of one label."""
    labels = ["NEG"] * 50 + ["POS"] * 50
    chosen = balanced_indices(labels, 20, seed=1)
    assert Counter(labels[row] for row in chosen) == {"NEG": 10, "POS": 10}
    assert chosen == balanced_indices(labels, 20, seed=1) != balanced_indices(labels, 20, seed=2)


@pytest.mark.parametrize(
    ("counts", "n", "expected"),
    [
        ((10, 10, 10), 7, (3, 2, 2)),  # no multiple: the first label gives one more
        ((2, 10, 10), 12, (2, 5, 5)),  # too few rows: all of them, the rest is shared
        ((1, 2, 10), 9, (1, 2, 6)),
        ((10, 10), 1, (1, 0)),
        ((3, 4), 7, (3, 4)),
        ((3, 4), 100, (3, 4)),
    ],
)
def test_shares(counts: tuple[int, ...], n: int, expected: tuple[int, ...]) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    found = Counter(labels[row] for row in balanced_indices(labels, n, seed=0))
    assert tuple(found[label] for label in range(len(counts))) == expected


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), n=st.integers(1, 70), seed=st.integers(0, 9))
def test_properties(labels: list[int], n: int, seed: int) -> None:
    chosen = balanced_indices(labels, n, seed=seed)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(n, len(labels))
    assert set(chosen) <= set(balanced_indices(labels, n + 1, seed=seed))
    counts, given_rows = Counter(labels), Counter(labels[row] for row in chosen)
    unspent = [given_rows[label] for label in counts if given_rows[label] < counts[label]]
    assert not unspent or max(given_rows.values()) - min(unspent) <= 1


def test_a_data_set_keeps_its_order() -> None:
    dataset = Dataset.from_dict({"id": list("abcdefgh"), "label": [0, 0, 0, 0, 0, 1, 1, 1]})
    sample = balanced_sample(dataset, 4, seed=3)
    assert sorted(sample["label"]) == [0, 0, 1, 1] and list(sample["id"]) == sorted(sample["id"])
    assert list(balanced_sample(dataset, 8, seed=3)["id"]) == list("abcdefgh")
    with pytest.raises(ArgumentError, match="column: 'labels' is not in the data, which has id, label"):
        balanced_sample(dataset, 2, seed=0, column="labels")


def test_bad_numbers_and_the_example() -> None:
    with pytest.raises(ArgumentError, match="n: 0 is not at least 1"):
        balanced_indices([0, 1], 0, seed=0)
    with pytest.raises(ArgumentError, match="seed: -1 is not at least 0"):
        balanced_indices([0, 1], 1, seed=-1)
