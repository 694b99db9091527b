"""Evaluation of a classifier on encoded rows: score, FLOPs speedup and lengths, with and without removal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from adapler.backbones.families import check_task
from adapler.errors import ArgumentError, DataError
from adapler.flops import speedup
from adapler.inference import Predictions, predict_rows
from adapler.passes import check_finite


def score_predictions(predictions: ArrayLike, labels: ArrayLike, *, metric: str = "accuracy") -> float:
    """Accuracy, or F1 of class 1 (MRPC's), of (n,) predicted and true class indices.

    "agreement" is counted as accuracy is; `labels` are then another classifier's predictions.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if len(labels) == 0:
        raise ArgumentError("labels: no rows to score")
    if metric in ("accuracy", "agreement"):
        return float(accuracy_score(labels, predictions))
    if metric == "f1":
        return float(f1_score(labels, predictions, zero_division=0.0))
    raise ArgumentError(f"metric: {metric!r} is not 'accuracy' or 'f1'")


def by_example(values: Tensor, example_ids: Sequence[str]) -> tuple[list[str], Tensor]:
    """Mean of (rows, C) over the rows of each example (windows of a long document), in order of appearance."""
    order = {example: index for index, example in enumerate(dict.fromkeys(example_ids))}
    owner = torch.tensor([order[example] for example in example_ids])
    total = values.new_zeros(len(order), values.shape[1]).index_add_(0, owner, values)
    return list(order), total / owner.bincount()[:, None]


def check_labels(labels: Sequence[int], classes: int) -> None:
    """Raises DataError for the first label of a row that is none of the model's."""
    strange = next((label for label in labels if not 0 <= label < classes), None)
    if strange is not None:
        raise DataError(f"labels: {strange} found, but the model has {classes} labels, 0 to {classes - 1}")


def classify(predictions: Predictions, example_ids: Sequence[str]) -> list[int]:
    """The label of each example, in order of appearance; ArgumentError for logits that are not finite."""
    check_finite(predictions.logits)
    _, logits = by_example(predictions.logits, example_ids)
    return [int(label) for label in logits.argmax(-1)]


def score_by_example(
    logits: Tensor, labels: Sequence[int], example_ids: Sequence[str], *, metric: str = "accuracy"
) -> float:
    """Score of examples; the mean of the logits (rows, C) of an example's rows decides."""
    gold = dict(zip(example_ids, labels, strict=True))
    _, mean = by_example(logits.float(), example_ids)
    return score_predictions(mean.argmax(-1), list(gold.values()), metric=metric)


def classifier_score(classifier: Any, rows: Any, *, pad_token_id: int, metric: str = "accuracy") -> float:
    """Score of a plain classifier on encoded rows; arguments as of evaluate_rows.

    Raises:
        ArgumentError: it does not choose one of several labels (regression, multi-label), or its logits are not finite.
    """
    check_task(classifier.config)
    predictions = predict_rows(classifier, rows, pad_token_id=pad_token_id, progress="the classifier")
    check_finite(predictions.logits)
    return score_by_example(predictions.logits, rows["labels"], rows["example_id"], metric=metric)


def evaluate_rows(
    model: Any,
    rows: Any,
    *,
    pad_token_id: int,
    metric: str = "accuracy",
    threshold_scales: Sequence[float] = (1.0,),
    token_budget: int | None = None,
) -> dict[str, Any]:
    """Score the backbone alone and AdapLeR at each threshold scale, on encoded rows.

    Args:
        model: AdapLeR.
        rows: a `datasets.Dataset` of encoded rows with example_id and labels; windows of one example are averaged.
        pad_token_id: the tokenizer's.
        metric: "accuracy" or "f1".
        threshold_scales: factors on every eta.
        token_budget: padded tokens of a batch.

    Returns:
        JSON-ready: `none` (score) and `hard`, a list with threshold_scale, score, speedup (FLOPs, convention "paper"),
        speedup_executed (convention "executed"), lengths (means by layer), lengths_in (mean), agreement (share of
        examples classified as without removal).

    Raises:
        ArgumentError: logits that are not finite.
        DataError: labels outside the model's.
    """
    check_labels(rows["labels"], model.config.num_labels)
    options: dict[str, Any] = {"pad_token_id": pad_token_id, "token_budget": token_budget}
    plain = predict_rows(model, rows, progress="no removal", removal="none", **options)
    hard = []
    for scale in threshold_scales:
        title = f"hard removal, scale {scale:g}"
        found = predict_rows(model, rows, progress=title, removal="hard", threshold_scale=scale, **options)
        gain = partial(speedup, model.config, found.lengths_in, found.lengths)
        hard.append({"threshold_scale": scale, **compared(found, plain, rows, metric=metric, speedup=gain)})
    return summary(plain, rows, metric=metric, hard=hard)


def compared(
    found: Predictions, plain: Predictions, rows: Any, *, metric: str, speedup: Callable[..., float]
) -> dict[str, Any]:
    """Compare a reduced model's predictions with the whole model's, see `evaluate_rows`; `speedup` takes the
    convention."""
    owners = list(rows["example_id"])
    same = [a == b for a, b in zip(classify(found, owners), classify(plain, owners), strict=True)]
    return {
        "score": score_by_example(found.logits, rows["labels"], owners, metric=metric),
        "speedup": speedup(convention="paper"),
        "speedup_executed": speedup(convention="executed"),
        "lengths_in": float(found.lengths_in.double().mean()),
        "lengths": [float(n) for n in found.lengths.double().mean(0)],
        "agreement": sum(same) / len(same),
    }


def summary(plain: Predictions, rows: Any, *, metric: str, hard: list[dict[str, Any]]) -> dict[str, Any]:
    """The result of `evaluate_rows`, from the whole model's predictions and the reduced one's numbers."""
    owners = list(rows["example_id"])
    score = score_by_example(plain.logits, rows["labels"], owners, metric=metric)
    counts = {"examples": len(set(owners)), "rows": len(rows)}
    return {"metric": metric, **counts, "none": {"score": score}, "hard": hard}


def evaluation_table(result: dict[str, Any]) -> str:
    """The result of evaluate_rows as text."""
    import pandas as pd

    metric, rows = result["metric"], [{"removal": "none", result["metric"]: result["none"]["score"], "speedup": 1.0}]
    for row in result["hard"]:
        lengths = " ".join(f"{n:.0f}" for n in row["lengths"])
        rows.append(
            {
                "removal": "hard",
                "scale": f"{row['threshold_scale']:.4g}",
                **{name.replace("asked_", "asked for "): v for name, v in row.items() if name.startswith("asked_")},
                metric: row["score"],
                "speedup": row["speedup"],
                "executed": row["speedup_executed"],
                **({} if metric == "agreement" else {"agreement": row["agreement"]}),
                "mean tokens entering each layer": f"{row['lengths_in']:.0f} -> {lengths}",
            }
        )
    formats = dict.fromkeys(("speedup", "executed"), "{:.2f}x".format)
    table = pd.DataFrame(rows).to_string(index=False, na_rep="", float_format="{:.4f}".format, formatters=formats)
    return f"{table}\nspeedup: FLOPs, every layer whole (the paper's convention); executed: the last one for [CLS] only"
