from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler.errors import ArgumentError
from analysis.metrics.curves import RECALL_GRID, precision_at_recall

tied = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.5])), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(tied)
def test_equals_a_slow_reference(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = [p[0] for p in pairs], [p[1] for p in pairs]
    result = precision_at_recall(labels, scores)
    assert result.shape == (101,)
    if not any(labels):
        assert np.isnan(result).all()
        return
    points = []
    for threshold in set(scores):
        chosen = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        points.append((sum(chosen), sum(chosen) / len(chosen)))
    expected = [max(p for hits, p in points if hits * 100 >= g * sum(labels)) for g in range(101)]
    assert result == pytest.approx(expected)
    assert (np.diff(result) <= 0).all()


def test_by_hand() -> None:
    # recall 1/2 at precision 1, then 1 at 2/3
    assert precision_at_recall([1, 0, 1, 0], [0.4, 0.3, 0.2, 0.1], [0, 0.5, 0.51, 1]) == pytest.approx(
        [1, 1, 2 / 3, 2 / 3]
    )
    assert precision_at_recall([1, 0, 0, 0], [0.1] * 4) == pytest.approx(np.full(101, 0.25))
    assert precision_at_recall([0, 1], [-3.0, -1.0], [1.0]) == pytest.approx([1])


def test_bad_grid() -> None:
    assert RECALL_GRID[0] == 0 and RECALL_GRID[-1] == 1
    with pytest.raises(ArgumentError, match="grid: must be one-dimensional with values between 0 and 1"):
        precision_at_recall([1, 0], [0.1, 0.2], [0, 1.1])
