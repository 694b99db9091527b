"""Saliency targets on disk: stored by example id, joined to encoded rows by it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from adapler.errors import DataError
from adapler.files import replacing
from adapler.training.records import RECORD, write_record


def save_targets(targets: datasets.Dataset, path: str | Path, *, record: Mapping[str, Any] | None = None) -> None:
    """Write targets, and the record of how they were made, to a folder, whole or not at all."""
    with replacing(Path(path)) as partial:
        targets.save_to_disk(str(partial))
        if record is not None:
            write_record(partial / RECORD, record)


def targets_checksum(targets: datasets.Dataset) -> str:
    """sha256 over ids and saliencies."""
    digest = hashlib.sha256()
    for batch in targets.select_columns(["id", "saliency"]).iter(batch_size=4096):
        digest.update("\0".join(batch["id"]).encode())
        for saliency in batch["saliency"]:
            digest.update(np.asarray(saliency, dtype=np.float32).tobytes())
    return digest.hexdigest()


def load_targets(path: str | Path) -> datasets.Dataset:
    """Read targets written by save_targets.

    Raises:
        DataError: no such folder, damaged, or other contents: an id that is no text or is there twice, a saliency
            that is negative, not finite, or no list of numbers.
    """
    if not (Path(path) / "dataset_info.json").is_file():
        raise DataError(f"{path}: no saliency targets here; `adapler saliency` writes them")
    try:
        targets = datasets.load_from_disk(str(path))
        contents = None if isinstance(targets, datasets.DatasetDict) else targets.with_format("arrow")[:]
    except Exception as error:  # whatever `datasets` and pyarrow raise for files that are cut, mixed or made up
        raise DataError(f"{path}: damaged saliency targets; `adapler saliency` writes them anew") from error
    if not isinstance(targets, datasets.Dataset) or set(targets.column_names) != {"id", "saliency"}:
        raise DataError(f"{path}: holds something else than saliency targets (columns id, saliency)")
    _check_targets(contents, path)
    return targets


def _check_targets(contents: Any, path: str | Path) -> None:
    """Raises DataError for columns that are not (text, list of numbers >= 0)."""
    ids, saliency = contents["id"], contents["saliency"].combine_chunks()
    wrong = None
    if ids.null_count or str(ids.type) not in ("string", "large_string"):
        wrong = "an id is no text"
    elif len(set(ids.to_pylist())) < len(ids):
        wrong = "an id is there twice"
    elif saliency.null_count or not str(saliency.type).startswith(("list<", "large_list<")):
        wrong = "a saliency is no list"
    else:
        values = saliency.flatten().to_numpy(zero_copy_only=False)
        if not np.issubdtype(values.dtype, np.floating) or not (np.isfinite(values) & (values >= 0)).all():
            wrong = "a saliency is not a number of at least 0"
    if wrong is not None:
        raise DataError(f"{path}: damaged saliency targets ({wrong}); `adapler saliency` writes them anew")


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
