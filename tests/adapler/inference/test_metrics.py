from __future__ import annotations

import pytest

from adapler.errors import ArgumentError
from adapler.inference.metrics import score_predictions


def test_accuracy_and_f1_by_hand() -> None:
    predictions, labels = [1, 1, 0, 1, 2], [1, 0, 0, 1, 2]
    assert score_predictions(predictions, labels) == pytest.approx(4 / 5)
    # class 1: 2 true positives, 1 false positive, 1 false negative: 4 / (4 + 1 + 1)
    assert score_predictions([1, 1, 1, 0], [1, 1, 0, 1], metric="f1") == pytest.approx(4 / 6)
    assert score_predictions([0, 0], [0, 0], metric="f1") == 0


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="^metric: 'auc' is not 'accuracy' or 'f1'$"):
        score_predictions([1], [1], metric="auc")
    with pytest.raises(ArgumentError, match="^labels: no rows to score$"):
        score_predictions([], [])
