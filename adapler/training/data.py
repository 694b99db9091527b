"""From the options of a task to rows that a stage trains on: encoded, labelled, and with targets for each token.

Targets are computed once from fine-tuned classifiers and joined by id. A row's target is a list of n numbers, one per
token, or L of these, one per layer. The column `made_of` is a checksum of the row's token ids and label.

Dimensions: B batch, K layers (1, or L of an L-layer classifier), N tokens.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from adapler.backbones.decomposition import token_relevance
from adapler.backbones.families import label_names, max_positions
from adapler.data import HoldOut, Task, balanced_sample, in_label_order, is_file, is_of_hub, load_task
from adapler.errors import ArgumentError, CheckpointError, DataError
from adapler.inference import CHUNK, GRADIENT_TOKEN_BUDGET, TOKEN_BUDGET, batches_by_length, pad_rows
from adapler.modeling import is_fine_tuned, read_config
from adapler.system import is_main
from adapler.text import INPUTS, choose_encoding, encode_dataset, load_tokenizer, read_run, recorded_encoding
from adapler.training.config import TargetOptions, TaskOptions
from adapler.training.records import model_checksum


@dataclass(frozen=True)
class Prepared:
    """A task that is ready for a model: its rows as token ids."""

    task: Task
    tokenizer: Any
    encoded: datasets.DatasetDict
    encoding: dict[str, Any]  # how they were encoded (JSON-ready)
    predicted: tuple[str, ...] = ()  # the splits whose labels are a classifier's predictions

    def metric(self, split: str) -> str:
        """The score on a split: the task's metric, or "agreement" where labels are predictions."""
        return "agreement" if split in self.predicted else self.task.metric

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def provenance(self, split: str, *, model: str | Path) -> dict[str, Any]:
        """Provenance of an evaluation for its record: data, encoding and precision."""
        return {
            "task": self.task.name,
            "split": split,
            "data_checksum": self.task.checksum,
            "encoding": self.encoding,
            "model_checksum": model_checksum(model),
        }

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names of the training rows; none if the labels are predictions."""
        return () if "train" in self.predicted else self.task.labels


def prepare(
    options: TaskOptions,
    model: str | Path,
    *,
    splits: tuple[str, ...],
    seed: int,
    optional: tuple[str, ...] = (),
    unlabelled: bool = False,
    workers: int = 0,
    held_out: HoldOut | None = None,
    alone: str | None = None,
) -> Prepared:
    """Load a task and encode it with a model's tokenizer, for its positions and in its label order.

    Args:
        seed: of the rows that `limit` draws, and of a validation split that is drawn from train.
        optional: further splits, encoded when the task has them.
        unlabelled: whether rows without labels are allowed, see `with_predicted_labels`.
        held_out, alone: `how` of `load_task` where the options do not say it, and its `alone`.
    """
    if options.stride is not None and "windows" not in (options.long_documents, options.train_documents):
        raise ArgumentError("--stride: is of windows; --long-documents windows or --train-documents windows makes them")
    config = read_config(model)
    names = label_names(config) if is_fine_tuned(config) else None
    how = held_out if options.validation_share is None else HoldOut(share=options.validation_share, seed=seed)
    labels = names if unlabelled else None
    task = load_task(options.task, data_dir=options.data_dir, labels=labels, how=how, alone=alone)
    if missing := [split for split in splits if split not in task.dataset]:
        raise ArgumentError(f"--task: {options.task} has no split {missing[0]!r}; it has {', '.join(task.dataset)}")
    if names is not None:
        task = in_label_order(task, names)
    limit = max_positions(getattr(config, "backbone_config", config))
    max_length = min(task.max_length, limit) if options.max_length is None else options.max_length
    if not 3 <= max_length <= limit:
        raise ArgumentError(f"--max-length: {max_length} is not between 3 and the {limit} positions of {model}")
    tokenizer = load_tokenizer(model, words=task.is_split_into_words)
    if tokenizer.pad_token_id is None:
        raise CheckpointError(f"{model}: its tokenizer has no padding token, and texts of a batch need one")
    for note in task.notes if is_main() else ():
        print(f"note: {note}")
    policy, encoded = options.long_documents or "truncate", {}
    for split in (*splits, *(split for split in optional if split in task.dataset)):
        rows = task.dataset[split]
        if split == "train" and options.limit is not None:
            rows = balanced_sample(rows, options.limit, seed=seed)
        try:
            encoded[split] = encode_dataset(
                rows,
                tokenizer,
                columns=task.columns,
                max_length=max_length,
                truncation=(options.train_documents if split == "train" else None) or policy,
                stride=options.stride,
                workers=workers,
                blank=is_of_hub(options.task, options.data_dir),  # whose rows nobody here can mend
            )
        except DataError as error:
            raise DataError(f"{options.task}, {split}: {error}") from error
    recorded = ("long_documents", "train_documents", "stride", "limit", "validation_share")
    encoding = {name: getattr(options, name) for name in recorded}
    encoding |= {"max_length": max_length, "long_documents": policy, "columns": list(task.columns)}
    return Prepared(task, tokenizer, datasets.DatasetDict(encoded), encoding)


def prepare_trained(options: TaskOptions, model: str | Path, *, split: str, seed: int) -> tuple[Prepared, str]:
    """A split for a model that is trained already, and one line that says which part of a long text is read, and why.
    What the options leave open is as in its training, the rows of a validation split that is drawn from train as well.
    A single file is the split, whole."""
    how = choose_encoding(
        recorded_encoding(model),
        max_length=options.max_length,
        long_documents=(options.train_documents if split == "train" else None) or options.long_documents,
        stride=options.stride,
        longest="the task's longest input",
    )
    truncation: Any = how.long_documents
    stride = how.stride if truncation == "windows" else None  # a recorded one may be of the training windows alone
    options = replace(options, max_length=how.max_length, long_documents=truncation, stride=stride)
    record = read_run(model)[1]
    encoding, settings = record.get("encoding") or {}, record.get("settings") or {}
    held_out = None
    if options.validation_share is None and encoding.get("validation_share") is not None:
        held_out = HoldOut(share=encoding["validation_share"], seed=int(settings["seed"]), optional=True)
    alone: str | None = split
    if is_file(options.task) and record.get("data_checksum") is not None:
        try:
            whole = load_task(options.task, how=held_out)
        except (ArgumentError, DataError):  # a single label, too few rows: nothing that a model learned from
            whole = None
        if whole is not None and whole.checksum == record["data_checksum"]:
            alone = None
            if split == "test":
                raise ArgumentError(
                    f"--split: {model} learned from rows of {options.task}; --split validation reads those held out"
                )
    prepared = prepare(options, model, splits=(split,), seed=seed, unlabelled=True, held_out=held_out, alone=alone)
    task, learned = prepared.task, encoding.get("columns")
    if learned and len(learned) != len(task.columns):
        raise ArgumentError(
            f"--task: {task.name} has {' and '.join(task.columns)} in each row, and {model} learned from "
            f"{' and '.join(learned)} (run.json)"
        )
    if split in task.unlabelled:
        raise ArgumentError(f"--split: {split} of {task.name} has no labels, and a score needs them")
    labels, known = len(task.labels), read_config(model).num_labels
    if labels != known:
        raise ArgumentError(f"--task: {task.name} has {labels} labels, the model in {model} {known}")
    return prepared, how.note


# Targets of the Contribution Predictors


def compute_targets(
    classifiers: Sequence[PreTrainedModel],
    rows: datasets.Dataset,
    *,
    options: TargetOptions,
    pad_token_id: int,
    labels: Sequence[str] = (),
    token_budget: int | None = None,
    autocast: bool = False,
) -> datasets.Dataset:
    """Each token's share in what the classifiers say, averaged over them; see `token_relevance`.

    The paper's are the saliency of the true class at the embedding output (section 3.3), of up to three of the best
    fine-tuning epochs. Each classifier's and each method's shares of a text sum to 1 before they are averaged, so that
    epochs and methods weigh the same. A text of which a method says nothing (no share above 0) counts as 0 there.

    `labels` are the names of the rows' labels; none where those are predictions, which may be others on another
    machine. The result has the columns id, made_of and targets: floats that sum to 1, one for each input id; with
    `target_layer="own"` one such list for each layer.
    """
    layers = None if options.target_layer == "own" else (0,)
    how: dict[str, Any] = {"target": options.explained, "layers": layers}
    shares, text = datasets.List(datasets.Value("float32")), datasets.Value("string")
    features = datasets.Features({"id": text, "made_of": text, "targets": shares if layers else datasets.List(shares)})
    parts = []
    for start in range(0, len(rows), CHUNK):
        chunk = rows.select(range(start, min(start + CHUNK, len(rows))))
        values: list[Any] = [None] * len(chunk)
        where: dict[str, Any] = {"device": classifiers[0].device, "pad_token_id": pad_token_id}
        for places, lengths, batch in labelled_batches(chunk, **where, token_budget=token_budget, title="targets"):
            total: Any = 0.0
            for classifier in classifiers:
                with torch.autocast(classifier.device.type, dtype=torch.bfloat16, enabled=autocast):
                    found = [token_relevance(classifier, batch, kind=kind, **how) for kind in options.target_method]  # type: ignore[arg-type]
                total = total + torch.stack(found).cpu().double().mean(0).numpy()  # (B, K, N)
            mean = (total / len(classifiers)).astype(np.float32)
            for place, length, one in zip(places, lengths, mean, strict=True):
                values[place] = one[0, :length] if layers else one[:, :length]
        columns = {"id": chunk["id"][:], "made_of": _made_of(chunk, labels), "targets": values}
        parts.append(datasets.Dataset.from_dict(columns, features=features))
    return datasets.concatenate_datasets(parts)


def labelled_batches(
    rows: datasets.Dataset, *, device: torch.device, pad_token_id: int, title: str, token_budget: int | None = None
) -> Iterator[tuple[list[int], list[int], dict[str, torch.Tensor]]]:
    """Padded batches by length for passes with gradients: row indices, lengths, and the inputs with labels (B,)."""
    if token_budget is None:
        token_budget = GRADIENT_TOKEN_BUDGET if device.type == "cpu" else TOKEN_BUDGET
    inputs = rows.select_columns([one for one in INPUTS if one in rows.column_names]).to_list()
    labels, lengths = rows["labels"][:], [len(row["input_ids"]) for row in inputs]
    with tqdm(total=len(rows), desc=title, unit="text") as bar:
        for places in batches_by_length(lengths, token_budget=token_budget):
            batch = pad_rows([inputs[place] for place in places], pad_token_id=pad_token_id, device=device)
            batch["labels"] = torch.tensor([labels[place] for place in places], device=device)
            yield places, [lengths[place] for place in places], batch
            bar.update(len(places))


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
    """Join targets to encoded rows by id, never by row order; `labels` as of `compute_targets`. Targets of other
    layers, tokens or labels are refused."""
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
