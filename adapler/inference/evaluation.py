"""Evaluation of a saved model on a split: score, FLOPs speedup, lengths, and the trade-off over threshold scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import check_task
from adapler.errors import DataError
from adapler.flops import speedup
from adapler.inference.metrics import score_predictions
from adapler.inference.predict import Predictions, predict_dataset
from adapler.model.inference_copy import InferenceClassifier
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.outputs import check_finite


def by_example(values: Tensor, example_ids: Sequence[str]) -> tuple[list[str], Tensor]:
    """Mean of (rows, C) over the rows of each example (windows of a long document), in order of appearance."""
    order = {example: number for number, example in enumerate(dict.fromkeys(example_ids))}
    owner = torch.tensor([order[example] for example in example_ids])
    total = values.new_zeros(len(order), values.shape[1]).index_add_(0, owner, values)
    return list(order), total / owner.bincount()[:, None]


def check_labels(labels: Sequence[int], classes: int) -> None:
    """Raises DataError for the first label of a row that is none of the model's."""
    strange = next((label for label in labels if not 0 <= label < classes), None)
    if strange is not None:
        raise DataError(f"labels: {strange} found, but the model has {classes} labels, 0 to {classes - 1}")


def classify(predictions: Predictions, example_ids: Sequence[str]) -> list[int]:
    """The label of each example, in order of appearance.

    Raises:
        ArgumentError: logits that are not finite, of which the first label would be made.
    """
    check_finite(predictions.logits)
    _, logits = by_example(predictions.logits, example_ids)
    return [int(label) for label in logits.argmax(-1)]


def score_by_example(
    logits: Tensor, labels: Sequence[int], example_ids: Sequence[str], *, metric: str = "accuracy"
) -> float:
    """Score of examples; the mean of the logits of an example's rows (windows of a long document) decides its label.

    Training, the reference score of a classifier and evaluation all count with this function.

    Args:
        logits: (rows, C).
        labels: true class of each row.
        example_ids: whose row it is.
        metric: "accuracy" or "f1".
    """
    gold = dict(zip(example_ids, labels, strict=True))
    _, mean = by_example(logits.float(), example_ids)
    return score_predictions(mean.argmax(-1), list(gold.values()), metric=metric)


def classifier_score(
    classifier: PreTrainedModel | InferenceClassifier,
    rows: datasets.Dataset,
    *,
    pad_token_id: int,
    metric: str = "accuracy",
) -> float:
    """Score of a plain classifier on encoded rows; arguments as of evaluate_rows.

    Raises:
        ArgumentError: a classifier that does not choose one of several labels (regression, multi-label), or whose
            logits are not finite.
    """
    check_task(classifier.config)
    predictions = predict_dataset(classifier, rows, pad_token_id=pad_token_id, progress="the classifier")
    check_finite(predictions.logits)
    return score_by_example(predictions.logits, rows["labels"], rows["example_id"], metric=metric)


def evaluate_rows(
    model: AdapLeRForSequenceClassification,
    rows: datasets.Dataset,
    *,
    pad_token_id: int,
    metric: str = "accuracy",
    threshold_scales: Sequence[float] = (1.0,),
    token_budget: int | None = None,
) -> dict[str, Any]:
    """Score the backbone alone and AdapLeR at each threshold scale, on encoded rows.

    Args:
        model: AdapLeR.
        rows: encoded, with example_id and labels; windows of one example are averaged.
        pad_token_id: the tokenizer's.
        metric: "accuracy" or "f1".
        threshold_scales: factors on every eta.
        token_budget: padded tokens in a batch.

    Returns:
        JSON-ready: `none` (score) and `hard`, a list with threshold_scale, score, speedup (FLOPs, convention "paper"),
        speedup_executed (convention "executed"), lengths (means by layer), lengths_in (mean), agreement (share of
        examples classified as without removal).

    Raises:
        ArgumentError: logits that are not finite.
        DataError: labels outside the model's.
    """
    labels = rows["labels"]
    check_labels(labels, model.config.num_labels)
    owners = list(rows["example_id"])
    number = len(set(owners))

    options: dict[str, Any] = {"pad_token_id": pad_token_id, "token_budget": token_budget}
    unreduced = predict_dataset(model, rows, progress="no removal", removal="none", **options)
    baseline = classify(unreduced, owners)
    result: dict[str, Any] = {
        "metric": metric,
        "examples": number,
        "rows": len(rows),
        "none": {"score": score_by_example(unreduced.logits, labels, owners, metric=metric)},
        "hard": [],
    }
    for scale in threshold_scales:
        title = f"hard removal, scale {scale:g}"
        predictions = predict_dataset(model, rows, progress=title, removal="hard", threshold_scale=scale, **options)
        labels_out = classify(predictions, owners)
        result["hard"].append(
            {
                "threshold_scale": scale,
                "score": score_by_example(predictions.logits, labels, owners, metric=metric),
                "speedup": speedup(model.config, predictions.lengths_in, predictions.lengths),
                "speedup_executed": speedup(
                    model.config, predictions.lengths_in, predictions.lengths, convention="executed"
                ),
                "lengths_in": float(predictions.lengths_in.double().mean()),
                "lengths": [float(n) for n in predictions.lengths.double().mean(0)],
                "agreement": sum(a == b for a, b in zip(labels_out, baseline, strict=True)) / number,
            }
        )
    return result


def evaluation_table(result: dict[str, Any]) -> str:
    """The result of evaluate_rows as text. A score that is itself an agreement stands there once."""
    metric = result["metric"]
    asked = any(_asked(row) for row in result["hard"])
    beside = metric != "agreement"
    scales = [f"{row['threshold_scale']:.4g}" for row in result["hard"]]
    width = max([7, *(len(scale) + 1 for scale in scales)])  # a scale that a target found may be .0001665
    target = 10 if asked else 0
    lines = [
        f"{'removal':<12}{'scale':>{width}}{metric:>11}{'asked for' if asked else '':>{target}}"
        f"{'speedup':>10}{'  agreement' if beside else ''}  mean tokens entering each layer",
        f"{'none':<12}{'':>{width}}{result['none']['score']:>11.4f}{'':>{target}}{'1.00x':>10}",
    ]
    for row, scale in zip(result["hard"], scales, strict=True):
        lengths = " ".join(f"{n:.0f}" for n in row["lengths"])
        lines.append(
            f"{'hard':<12}{scale:>{width}}{row['score']:>11.4f}"
            + f"{_asked(row):>{target}}"
            + f"{row['speedup']:>9.2f}x"
            + (f"{row['agreement']:>11.3f}" if beside else "")
            + f"  {row['lengths_in']:.0f} -> {lengths}"
        )
    executed = ", ".join(f"{row['speedup_executed']:.2f}x" for row in result["hard"])
    lines.append(
        f"speedup: FLOPs, every layer whole (the paper's convention); as executed, the last one for [CLS]: {executed}"
    )
    return "\n".join(lines)


def _asked(row: dict[str, Any]) -> str:
    """The target that a row was made for, "" when there is none."""
    kinds = {"asked_speedup": "{:.2f}x", "asked_max_drop": "{:g}", "asked_milliseconds": "{:g} ms"}
    values = {**row, "asked_max_drop": 0 - row["asked_max_drop"]} if "asked_max_drop" in row else row  # no -0
    return next((form.format(values[name]) for name, form in kinds.items() if name in row), "")
