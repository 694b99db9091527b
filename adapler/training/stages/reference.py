"""The score of a classifier that was fine-tuned elsewhere, which AdapLeR's epochs are compared with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from adapler.training.settings import Execution
from adapler.training.stages.evaluate import validation_score
from adapler.training.stages.predicted import load_fine_tuned
from adapler.training.stages.prepare import Prepared


def measured_score(classifier: str | Path, prepared: Prepared, *, execution: Execution) -> float:
    """Validation score of a classifier, computed as the score of an epoch is; prints it, and doubts one below chance.

    Raises:
        ArgumentError: an encoder without a trained head.
    """
    rows, metric = prepared.encoded["validation"], prepared.metric("validation")
    model = load_fine_tuned(classifier, prepared.task, execution=execution)
    score = validation_score(model, prepared, execution=execution)
    print(f"{classifier}: validation {metric} {score:.4f}")
    labels = list(dict(zip(rows["example_id"], rows["labels"], strict=True)).values())
    most = Counter(labels).most_common(1)[0][1] / len(labels)
    if metric == "accuracy" and score < most:
        print(
            f"note: that is below the most frequent label's share, {most:.4f}; it may number its labels in another "
            f"order than {', '.join(prepared.task.labels)} (id2label in its config.json says which)"
        )
    return score
