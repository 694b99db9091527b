"""Targets of the contribution scores of a training set, computed once from fine-tuned models.

The paper's target is saliency, so that is what the command, the files and their column are called.

Dimensions: B batch, K layers (1, or L of an L-layer classifier), N tokens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm
from transformers import PreTrainedModel

from adapler.backbones.decomposition import token_relevance
from adapler.data import scratch_file
from adapler.errors import ArgumentError
from adapler.files import check_output_folder, claimed
from adapler.inference import CHUNK, GRADIENT_TOKEN_BUDGET, TOKEN_BUDGET, batches_by_length, pad_rows
from adapler.training.arguments import use_bfloat16
from adapler.training.records import identity_of, model_checksum, model_name, record_of
from adapler.training.settings import Execution
from adapler.training.stages.finetune import best_epochs
from adapler.training.stages.predicted import load_fine_tuned, with_predicted_labels
from adapler.training.stages.prepare import Prepared, prepare
from adapler.training.stages.settings import SaliencySettings
from adapler.training.stages.targets import save_targets, with_origin
from adapler.training.target_settings import TargetSettings

_SHARES = datasets.List(datasets.Value("float32"))


def run_saliency(settings: SaliencySettings) -> dict[str, Any]:
    """The command `adapler saliency`; returns its record."""
    check_output_folder(settings.output, former=("dataset_info.json",))
    with claimed(settings.output):
        if settings.finetuned is not None:
            sources: list[str | Path] = list(best_epochs(settings.finetuned, most=settings.epochs))
        else:
            sources = [str(settings.model)]
        classifier = settings.finetuned or str(settings.model)
        prepared = prepare(
            settings.task, classifier, splits=("train",), seed=settings.execution.seed, unlabelled=True, workers=0
        )
        prepared = with_predicted_labels(prepared, classifier, execution=settings.execution)
        return saliency(
            prepared, sources, targets=settings.targets, output=settings.output, execution=settings.execution
        )


def saliency(
    prepared: Prepared,
    classifiers: Sequence[str | Path],
    *,
    targets: TargetSettings,
    output: Path,
    execution: Execution,
) -> dict[str, Any]:
    """Targets of the training set, averaged over fine-tuned classifiers, written to a folder.

    Args:
        prepared: task, tokenizer and encoded rows.
        classifiers: hub names or folders.
        targets: what is computed.
        output: folder; gets the targets and run.json.
        execution: device and precision.

    Returns:
        The record written to run.json.
    """
    started = time.time()
    made = saliency_targets(
        [load_fine_tuned(name, prepared.task, execution=execution) for name in classifiers],
        prepared.encoded["train"],
        pad_token_id=prepared.tokenizer.pad_token_id,
        autocast=use_bfloat16(execution.precision),
        targets=targets,
    )
    identity = saliency_identity(prepared, classifiers, targets=targets, execution=execution)
    record = record_of(identity, started=started, rows={"train": made.num_rows})
    labels = () if "train" in prepared.predicted else prepared.task.labels
    made = with_origin(made, prepared.encoded["train"], labels=labels)
    save_targets(made, output, record=record)
    return record


def saliency_identity(
    prepared: Prepared, classifiers: Sequence[str | Path], *, targets: TargetSettings, execution: Execution
) -> dict[str, Any]:
    """What determines the targets, as their record says it."""
    return identity_of(
        "saliency",
        execution,
        task=prepared.task.name,
        encoding=prepared.encoding,
        data_checksum=prepared.task.checksum,
        targets=asdict(targets),
        models=[{"model": model_name(name), "model_checksum": model_checksum(name)} for name in classifiers],
    )


def saliency_targets(
    classifiers: Sequence[PreTrainedModel],
    dataset: datasets.Dataset,
    *,
    pad_token_id: int,
    token_budget: int | None = None,
    autocast: bool = False,
    targets: TargetSettings | None = None,
) -> datasets.Dataset:
    """Each token's share in what the classifiers say, averaged over them.

    By default that is the saliency of the true class at the embedding output (AdapLeR, section 3.3); see
    `token_relevance` for the others. Each classifier's and each method's shares of a text sum to 1 before they are
    averaged, so that epochs and methods weigh the same.

    Args:
        classifiers: the best fine-tuning epochs, up to three in the paper.
        dataset: encoded rows with id, input_ids, attention_mask and labels.
        pad_token_id: the tokenizer's.
        token_budget: padded tokens in a batch; default: on a CPU GRADIENT_TOKEN_BUDGET, elsewhere TOKEN_BUDGET.
        autocast: bfloat16 autocast.
        targets: methods, layer and logit; default: the paper's.

    Returns:
        columns id and saliency: a list of floats that sum to 1, one for each input id; with `target_layer="own"` one
        such list for each layer. A text of which a method says nothing (no share above 0) counts as 0 there.

    Raises:
        ArgumentError: no classifier.
    """
    if not classifiers:
        raise ArgumentError("classifiers: at least one fine-tuned model is needed")
    targets = TargetSettings() if targets is None else targets
    if token_budget is None:
        token_budget = GRADIENT_TOKEN_BUDGET if classifiers[0].device.type == "cpu" else TOKEN_BUDGET
    starts = range(0, len(dataset), CHUNK)
    with tqdm(total=len(dataset) * len(classifiers), desc="saliency", unit="text") as bar:
        parts = (
            _targets_of(
                classifiers,
                dataset.select(range(start, min(start + CHUNK, len(dataset)))),
                pad_token_id=pad_token_id,
                token_budget=token_budget,
                autocast=autocast,
                targets=targets,
                bar=bar,
            )
            for start in starts
        )
        if len(starts) == 1:
            return next(parts)
        path = scratch_file()
        with ArrowWriter(features=_features(targets), path=str(path)) as writer:
            for part in parts:
                writer.write_table(part.data.table)
            writer.finalize()
    return datasets.Dataset.from_file(str(path))


def _targets_of(
    classifiers: Sequence[PreTrainedModel],
    dataset: datasets.Dataset,
    *,
    pad_token_id: int,
    token_budget: int,
    autocast: bool,
    targets: TargetSettings,
    bar: Any,
) -> datasets.Dataset:
    """saliency_targets of rows that fit the memory."""
    columns = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in dataset.column_names]
    rows, labels = dataset.select_columns(columns).to_list(), dataset["labels"]
    lengths = [len(row["input_ids"]) for row in rows]
    layers = None if targets.target_layer == "own" else (0,)
    totals: list[Any] = [0.0] * len(lengths)  # (K, n) each
    for classifier in classifiers:
        for batch in batches_by_length(lengths, token_budget=token_budget):
            device = classifier.device
            inputs = pad_rows([rows[row] for row in batch], pad_token_id=pad_token_id, device=device)
            inputs["labels"] = torch.tensor([labels[row] for row in batch], device=device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
                parts = [
                    token_relevance(classifier, inputs, kind=method, target=targets.explained, layers=layers)
                    for method in targets.target_method
                ]
            shares = torch.stack(parts).cpu().double().mean(0).numpy()  # (B, K, N)
            for position, row in enumerate(batch):
                totals[row] = totals[row] + shares[position, :, : lengths[row]]
            bar.update(len(batch))
    means = [(total / len(classifiers)).astype(np.float32) for total in totals]
    found = {"id": dataset["id"][:], "saliency": means if layers is None else [mean[0] for mean in means]}
    return datasets.Dataset.from_dict(found, features=_features(targets))


def _features(targets: TargetSettings) -> datasets.Features:
    shares = datasets.List(_SHARES) if targets.target_layer == "own" else _SHARES
    return datasets.Features({"id": datasets.Value("string"), "saliency": shares})
