"""Windows of many lengths -> padded batches under a token budget.

B windows in the batch, N wordpieces of the longest of them
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from analysis.documents.windows import Window
from analysis.scores.base import Batch


def collate(
    windows: Sequence[Window],
    *,
    labels: Sequence[int] | None = None,
    pad_token_id: int | None = None,
    mask_token_id: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    threshold_scale: float = 1.0,
) -> Batch:
    """Pad windows on the right into one Batch; `mask_token_id`, or `pad_token_id`, stands for tokens that a method
    takes out. A tokenizer may have neither."""
    shape = (len(windows), max(len(window) for window in windows))  # (B, N)
    input_ids = np.full(shape, pad_token_id or 0, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    typed = all(window.token_type_ids is not None for window in windows)
    types = np.zeros(shape, dtype=np.int64)
    special = np.zeros(shape, dtype=bool)
    for row, window in enumerate(windows):
        input_ids[row, : len(window)] = window.input_ids
        mask[row, : len(window)] = 1
        special[row, : len(window)] = window.special
        if window.token_type_ids is not None:
            types[row, : len(window)] = window.token_type_ids
    return Batch(
        ids=tuple(window.id for window in windows),
        input_ids=torch.from_numpy(input_ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        token_type_ids=torch.from_numpy(types).to(device) if typed else None,
        labels=None if labels is None else torch.tensor(list(labels), device=device),
        special=torch.from_numpy(special).to(device),
        mask_token_id=mask_token_id,
        seed=seed,
        threshold_scale=threshold_scale,
        pad_token_id=pad_token_id,
    )
