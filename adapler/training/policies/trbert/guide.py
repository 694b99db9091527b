"""The guide of a training set: which tokens TR-BERT's policy imitates keeping.

Dimensions: B batch, P points, N padded length, n tokens of a row.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import datasets
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from adapler.backbones.decomposition import removal_guide
from adapler.inference.predict import CHUNK
from adapler.model.batching import batches_by_length, pad_rows

_SCORES = datasets.List(datasets.List(datasets.Value("float32")))


def with_guide(
    rows: datasets.Dataset,
    classifier: PreTrainedModel,
    *,
    points: Sequence[int],
    pad_token_id: int,
    autocast: bool = False,
) -> datasets.Dataset:
    """The same rows with a column `saliency`, (P, n) for each row, see `removal_guide`; one pass over the set.

    Args:
        rows: encoded, with labels.
        classifier: the fine-tuned one, on its device.
        points: P layers that the policy decides before.
        pad_token_id: the tokenizer's.
        autocast: bfloat16 autocast.
    """
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids", "labels") if name in rows.column_names]
    inputs, found = rows.select_columns(names), []
    with tqdm(total=len(rows), desc="guide", unit="text") as bar:
        for start in range(0, len(rows), CHUNK):
            chunk = inputs.select(range(start, min(start + CHUNK, len(rows)))).to_list()
            found += _guide_of(classifier, chunk, points=points, pad_token_id=pad_token_id, autocast=autocast, bar=bar)
    with_column: datasets.Dataset = rows.add_column(
        "saliency", found, new_fingerprint=uuid.uuid4().hex, feature=_SCORES
    )
    return with_column


def _guide_of(
    classifier: PreTrainedModel,
    rows: list[dict[str, Any]],
    *,
    points: Sequence[int],
    pad_token_id: int,
    autocast: bool,
    bar: Any,
) -> list[Any]:
    """P vectors (n,) of each row, of rows that fit the memory, in their order."""
    lengths, device = [len(row["input_ids"]) for row in rows], classifier.device
    found: list[Any] = [None] * len(rows)
    for batch in batches_by_length(lengths):
        inputs = pad_rows([rows[row] for row in batch], pad_token_id=pad_token_id, device=device)
        inputs["labels"] = torch.tensor([rows[row]["labels"] for row in batch], device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
            guide = removal_guide(classifier, inputs, points=points).cpu().numpy()  # (B, P, N)
        for position, row in enumerate(batch):
            found[row] = list(guide[position, :, : lengths[row]])  # arrow takes lists of vectors
        bar.update(len(batch))
    return found
