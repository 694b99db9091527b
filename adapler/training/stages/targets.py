"""Saliency targets of a training set: computed once from fine-tuned models, stored by example id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from adapler.backbones.saliency import layer_saliency
from adapler.errors import ArgumentError, DataError
from adapler.files import replacing
from adapler.model.batching import TOKEN_BUDGET, batches_by_length, pad_rows


def saliency_targets(
    classifiers: Sequence[PreTrainedModel],
    dataset: datasets.Dataset,
    *,
    pad_token_id: int,
    token_budget: int = TOKEN_BUDGET,
    autocast: bool = False,
) -> datasets.Dataset:
    """Saliency of the true class at the embedding output, averaged over classifiers (AdapLeR, section 3.3).

    Each classifier's saliency of a text is normalised to sum 1 first, so that epochs weigh the same.

    Args:
        classifiers: the best fine-tuning epochs, up to three in the paper.
        dataset: encoded rows with id, input_ids, attention_mask and labels.
        pad_token_id: the tokenizer's.
        token_budget: padded tokens in a batch.
        autocast: bfloat16 autocast.

    Returns:
        columns id and saliency (a list of floats that sum to 1, one for each input id).

    Raises:
        ArgumentError: no classifier.
    """
    if not classifiers:
        raise ArgumentError("classifiers: at least one fine-tuned model is needed")
    columns = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in dataset.column_names]
    rows, labels = dataset.select_columns(columns).to_list(), dataset["labels"]
    lengths = [len(row["input_ids"]) for row in rows]
    totals = [np.zeros(length, dtype=np.float64) for length in lengths]
    with tqdm(total=len(rows) * len(classifiers), desc="saliency", unit="text") as bar:
        for classifier in classifiers:
            for batch in batches_by_length(lengths, token_budget=token_budget):
                device = classifier.device
                inputs = pad_rows([rows[row] for row in batch], pad_token_id=pad_token_id, device=device)
                inputs["labels"] = torch.tensor([labels[row] for row in batch], device=device)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
                    scores = layer_saliency(classifier, inputs, target="gold")[:, 0].cpu().numpy()  # (B, N)
                for position, row in enumerate(batch):
                    totals[row] += scores[position, : lengths[row]]
                bar.update(len(batch))
    saliency = [(total / len(classifiers)).astype(np.float32) for total in totals]
    return datasets.Dataset.from_dict({"id": dataset["id"], "saliency": saliency})


def save_targets(targets: datasets.Dataset, path: str | Path) -> None:
    """Write targets to a folder, whole or not at all."""
    with replacing(Path(path)) as partial:
        targets.save_to_disk(str(partial))


def load_targets(path: str | Path) -> datasets.Dataset:
    """Read targets written by save_targets.

    Raises:
        DataError: no such folder, damaged, or other contents.
    """
    if not (Path(path) / "dataset_info.json").is_file():
        raise DataError(f"{path}: no saliency targets here; `adapler saliency` writes them")
    try:
        targets = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged saliency targets; `adapler saliency` writes them anew") from error
    if not isinstance(targets, datasets.Dataset) or set(targets.column_names) != {"id", "saliency"}:
        raise DataError(f"{path}: holds something else than saliency targets (columns id, saliency)")
    return targets


def add_saliency(dataset: datasets.Dataset, targets: datasets.Dataset) -> datasets.Dataset:
    """Join targets to encoded rows by id, never by row order.

    Raises:
        DataError: a row without a target, or with one of another number of tokens.
    """
    position = {example: row for row, example in enumerate(targets["id"])}
    column: list[Any] = []
    saliency = targets["saliency"]
    for row_id, input_ids in zip(dataset["id"], dataset["input_ids"], strict=True):
        if row_id not in position:
            raise DataError(f"saliency: no target for example {row_id!r}; compute targets on this training set")
        scores = saliency[position[row_id]]
        if len(scores) != len(input_ids):
            raise DataError(
                f"saliency: example {row_id!r} has {len(input_ids)} tokens, its target {len(scores)}; "
                "targets come from another tokenizer or maximum length"
            )
        column.append(scores)
    return dataset.add_column("saliency", column)
