"""The metrics of an evaluated point of training (an epoch, or a step), in hard mode. Dimensions: B rows, L layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adapler import flops
from adapler.training.selection import column_of, score_rows, selection_value


def point_metrics(
    model: Any,
    dataset: Any,
    *,
    predictions: Any,
    labels: Any,
    metric: str,
    reference: float | None,
    max_drop: float,
    target: float | None = None,
    speedup: Callable[[Any, Tensor, Tensor], float] | None = None,
) -> dict[str, Any]:
    """Score, speedup, mean lengths, eta (where the model has it) and the selection value.

    The score counts examples: the logits of an example's windows are averaged. Rows without labels have neither score
    nor selection value.

    Args:
        model: the AdapLeRForSequenceClassification that was evaluated.
        dataset: its rows, in their order.
        predictions: logits (B, labels) and the number of tokens that enter each layer (B, L); of a plain classifier
            the logits alone.
        labels: (B,); None: the rows have none.
        metric: "accuracy" or "f1", the score.
        reference, max_drop, target: of the selection rule, see `selection_value`.
        speedup: of the model, given true lengths (B,) and lengths; default: in FLOPs, see `flops.speedup`.

    Raises:
        ArgumentError: a streaming data set.
        TrainingError: the rows came back in another order.
    """
    lengths_in = torch.tensor([len(row) for row in column_of(dataset, "input_ids") or ()])  # (B,)
    if isinstance(predictions, tuple):
        logits, lengths = predictions[0], torch.as_tensor(predictions[1])  # (B, labels), (B, L)
    else:
        logits, lengths = predictions, lengths_in[:, None].expand(-1, model.config.num_hidden_layers)
    gain = flops.speedup(model.config, lengths_in, lengths) if speedup is None else speedup(model, lengths_in, lengths)
    eta = getattr(model, "eta", None)  # (L,)
    found = {
        "speedup": gain,
        "lengths": [round(float(n), 2) for n in lengths.double().mean(0)],
        **({} if eta is None else {"eta": [round(float(one), 4) for one in eta.detach()]}),
    }
    if labels is None:
        return found
    score = score_rows(dataset, logits, labels, metric=metric)
    value = selection_value(score, gain, reference=reference, max_drop=max_drop, target=target)
    return {metric: score, **found, "selection": value}
