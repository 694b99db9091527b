"""Evaluation of a classifier on encoded rows: score, FLOPs speedup and lengths, with and without removal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from adapler import flops
from adapler.backbones.families import check_task
from adapler.errors import ArgumentError, DataError
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
    teacher: Any = None,
    speedup: Callable[..., float] | None = None,
) -> dict[str, Any]:
    """Score the backbone alone and AdapLeR at each threshold scale, on encoded rows.

    Args:
        model: AdapLeR; or, with `teacher`, a plain classifier.
        rows: a `datasets.Dataset` of encoded rows with example_id and labels; windows of one example are averaged.
        pad_token_id: the tokenizer's.
        metric: "accuracy" or "f1".
        threshold_scales: factors on every eta.
        token_budget: padded tokens of a batch.
        teacher: the plain classifier that `none` is of, where the model has no removal of its own.
        speedup: (model, lengths in, lengths, convention=) -> speedup in FLOPs; default: see `flops.speedup`.

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
    owners, labels, removes, hard = list(rows["example_id"]), rows["labels"], teacher is None, []
    gain = speedup or (lambda model, *lengths, **how: flops.speedup(model.config, *lengths, **how))
    how: dict[str, Any] = {"removal": "none"} if removes else {}
    plain = predict_rows(teacher or model, rows, progress="no removal" if removes else "the teacher", **how, **options)
    labels_of_plain = classify(plain, owners)
    for scale in threshold_scales:
        how = {"removal": "hard", "threshold_scale": scale} if removes else {}
        title = f"hard removal, scale {scale:g}" if removes else "the student"
        found = predict_rows(model, rows, progress=title, **how, **options)
        same = [a == b for a, b in zip(classify(found, owners), labels_of_plain, strict=True)]
        hard.append(
            {
                "threshold_scale": scale,
                "score": score_by_example(found.logits, labels, owners, metric=metric),
                "speedup": gain(model, found.lengths_in, found.lengths, convention="paper"),
                "speedup_executed": gain(model, found.lengths_in, found.lengths, convention="executed"),
                "lengths_in": float(found.lengths_in.double().mean()),
                "lengths": [float(n) for n in found.lengths.double().mean(0)],
                "agreement": sum(same) / len(same),
            }
        )
    none = {"score": score_by_example(plain.logits, labels, owners, metric=metric)}
    return {"metric": metric, "examples": len(set(owners)), "rows": len(rows), "none": none, "hard": hard}


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
