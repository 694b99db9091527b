"""Encoded rows in padded batches of similar length.

Dimensions: B batch, N longest row of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapler.errors import ArgumentError, is_number

TOKEN_BUDGET = 8192  # padded tokens in a batch
# Of passes on a CPU that hold attention's weights and gradients. glibc keeps the memory of a freed tensor up to 32 MiB;
# larger ones (heads x N x N floats a text) are mapped and cleared anew, which takes nearly as long as the arithmetic.
GRADIENT_TOKEN_BUDGET = 1024
GPU_TOKEN_BUDGET = 65536  # on a GPU, whose kernels take longer to start than to run on small batches
# Memory of one padded token: the states of a layer and what it makes of them, some 25 rows of the hidden size of a
# large model in float32, with room to spare.
BYTES_A_TOKEN = 25 * 1024 * 4


def token_budget_for(device: torch.device) -> int:
    """Padded tokens in a batch, where nobody says how many: TOKEN_BUDGET; on a GPU more, as free memory allows."""
    if device.type != "cuda":
        return TOKEN_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    return max(TOKEN_BUDGET, min(GPU_TOKEN_BUDGET, free // 2 // BYTES_A_TOKEN))


def batches_by_length(lengths: Sequence[int], *, token_budget: int = TOKEN_BUDGET) -> Iterator[list[int]]:
    """Row numbers in batches of similar length, longest first, at most `token_budget` padded tokens each
    (a row longer than that gets a batch of its own).

    Raises:
        ArgumentError: the budget is below 1.
    """
    if not (is_number(token_budget, whole=True) and token_budget >= 1):
        raise ArgumentError(f"token_budget: {token_budget!r} is not a whole number of at least 1")
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
    lengths = [len(row["input_ids"]) for row in rows]
    # One array of all rows' numbers, spread over the batch at once: lists of padded lists cost several times as much.
    real = np.arange(max(lengths)) < np.array(lengths)[:, None]  # (B, N)
    padded = {}
    for name, fill in {"input_ids": pad_token_id, "attention_mask": 0, "token_type_ids": 0}.items():
        if name in rows[0]:
            values = np.full(real.shape, fill, dtype=np.int64)
            values[real] = np.fromiter(chain.from_iterable(row[name] for row in rows), np.int64, count=sum(lengths))
            padded[name] = torch.from_numpy(values).to(device)
    return padded
