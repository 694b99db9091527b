"""Saliency targets of a training set, computed once from fine-tuned models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from adapler.backbones.checkpoints import is_fine_tuned, load_classifier, read_config
from adapler.backbones.saliency import layer_saliency
from adapler.data.tasks import Task
from adapler.distributed import device
from adapler.errors import ArgumentError
from adapler.model.batching import TOKEN_BUDGET, batches_by_length, pad_rows
from adapler.training.arguments import use_bfloat16
from adapler.training.records import identity_of, model_checksum, model_name, record_of
from adapler.training.resume import check_output_folder
from adapler.training.settings import Execution
from adapler.training.stages.finetune import best_epochs
from adapler.training.stages.prepare import Prepared, prepare
from adapler.training.stages.settings import SaliencySettings
from adapler.training.stages.targets import save_targets


def run_saliency(settings: SaliencySettings) -> dict[str, Any]:
    """The command `adapler saliency`; returns its record."""
    check_output_folder(settings.output)
    if settings.finetuned is not None:
        sources: list[str | Path] = list(best_epochs(settings.finetuned, most=settings.epochs))
    else:
        sources = [str(settings.model)]
    prepared = prepare(
        settings.task, settings.finetuned or str(settings.model), splits=("train",), seed=settings.execution.seed
    )
    return saliency(prepared, sources, output=settings.output, execution=settings.execution)


def saliency(
    prepared: Prepared, classifiers: Sequence[str | Path], *, output: Path, execution: Execution
) -> dict[str, Any]:
    """Saliency of the training set, averaged over fine-tuned classifiers, written to a folder.

    Args:
        prepared: task, tokenizer and encoded rows.
        classifiers: hub names or folders.
        output: folder; gets the targets and run.json.
        execution: device and precision.

    Returns:
        The record written to run.json.
    """
    started = time.time()
    targets = saliency_targets(
        [load_fine_tuned(name, prepared.task, execution=execution) for name in classifiers],
        prepared.encoded["train"],
        pad_token_id=prepared.tokenizer.pad_token_id,
        autocast=use_bfloat16(execution.precision),
    )
    identity = saliency_identity(prepared, classifiers, execution=execution)
    record = record_of(identity, started=started, rows={"train": targets.num_rows})
    save_targets(targets, output, record=record)
    return record


def saliency_identity(prepared: Prepared, classifiers: Sequence[str | Path], *, execution: Execution) -> dict[str, Any]:
    """What determines the targets, as their record says it."""
    return identity_of(
        "saliency",
        execution,
        task=prepared.task.name,
        data_checksum=prepared.task.checksum,
        encoding=prepared.encoding,
        models=[{"model": model_name(name), "model_checksum": model_checksum(name)} for name in classifiers],
    )


def load_fine_tuned(name: str | Path, task: Task, *, execution: Execution) -> PreTrainedModel:
    """A fine-tuned classifier with a task's labels, on its device.

    Raises:
        ArgumentError: an encoder, or another number of labels.
    """
    if not is_fine_tuned(read_config(name)):
        raise ArgumentError(f"{name}: is an encoder, without a trained head; a fine-tuned classifier is needed here")
    return load_classifier(name, labels=list(task.labels)).to(device(execution.device))


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
                    scores = layer_saliency(classifier, inputs, target="gold", layers=(0,))  # (B, 1, N)
                by_row = scores[:, 0].cpu().numpy()
                for position, row in enumerate(batch):
                    totals[row] += by_row[position, : lengths[row]]
                bar.update(len(batch))
    saliency = [(total / len(classifiers)).astype(np.float32) for total in totals]
    return datasets.Dataset.from_dict({"id": dataset["id"], "saliency": saliency})
