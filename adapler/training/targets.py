"""Targets of the contribution scores of a training set, computed once from fine-tuned classifiers, and joined by id.

A row's target is a list of n numbers, one per token, or L of these, one per layer. The column `made_of` is a checksum
of the row's token ids and label.

Dimensions: B batch, K layers (1, or L of an L-layer classifier), N tokens.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from adapler.backbones.decomposition import token_relevance
from adapler.errors import ArgumentError, DataError
from adapler.inference import CHUNK, GRADIENT_TOKEN_BUDGET, TOKEN_BUDGET, batches_by_length, pad_rows
from adapler.training.config import TargetOptions


def compute_targets(
    classifiers: Sequence[PreTrainedModel],
    rows: datasets.Dataset,
    *,
    options: TargetOptions,
    labels: Sequence[str] = (),
    **how: Any,
) -> datasets.Dataset:
    """Each token's share in what the classifiers say, averaged over them.

    The paper's are the saliency of the true class at the embedding output (section 3.3); see `token_relevance` for the
    others. Each classifier's and each method's shares of a text sum to 1 before they are averaged, so that epochs and
    methods weigh the same. A text of which a method says nothing (no share above 0) counts as 0 there.

    Args:
        classifiers: the best fine-tuning epochs, up to three in the paper.
        rows: encoded, with id, input_ids, attention_mask and labels.
        options: methods, layer and logit.
        labels: names of the rows' labels; none where those are predictions, which may be others on another machine.
        how: pad_token_id, token_budget and autocast, see `each_token`.

    Returns:
        columns id, made_of and targets: floats that sum to 1, one for each input id; with `target_layer="own"` one such
        list for each layer.
    """
    layers = None if options.target_layer == "own" else (0,)

    def relevance(classifier: Any, inputs: Any) -> torch.Tensor:
        parts = [
            token_relevance(classifier, inputs, kind=kind, target=options.explained, layers=layers)  # type: ignore[arg-type]
            for kind in options.target_method
        ]
        return torch.stack(parts).cpu().double().mean(0)  # (B, K, N)

    shares, text = datasets.List(datasets.Value("float32")), datasets.Value("string")
    kind = shares if layers else datasets.List(shares)
    features = datasets.Features({"id": text, "made_of": text, "targets": kind})
    parts = []
    for chunk, found in each_token(classifiers, rows, relevance, **how, title="targets"):
        values = [one[0] for one in found] if layers else found
        columns = {"id": chunk["id"][:], "made_of": _made_of(chunk, labels), "targets": values}
        parts.append(datasets.Dataset.from_dict(columns, features=features))
    return datasets.concatenate_datasets(parts)


def each_token(
    classifiers: Sequence[PreTrainedModel],
    rows: datasets.Dataset,
    compute: Callable[[Any, dict[str, torch.Tensor]], torch.Tensor],
    *,
    pad_token_id: int,
    token_budget: int | None = None,
    autocast: bool = False,
    title: str = "",
) -> Iterator[tuple[datasets.Dataset, list[Any]]]:
    """Numbers of each token, the mean over classifiers: rows that fit the memory, and a (K, n) array for each of them.

    Args:
        classifiers, rows: see `compute_targets`.
        compute: (classifier, padded batch with labels) -> (B, K, N), on the CPU.
        pad_token_id: the tokenizer's.
        token_budget: padded tokens in a batch; default: by the device.
        autocast: bfloat16 autocast.
        title: of the progress bar.
    """
    if token_budget is None:
        token_budget = GRADIENT_TOKEN_BUDGET if classifiers[0].device.type == "cpu" else TOKEN_BUDGET
    columns = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in rows.column_names]
    with tqdm(total=len(rows) * len(classifiers), desc=title, unit="text") as bar:
        for start in range(0, len(rows), CHUNK):
            chunk = rows.select(range(start, min(start + CHUNK, len(rows))))
            inputs, labels = chunk.select_columns(columns).to_list(), chunk["labels"][:]
            lengths = [len(row["input_ids"]) for row in inputs]
            totals: list[Any] = [0.0] * len(lengths)
            for classifier in classifiers:
                device = classifier.device
                for batch in batches_by_length(lengths, token_budget=token_budget):
                    padded = pad_rows([inputs[row] for row in batch], pad_token_id=pad_token_id, device=device)
                    padded["labels"] = torch.tensor([labels[row] for row in batch], device=device)
                    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
                        found = compute(classifier, padded).double().numpy()
                    for position, row in enumerate(batch):
                        totals[row] = totals[row] + found[position, :, : lengths[row]]
                    bar.update(len(batch))
            yield chunk, [(total / len(classifiers)).astype(np.float32) for total in totals]


def load_targets(folder: str | Path) -> datasets.Dataset:
    """Targets from the folder of a stage; DataError where they are damaged, negative or not finite."""
    try:
        found = datasets.load_from_disk(str(folder))
        values = found.with_format("arrow")[:]["targets"].combine_chunks()
        while hasattr(values, "flatten") and str(values.type).startswith(("list<", "large_list<")):
            values = values.flatten()
        numbers = values.to_numpy(zero_copy_only=False)
    except Exception as error:  # whatever `datasets` and pyarrow raise for what is missing, cut or mixed
        raise DataError(f"{folder}: no targets, or damaged ones; `adapler targets` writes them") from error
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise DataError(f"{folder}: a target is not a number of at least 0; `adapler targets` writes them anew")
    return found


def add_targets(
    rows: datasets.Dataset, targets: datasets.Dataset, *, labels: Sequence[str] = (), layers: int | None = None
) -> datasets.Dataset:
    """Join targets to encoded rows by id, never by row order; `labels` as of `compute_targets`.

    Raises:
        ArgumentError: they are of more or fewer layers.
        DataError: a row without a target, or with one that was made of other tokens or another label.
    """
    first = targets["targets"][0]
    if layers and isinstance(first[0], list) and len(first) != layers:
        raise ArgumentError(f"--targets: of {len(first)} layers, the model has {layers}")
    ids = rows.select_columns(["id"]).with_format("arrow")[:]["id"]
    known = targets.select_columns(["id"]).with_format("arrow")[:]["id"]
    place = pc.index_in(ids, value_set=known.combine_chunks())  # row of each id in `targets`
    if place.null_count:
        row = pc.index(pc.is_null(place), True).as_py()
        raise DataError(f"targets: none for example {ids[row].as_py()!r}; compute targets of this training set")
    order = place.to_numpy()
    if not np.array_equal(order, np.arange(len(targets))):
        targets = targets.select(order.tolist())
    for row, (ours, theirs) in enumerate(zip(_made_of(rows, labels), targets["made_of"][:], strict=True)):
        if ours != theirs:
            raise DataError(
                f"targets: that of example {ids[row].as_py()!r} was made of other tokens or another label (another "
                "tokenizer, maximum length, or part of a long text); compute targets of this training set"
            )
    joined = [_flat(rows), _flat(targets.select_columns(["targets"]))]
    return datasets.concatenate_datasets(joined, axis=1)


def _made_of(rows: datasets.Dataset, labels: Sequence[str]) -> list[str]:
    """A checksum of each row's token ids and label's name: not every model numbers labels alike."""
    columns = rows.select_columns(["input_ids", "labels"]).with_format("arrow")[:]
    names = [labels[label].lower() if labels else "" for label in columns["labels"].to_pylist()]
    ids = (row.values.to_numpy().astype("<i4").tobytes() for row in columns["input_ids"])
    return [hashlib.sha256(each + name.encode()).hexdigest()[:16] for each, name in zip(ids, names, strict=True)]


def _flat(rows: datasets.Dataset) -> datasets.Dataset:
    """The same rows, one after the other: `concatenate_datasets` needs it."""
    return rows if rows._indices is None else rows.flatten_indices(new_fingerprint=uuid.uuid4().hex)
