"""Encoded rows in padded batches of similar length.

Dimensions: B batch, N longest row of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapler.errors import ArgumentError

TOKEN_BUDGET = 8192  # padded tokens in a batch


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
