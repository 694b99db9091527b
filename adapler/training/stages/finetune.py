"""Fine-tuning of the plain backbone: AdapLeR's baseline, and the source of its saliency targets."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor, nn
from transformers import Trainer, set_seed

from adapler.backbones.checkpoints import load_classifier, reinitialise_head
from adapler.data.tasks import Task
from adapler.distributed import is_main, wait_for_everyone
from adapler.errors import CheckpointError, TrainingError
from adapler.files import replacing
from adapler.inference.metrics import score_predictions
from adapler.training.records import (
    EPOCHS,
    Settings,
    StopWhenNotFinite,
    epochs_folder,
    epochs_of,
    last_checkpoint,
    model_name,
    record_of,
    training_arguments,
    what_is_kept,
    write_record,
)
from adapler.training.trainer import SaliencyCollator


class _FinetuneTrainer(Trainer):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The classifiers accept the number of items of a whole step and ignore it: their loss is the mean of a
        # batch. Taken at their word, it would count once for each accumulated batch and each process.
        self.model_accepts_loss_kwargs = False

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not math.isfinite(float(loss)):
            raise TrainingError(
                f"training stopped at step {self.state.global_step + 1}: the loss is {float(loss)} (group 'backbone'); "
                f"{what_is_kept(self.args.output_dir)}"
            )
        return loss


def finetune(
    task: Task,
    encoded: datasets.DatasetDict,
    *,
    model: str | Path,
    tokenizer: Any,
    output: Path,
    settings: Settings,
    reinit_head: str = "auto",
    resume: bool = False,
    half: bool = False,
    encoding: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune a classifier, keep every epoch's weights, and write the best one.

    Args:
        task: names and labels.
        encoded: encoded splits, train and validation.
        model: encoder or classifier, hub name or folder.
        tokenizer: the model's.
        output: folder; gets the best epoch's model, its tokenizer and run.json, and `epochs/`.
        settings: optimisation.
        reinit_head: "auto", "yes" or "no", see checkpoints.reinitialise_head.
        resume: go on from the newest checkpoint in `epochs/`.
        half: round the best model's weights to float16's grid (still computed with in float32), so that they
            can be stored in half the space without a change.
        encoding: how the splits were encoded, for the record.

    Returns:
        The record written to run.json.
    """
    started = time.time()
    set_seed(settings.seed)
    classifier = load_classifier(model, labels=list(task.labels))
    new_head = reinitialise_head(classifier, mode=reinit_head)
    metric = task.metric
    with epochs_folder(output) as folder:
        trainer = _FinetuneTrainer(
            model=classifier,
            args=training_arguments(settings, folder, metric_for_best_model=metric, remove_unused_columns=False),
            train_dataset=encoded["train"],
            eval_dataset=encoded["validation"],
            data_collator=SaliencyCollator(tokenizer),
            compute_metrics=lambda p: {metric: score_predictions(p.predictions.argmax(-1), p.label_ids, metric=metric)},
            callbacks=[StopWhenNotFinite()],
        )
        trainer.train(resume_from_checkpoint=last_checkpoint(folder) if resume else None)
    record = record_of(
        "finetune",
        settings,
        started=started,
        task=task.name,
        data_checksum=task.checksum,
        encoding=dict(encoding or {}),
        labels=list(task.labels),
        metric=metric,
        model=model_name(model),
        head_reinitialised=new_head,
        rows={split: rows.num_rows for split, rows in encoded.items()},
        epochs=epochs_of(trainer.state.log_history),
        best=trainer.state.best_metric,
    )
    if is_main():
        if half:
            round_to_half(classifier)
        save_best(classifier, tokenizer, output, record=record)
    wait_for_everyone()
    return record


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Round float32 weights to values that float16 holds exactly, in place."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half().float())


def save_best(model: Any, tokenizer: Any, output: Path, *, record: dict[str, Any]) -> None:
    """Write model, tokenizer and run.json into `output`, beside whatever else is there; each file whole or not."""
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "partial") as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        for file in sorted(partial.iterdir()):
            file.replace(output / file.name)
    shutil.rmtree(output / "partial", ignore_errors=True)
    write_record(output / "run.json", record)


def best_epochs(output: Path, *, record: dict[str, Any], most: int = 3) -> list[Path]:
    """Folders of the best fine-tuning epochs by validation score, at most `most`.

    Raises:
        CheckpointError: their weights are gone.
    """
    ranked = sorted(record["epochs"], key=lambda epoch: (-epoch[record["metric"]], epoch["epoch"]))[:most]
    folders = [output / EPOCHS / f"checkpoint-{epoch['step']}" for epoch in ranked]
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: weights of this fine-tuning epoch are gone; fine-tune again")
    return folders
