"""Targets on disk: stored by example id, joined to encoded rows by it.

The column is called saliency, which is the paper's target, whatever they were made of. A row's target is a list of n
numbers, one a token, or L such lists, one a layer. The columns `tokens` (a checksum) and `label` (a name: not
every model numbers labels alike) say what row it was made of; targets of elsewhere may lack them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapler.data import IN_MEMORY_ROWS, scratch_file
from adapler.errors import DataError
from adapler.files import replacing
from adapler.training.records import RECORD, read_record, write_record

MADE_OF = ("tokens", "label")  # columns of what a target was made of, texts


def save_targets(targets: datasets.Dataset, path: str | Path, *, record: Mapping[str, Any] | None = None) -> None:
    """Write targets, and the record of how they were made, to a folder, whole or not at all."""
    with replacing(Path(path)) as partial:
        targets.save_to_disk(str(partial))
        if record is not None:
            write_record(partial / RECORD, record)


def targets_checksum(targets: datasets.Dataset) -> str:
    """sha256 over ids and targets."""
    digest = hashlib.sha256()
    for batch in targets.select_columns(["id", "saliency"]).iter(batch_size=4096):
        digest.update("\0".join(batch["id"]).encode())
        for saliency in batch["saliency"]:
            values = np.asarray(saliency, dtype=np.float32)  # (n,) or (L, n)
            if values.ndim == 2:  # two layers of three tokens are not one of six
                digest.update(str(values.shape).encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def load_targets(path: str | Path) -> datasets.Dataset:
    """Read targets written by save_targets.

    Raises:
        DataError: no such folder, damaged, or other contents: an id that is no text or is there twice, a saliency
            that is negative, not finite, or no list of numbers (or of such lists, as many in each row).
    """
    if not (Path(path) / "dataset_info.json").is_file():
        raise DataError(f"{path}: no saliency targets here; `adapler saliency` writes them")
    try:
        targets = datasets.load_from_disk(str(path))
        contents = None if isinstance(targets, datasets.DatasetDict) else targets.with_format("arrow")[:]
    except Exception as error:  # whatever `datasets` and pyarrow raise for files that are cut, mixed or made up
        raise DataError(f"{path}: damaged saliency targets; `adapler saliency` writes them anew") from error
    needed, known = {"id", "saliency"}, {"id", "saliency", *MADE_OF}
    if not isinstance(targets, datasets.Dataset) or not needed <= set(targets.column_names) <= known:
        raise DataError(f"{path}: holds something else than saliency targets (columns id, saliency)")
    _check_targets(contents, path)
    return targets


def _check_targets(contents: Any, path: str | Path) -> None:
    """Raises DataError for columns that are not (text, list of numbers >= 0, or as many such lists in each row)."""
    ids, saliency = contents["id"], contents["saliency"]
    wrong = None
    if ids.null_count or str(ids.type) not in ("string", "large_string"):
        wrong = "an id is no text"
    elif pc.count_distinct(ids).as_py() < len(ids):
        wrong = "an id is there twice"
    elif saliency.null_count or not _is_list(saliency.type):
        wrong = "a saliency is no list"
    elif _is_list(saliency.type.value_type) and not _are_layers(saliency):
        wrong = "rows have different numbers of layers, or a layer's tokens are missing"
    elif not all(_are_weights(_numbers(chunk)) for chunk in saliency.chunks):
        wrong = "a saliency is not a number of at least 0"
    elif any(name in contents.column_names and str(contents[name].type) != "string" for name in MADE_OF):
        wrong = "its rows' checksums or labels are no texts"
    if wrong is not None:
        raise DataError(f"{path}: damaged saliency targets ({wrong}); `adapler saliency` writes them anew")


def _is_list(kind: Any) -> bool:
    return str(kind).startswith(("list<", "large_list<"))


def _are_layers(saliency: Any) -> bool:
    layers = pc.unique(pc.list_value_length(saliency))
    return len(layers) <= 1 and layers.to_pylist() != [0] and not pc.list_flatten(saliency).null_count


def _numbers(chunk: Any) -> Any:
    while _is_list(chunk.type):
        chunk = chunk.flatten()
    return chunk.to_numpy(zero_copy_only=False)


def _are_weights(values: Any) -> bool:
    return bool(np.issubdtype(values.dtype, np.floating) and (np.isfinite(values) & (values >= 0)).all())


def check_same_part(path: str | Path, rows: datasets.Dataset, *, encoding: Mapping[str, Any]) -> None:
    """Refuse targets that were made of another part of long texts than is trained on: ids and lengths are the same.

    Args:
        path: folder of the targets; one without run.json says nothing about them.
        rows: the encoded training rows. Where none of them is as long as an input may be, nothing was cut.
        encoding: how they were encoded, see `Prepared`.

    Raises:
        DataError: names both ways to read a long text.
    """
    if not (Path(path) / RECORD).is_file():
        return
    made = read_record(Path(path)).get("encoding", {})
    lengths = pc.list_value_length(_column(rows, "input_ids"))
    if "long_documents" not in made or (pc.max(lengths).as_py() or 0) < encoding["max_length"]:
        return
    theirs, ours = _part_read(made), _part_read(encoding)
    if theirs != ours:
        raise DataError(
            f"{path}: saliency of another part of long texts ({theirs}) than is trained on ({ours}); give the same "
            "--train-documents and --stride, or compute targets anew"
        )


def _part_read(encoding: Mapping[str, Any]) -> str:
    policy, stride = encoding.get("train_documents") or encoding["long_documents"], encoding.get("stride")
    if policy != "windows":
        return str(policy)
    return f"windows, stride {'by length' if stride is None else stride}"


def add_saliency(
    dataset: datasets.Dataset, targets: datasets.Dataset, *, labels: Sequence[str] = ()
) -> datasets.Dataset:
    """Join targets to encoded rows by id, never by row order; neither is read into Python lists.

    Args:
        dataset: encoded rows.
        targets: of load_targets.
        labels: names of the rows' labels; none where those are predictions, which may be others on another machine.

    Raises:
        DataError: a row without a target, or with one of another number of tokens, of other tokens or another label.
    """
    ids, names = _column(dataset, "id"), _column(targets, "id")
    found = pc.index_in(ids, value_set=names.combine_chunks())  # row of each id in `targets`
    if found.null_count:
        row = pc.index(pc.is_null(found), True).as_py()
        raise DataError(f"saliency: no target for example {ids[row].as_py()!r}; compute targets on this training set")
    place = found.to_numpy()
    tokens = pc.list_value_length(_column(dataset, "input_ids")).to_numpy()
    lengths = _lengths(_column(targets, "saliency"))[place]
    if (different := np.flatnonzero(tokens != lengths)).size:
        row = int(different[0])
        raise DataError(
            f"saliency: example {ids[row].as_py()!r} has {tokens[row]} tokens, its target {lengths[row]}; "
            "targets come from another tokenizer or maximum length"
        )
    for name, ours in _made_of(dataset, labels).items():
        if name not in targets.column_names:
            continue
        theirs = _column(targets, name).take(pa.array(place))
        if (row := pc.index(pc.not_equal(theirs, ours), True).as_py()) >= 0:
            what = {"tokens": "another text", "label": "another label"}[name]
            raise DataError(
                f"saliency: the target of example {ids[row].as_py()!r} was made of {what} than it has here; compute "
                "targets on this training set"
            )
    if not np.array_equal(place, np.arange(len(targets))):
        targets = _flat(targets.select(place.tolist()))
    return datasets.concatenate_datasets([_flat(dataset), targets.select_columns(["saliency"])], axis=1)


def layers_of_targets(targets: datasets.Dataset) -> int | None:
    """For how many layers each row has a target of its own; None: one target for all layers."""
    column = _column(targets, "saliency")
    return pc.list_value_length(column)[0].as_py() if len(column) and _is_list(column.type.value_type) else None


def with_origin(targets: datasets.Dataset, rows: datasets.Dataset, *, labels: Sequence[str] = ()) -> datasets.Dataset:
    """Targets that say of what they were made.

    Args:
        targets: columns id and saliency, in the order of the rows.
        rows: with id, input_ids and labels.
        labels: as of add_saliency.
    """
    origin = datasets.Dataset(pa.table(_made_of(rows, labels)), fingerprint=uuid.uuid4().hex)
    return datasets.concatenate_datasets([_flat(targets), origin], axis=1)


def _made_of(rows: datasets.Dataset, labels: Sequence[str]) -> dict[str, Any]:
    """The columns of MADE_OF for encoded rows, as Arrow has them; without `label` where no labels are named."""
    ids = (row.values.to_numpy().astype("<i4") for row in _column(rows, "input_ids"))
    found = {"tokens": pa.array([hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in ids], type="string")}
    if labels:
        found["label"] = pa.array([label.lower() for label in labels], type="string").take(
            _column(rows, "labels").combine_chunks()
        )
    return found


def _lengths(saliency: Any) -> Any:
    """Tokens of each row's target; -1 where its layers have different numbers of them."""
    lengths = pc.list_value_length(saliency).to_numpy()
    if not _is_list(saliency.type.value_type):
        return lengths
    by_layer = pc.list_value_length(pc.list_flatten(saliency)).to_numpy().reshape(len(lengths), -1)  # (rows, L)
    return np.where((by_layer == by_layer[:, :1]).all(1), by_layer[:, 0], -1)


def _column(dataset: datasets.Dataset, name: str) -> Any:
    """A column as Arrow has it, a view of the file where there is one."""
    return dataset.select_columns([name]).with_format("arrow")[:][name]


def _flat(dataset: datasets.Dataset) -> datasets.Dataset:
    """The same rows, one after the other in memory or, when there are many, in a file."""
    if dataset._indices is None:
        return dataset
    large = dataset.num_rows > IN_MEMORY_ROWS
    return dataset.flatten_indices(
        keep_in_memory=not large,
        cache_file_name=str(scratch_file()) if large else None,
        new_fingerprint=uuid.uuid4().hex,
    )
