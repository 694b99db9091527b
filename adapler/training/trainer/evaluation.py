"""The metrics of an evaluated point of training (an epoch, or a step), in hard mode. Dimensions: B rows, L layers."""

from __future__ import annotations

from typing import Any

import torch

from adapler.model.flops import speedup
from adapler.training.selection import column_of, score_rows, selection_value


def point_metrics(
    model: Any,
    dataset: Any,
    *,
    predictions: tuple[Any, Any],
    labels: Any,
    metric: str,
    reference: float | None,
    max_drop: float,
    target: float | None,
) -> dict[str, Any]:
    """Score, speedup, mean lengths, eta and the selection value.

    The score counts examples: the logits of an example's windows are averaged.

    Args:
        model: the AdapLeRForSequenceClassification that was evaluated.
        dataset: its rows, in their order.
        predictions: logits (B, labels) and the number of tokens that enter each layer (B, L).
        labels: (B,).
        metric: "accuracy" or "f1", the score.
        reference, max_drop, target: of the selection rule, see `selection_value`.

    Raises:
        ArgumentError: a streaming data set.
        TrainingError: the rows came back in another order.
    """
    logits, lengths = predictions[0], torch.as_tensor(predictions[1])  # (B, labels), (B, L)
    lengths_in = torch.tensor([len(row) for row in column_of(dataset, "input_ids") or ()])  # (B,)
    score = score_rows(dataset, logits, labels, metric=metric)
    gain = speedup(model.config, lengths_in, lengths)
    return {
        metric: score,
        "speedup": gain,
        "lengths": [round(float(n), 2) for n in lengths.double().mean(0)],
        "eta": [round(float(eta), 4) for eta in model.eta.detach()],  # (L,)
        "selection": selection_value(score, gain, reference=reference, max_drop=max_drop, target=target),
    }
