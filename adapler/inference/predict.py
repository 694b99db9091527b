"""A classifier over any number of encoded rows: batches by length, outputs in the rows' order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import datasets
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from adapler.backbones.decomposition import evaluating
from adapler.errors import ArgumentError
from adapler.model.batching import batches_by_length, pad_rows, token_budget_for
from adapler.model.inference_copy import InferenceClassifier

CHUNK = 16_384  # rows of a large data set that are in memory at a time


@dataclass(frozen=True)
class Predictions:
    """Outputs over a data set, in its order.

    Attributes:
        logits: (n, C) float32.
        lengths_in: (n,) long, true lengths.
        lengths: (n, L) long, tokens that enter each layer (all of them for a plain classifier).
    """

    logits: Tensor
    lengths_in: Tensor
    lengths: Tensor


@torch.inference_mode()
def predict_rows(
    model: PreTrainedModel | InferenceClassifier,
    rows: Sequence[Mapping[str, Any]],
    *,
    pad_token_id: int,
    token_budget: int | None = None,
    progress: str | None = None,
    **arguments: Any,
) -> Predictions:
    """Run a classifier over encoded rows.

    Args:
        model: AdapLeR (takes `removal` and `threshold_scale` in `arguments`) or any transformers classifier.
        rows: with input_ids, attention_mask and, where the tokenizer makes them, token_type_ids.
        pad_token_id: the tokenizer's.
        token_budget: padded tokens in a batch; default: see adapler.model.batching.token_budget_for.
        progress: title of the progress bar; None for none.
        arguments: passed to the model.

    Raises:
        ArgumentError: no rows.
    """
    if not rows:
        raise ArgumentError("rows: nothing to predict")
    lengths_in = [len(row["input_ids"]) for row in rows]
    budget = token_budget_for(model.device) if token_budget is None else token_budget
    order: list[int] = []
    logits: list[Tensor] = []
    lengths: list[Tensor] = []
    if isinstance(model, PreTrainedModel):
        arguments = {"return_dict": True, **arguments}  # whatever its configuration says
    with evaluating(model), tqdm(total=len(rows), desc=progress, disable=progress is None, unit="text") as bar:
        for batch in batches_by_length(lengths_in, token_budget=budget):
            inputs = pad_rows([rows[row] for row in batch], pad_token_id=pad_token_id, device=model.device)
            output = model(**inputs, **arguments)
            per_layer = getattr(output, "lengths", None)
            if per_layer is None:
                per_layer = inputs["attention_mask"].sum(1, keepdim=True).expand(-1, model.config.num_hidden_layers)
            order += batch
            logits.append(output.logits.float().cpu())  # one transfer for the whole batch
            lengths.append(per_layer.cpu())
            bar.update(len(batch))
    place = torch.tensor(order).argsort()  # (n,) where each row is in the order of the batches
    return Predictions(
        logits=torch.cat(logits)[place], lengths_in=torch.tensor(lengths_in), lengths=torch.cat(lengths)[place]
    )


def _rows_of(inputs: datasets.Dataset, start: int) -> list[dict[str, Any]]:
    columns = inputs[start : start + CHUNK]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def predict_dataset(
    model: PreTrainedModel | InferenceClassifier, rows: datasets.Dataset, *, progress: str | None = None, **options: Any
) -> Predictions:
    """predict_rows of a data set that may be larger than the memory: CHUNK rows of it are in memory at a time.

    Args:
        model: as of predict_rows.
        rows: encoded; their columns of ids and labels are not read.
        progress: title of the progress bar of each chunk; None for none.
        options: the other arguments of predict_rows.

    Raises:
        ArgumentError: no rows.
    """
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = rows.select_columns([name for name in names if name in rows.column_names])
    found = [
        predict_rows(model, _rows_of(inputs, start), progress=progress, **options)
        for start in range(0, max(1, len(rows)), CHUNK)
    ]
    return Predictions(*(torch.cat([getattr(part, one.name) for part in found]) for one in fields(Predictions)))
