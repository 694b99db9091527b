"""Prediction on any number of texts: sorted by length, packed under a token budget, order restored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from adapler import backbones
from adapler.errors import ArgumentError

TOKEN_BUDGET = 8192


def batches_by_length(lengths: Sequence[int], *, token_budget: int = TOKEN_BUDGET) -> Iterator[list[int]]:
    """Row numbers in batches of similar length, longest first, at most `token_budget` padded tokens each
    (a row longer than that gets a batch of its own).

    Raises:
        ArgumentError: the budget is below 1.
    """
    if token_budget < 1:
        raise ArgumentError(f"token_budget: {token_budget} is not at least 1")
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > token_budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def pad_rows(rows: Sequence[Mapping[str, Any]], *, pad_token_id: int, device: torch.device) -> dict[str, Tensor]:
    """Encoded rows -> padded tensors (B, N), padding on the right."""
    width = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return {
        name: torch.tensor(
            [list(row[name]) + [value] * (width - len(row[name])) for row in rows], dtype=torch.long, device=device
        )
        for name, value in fill.items()
        if name in rows[0]
    }


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
    model: PreTrainedModel,
    rows: Sequence[Mapping[str, Any]],
    *,
    pad_token_id: int,
    token_budget: int = TOKEN_BUDGET,
    progress: str | None = None,
    **arguments: Any,
) -> Predictions:
    """Run a classifier over encoded rows.

    Args:
        model: AdapLeR (takes `removal` and `threshold_scale` in `arguments`) or any transformers classifier.
        rows: with input_ids, attention_mask and, where the tokenizer makes them, token_type_ids.
        pad_token_id: the tokenizer's.
        token_budget: padded tokens in a batch.
        progress: title of the progress bar; None for none.
        arguments: passed to the model.

    Raises:
        ArgumentError: no rows.
    """
    if not rows:
        raise ArgumentError("rows: nothing to predict")
    lengths_in = [len(row["input_ids"]) for row in rows]
    logits: list[Tensor | None] = [None] * len(rows)
    lengths: list[Tensor | None] = [None] * len(rows)
    training = model.training
    model.eval()
    try:
        with tqdm(total=len(rows), desc=progress, disable=progress is None, unit="text") as bar:
            for batch in batches_by_length(lengths_in, token_budget=token_budget):
                inputs = pad_rows([rows[row] for row in batch], pad_token_id=pad_token_id, device=model.device)
                output = model(**inputs, **arguments)
                per_layer = getattr(output, "lengths", None)
                if per_layer is None:
                    per_layer = inputs["attention_mask"].sum(1, keepdim=True).expand(-1, model.config.num_hidden_layers)
                for position, row in enumerate(batch):
                    logits[row], lengths[row] = output.logits[position].float().cpu(), per_layer[position].cpu()
                bar.update(len(batch))
    finally:
        model.train(training)
    return Predictions(
        logits=torch.stack([row for row in logits if row is not None]),
        lengths_in=torch.tensor(lengths_in),
        lengths=torch.stack([row for row in lengths if row is not None]),
    )


@dataclass(frozen=True)
class Prediction:
    """What `AdapLeRForSequenceClassification.predict` says of one text.

    Attributes:
        label: the predicted label's name.
        score: its probability.
        probabilities: every label's.
        tokens: wordpieces, special tokens included.
        layers: for each token, the number of layers that it entered (0 = dropped before the first).
        lengths: tokens that enter each layer.
        speedup: FLOPs of the plain backbone divided by AdapLeR's on this text.
    """

    label: str
    score: float
    probabilities: dict[str, float]
    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    lengths: tuple[int, ...]
    speedup: float


def _columns_of(texts: Sequence[Any]) -> list[list[str]]:
    """Strings as one column, pairs of strings as two; ArgumentError for anything else."""
    if isinstance(texts, str):
        raise ArgumentError("texts: one string; give a list of strings or of pairs")
    rows = [(text,) if isinstance(text, str) else text for text in texts]
    for number, row in enumerate(rows):
        name = f"texts: number {number} (counted from 0)"
        if not isinstance(row, tuple | list) or len(row) not in (1, 2) or any(not isinstance(x, str) for x in row):
            raise ArgumentError(f"{name} is neither a string nor a pair of strings")
        if len(row) != len(rows[0]):
            raise ArgumentError(f"{name} differs in kind from number 0; give strings only or pairs only")
        if any(not part.strip() for part in row):
            raise ArgumentError(f"{name} is empty or white space")
    return [list(column) for column in zip(*rows, strict=True)]


@torch.inference_mode()
def predict_texts(
    model: Any,
    texts: Sequence[Any],
    *,
    tokenizer: Any,
    removal: str = "hard",
    threshold_scale: float = 1.0,
    max_length: int | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: str | None = None,
) -> list[Prediction]:
    """See AdapLeRForSequenceClassification.predict."""
    from adapler.flops import adapler_flops, backbone_flops

    columns = _columns_of(texts)
    limit = backbones.max_positions(model.backbone.config)
    if max_length is not None and not 3 <= max_length <= limit:
        raise ArgumentError(f"max_length: {max_length} is not between 3 and the model's {limit}")
    if not texts:
        return []
    encoded = tokenizer(*columns, truncation=True, max_length=max_length or limit)
    rows = [{name: encoded[name][i] for name in encoded} for i in range(len(texts))]
    results: list[Prediction | None] = [None] * len(texts)
    with tqdm(total=len(texts), desc=progress, disable=progress is None, unit="text") as bar:
        for batch in batches_by_length([len(row["input_ids"]) for row in rows], token_budget=token_budget):
            inputs = pad_rows([rows[row] for row in batch], pad_token_id=tokenizer.pad_token_id, device=model.device)
            output = model(**inputs, removal=removal, threshold_scale=threshold_scale)
            probabilities = output.logits.float().softmax(-1).cpu()
            lengths_in, depth = inputs["attention_mask"].sum(1).cpu(), output.retention_mask.sum(1).cpu()
            flops = backbone_flops(model.config, lengths_in)
            if removal == "hard":
                gains = flops / adapler_flops(model.config, lengths_in, output.lengths.cpu())
            else:
                gains = torch.ones_like(flops)
            for i, row in enumerate(batch):
                best = int(probabilities[i].argmax())
                names = model.config.id2label
                results[row] = Prediction(
                    label=names[best],
                    score=float(probabilities[i, best]),
                    probabilities={names[c]: float(p) for c, p in enumerate(probabilities[i])},
                    tokens=tuple(tokenizer.convert_ids_to_tokens(rows[row]["input_ids"])),
                    layers=tuple(depth[i, : int(lengths_in[i])].tolist()),
                    lengths=tuple(output.lengths[i].tolist()),
                    speedup=float(gains[i]),
                )
            bar.update(len(batch))
    return [result for result in results if result is not None]
