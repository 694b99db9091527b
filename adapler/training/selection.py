"""What an epoch is judged by: the score of its examples, and the rule that selects one, as one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from adapler.errors import ArgumentError, TrainingError
from adapler.evaluation import score_by_example


def column_of(dataset: Any, name: str) -> list[Any] | None:
    """A column of a data set as a list; None when its rows have no such field.

    Raises:
        ArgumentError: a data set without a length, which can be read only once.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        kind = type(dataset).__name__
        raise ArgumentError(f"eval_dataset: {kind} can be streamed only; evaluation needs rows that can be counted")
    if hasattr(dataset, "column_names"):
        return list(dataset[name]) if name in dataset.column_names else None
    rows = [dataset[number] for number in range(len(dataset))]
    return [row[name] for row in rows] if rows and name in rows[0] else None


def score_rows(dataset: Any, logits: ArrayLike, labels: ArrayLike, *, metric: str) -> float:
    """Score of the examples of a data set; its `example_id` says which rows are windows of one example.

    Raises:
        TrainingError: the labels are not those of the data set's rows, so the rows are in another order.
    """
    examples = column_of(dataset, "example_id")
    true: list[int] = np.asarray(labels).tolist()
    own = column_of(dataset, "labels")
    if own is not None and [int(label) for label in own] != true:
        raise TrainingError("evaluation: the rows came back in another order, so they cannot be told apart")
    names = list(map(str, range(len(true)))) if examples is None else examples
    return score_by_example(torch.as_tensor(logits), true, names, metric=metric)


NEAR_TARGET = 0.1  # how far from a target speedup a point may be, as a share of it
CLOSE = 0.01  # and after the last step, see `reach`, before it is said


def is_near(gain: float, target: float) -> bool:
    """Whether a speedup is within 10 % of a target, up to a rounding error."""
    return abs(gain - target) <= (NEAR_TARGET + 1e-9) * target


def shortfall(record: Mapping[str, Any]) -> str:
    """What the record of a trained model says that it did not reach; empty where it is all that was asked for."""
    target = record.get("objectives", {}).get("target_speedup")
    if target is None:
        missed = "no epoch is within the allowed drop of the fine-tuned model: the best validation score was kept"
        return "" if record["qualified"] else missed
    nearest = record.get("reached", record["selected"])["speedup"]
    if abs(nearest - target) <= (CLOSE + 1e-9) * target:
        return ""
    return f"{target:g}x was not found: the nearest speedup, {nearest:.2f}x, was kept"


def selection_value(
    score: float, gain: float, *, reference: float | None, max_drop: float, target: float | None = None
) -> float:
    """A number whose maximum over the evaluated points (epochs, or steps) is the selection rule.

    Without a target: among the points whose validation score is at most `max_drop` below the fine-tuned model's, the
    one with the highest FLOPs speedup. When none qualifies, the one with the best score, of equal ones the fastest.

    With a target: among the points whose speedup is within 10 % of it, the one with the best score, of equal ones
    the fastest. When none qualifies, the one whose speedup is nearest to it.

    A point that qualifies has a value above 1, another one a value of at most 1.

    Args:
        score: on validation, 0 to 1.
        gain: FLOPs speedup on validation, above 0.
        reference: score of the fine-tuned model; None: without a target no point qualifies.
        max_drop: not used with a target.
        target: speedup that training aims at.
    """
    if target is not None:
        return 1 + score + 1e-9 * gain if is_near(gain, target) else min(gain / target, target / gain)
    # A tolerance in the last digits: .865 - .855 is not to fail for a rounding error.
    qualifies = reference is not None and score >= reference - max_drop - 1e-9
    return 1 + gain if qualifies else score - 1e-9 / gain
