"""From encoded rows to a batch. Dimensions: B batch, N longest row of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


class PaddingCollator:
    """Pads the rows of a batch on the right.

    Rows have input_ids, attention_mask, perhaps token_type_ids, labels and saliency; other columns are left out.
    The batch has the first three as (B, N), labels as (B,), and saliency as (B, N) with zeros at padding.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        names = ("input_ids", "attention_mask", "token_type_ids")
        batch = dict(
            self.tokenizer.pad(
                [{name: row[name] for name in names if name in row} for row in rows],
                padding_side="right",
                return_tensors="pt",
            )
        )
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        if "saliency" in rows[0]:
            saliency = torch.zeros(batch["input_ids"].shape)
            for index, row in enumerate(rows):
                saliency[index, : len(row["saliency"])] = torch.as_tensor(row["saliency"])
            batch["saliency"] = saliency
        return batch
