"""AdapLeR training of a task: builds the model and the trainer, writes the selected epoch."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
from transformers import set_seed

from adapler.backbones.checkpoints import is_fine_tuned, read_config, reinitialise_head
from adapler.data.tasks import Task
from adapler.distributed import is_main, wait_for_everyone
from adapler.errors import ArgumentError
from adapler.model.modeling import AdapLeRForSequenceClassification
from adapler.training.records import (
    Settings,
    StopWhenNotFinite,
    epochs_folder,
    epochs_of,
    last_checkpoint,
    model_name,
    record_of,
    training_arguments,
)
from adapler.training.stages.finetune import save_best
from adapler.training.stages.targets import add_saliency
from adapler.training.trainer import AdapLeRTrainer, AdapLeRTrainingArguments, SaliencyCollator

# Between the 2e-3 and 5e-3 of results/movies-minilm: the backbone's rate is for trained weights, predictors are new.
POST_HOC_LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Objectives:
    """AdapLeR's own settings; see AdapLeRTrainingArguments.

    Attributes:
        gamma: weight of the contribution loss.
        phi: weight of the length loss: the speed budget.
        predictor_learning_rate: of the Contribution Predictors; None: the backbone's, or POST_HOC_LEARNING_RATE when
            that is frozen.
        eta_learning_rate: of eta and theta.
        gradient_slope: bound on the slope of soft removal's gradient; infinity is the paper's.
        max_slope: bound on the slope itself; None is the paper's schedule.
        average_decay: of the running average of the weights that is evaluated and saved; 0: none.
        freeze_backbone: post-hoc mode.
        max_drop: validation score below the fine-tuned model's at which an epoch still qualifies.
        contribution_hidden_size: width of the Contribution Predictors' hidden layer; 32 in the paper.
    """

    gamma: float = 0.02
    phi: float = 2e-4
    predictor_learning_rate: float | None = None
    eta_learning_rate: float = 5e-3
    gradient_slope: float = 50.0
    max_slope: float | None = None
    average_decay: float = 0.0
    freeze_backbone: bool = False
    max_drop: float = 0.01
    contribution_hidden_size: int = 32

    def __post_init__(self) -> None:
        for name in ("gamma", "phi", "eta_learning_rate", "max_drop"):
            if not 0 <= getattr(self, name) < math.inf:
                option = f"--{name.replace('_', '-')}"
                raise ArgumentError(f"{option}: {getattr(self, name)} is not a number of at least 0")
        for name in ("gradient_slope", "max_slope"):
            if (bound := getattr(self, name)) is not None and not bound > 0:
                raise ArgumentError(f"--{name.replace('_', '-')}: {bound} is not above 0")
        if self.contribution_hidden_size < 1:
            raise ArgumentError(f"--contribution-hidden-size: {self.contribution_hidden_size} is not at least 1")
        if not 0 <= self.average_decay < 1:
            raise ArgumentError(f"--average-decay: {self.average_decay} is not in [0, 1)")
        rate = self.predictor_learning_rate
        if rate is not None and not 0 <= rate < math.inf:
            raise ArgumentError(f"--predictor-learning-rate: {rate} is not a number of at least 0")
        if rate is None and self.freeze_backbone:
            object.__setattr__(self, "predictor_learning_rate", POST_HOC_LEARNING_RATE)


def train(
    task: Task,
    encoded: datasets.DatasetDict,
    *,
    model: str | Path,
    tokenizer: Any,
    saliency: datasets.Dataset,
    output: Path,
    settings: Settings,
    objectives: Objectives,
    reference_score: float | None,
    initial_head: str = "auto",
    resume: bool = False,
    keep_epochs: bool = False,
    encoding: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train AdapLeR and write the selected epoch's model, tokenizer and run.json into `output`.

    Args:
        task: names and labels.
        encoded: encoded splits, train and validation.
        model: where the backbone starts: the pre-trained encoder (as in the paper), or a fine-tuned classifier
            (needed with freeze_backbone, which keeps it as it is).
        tokenizer: the backbone's.
        saliency: targets for every training row, by id.
        output: folder.
        settings: optimisation; learning_rate is the backbone's.
        objectives: AdapLeR's losses.
        reference_score: the fine-tuned model's best validation score; None: no epoch can qualify, and the best
            validation score decides.
        initial_head: see checkpoints.reinitialise_head; used only when `model` is not fine-tuned.
        resume: go on from the newest checkpoint.
        keep_epochs: keep the checkpoints, optimiser state included.
        encoding: how the splits were encoded, for the record.

    Returns:
        The record written to run.json.
    """
    started = time.time()
    set_seed(settings.seed)
    fine_tuned = is_fine_tuned(read_config(model))
    if objectives.freeze_backbone and not fine_tuned:
        raise ArgumentError(f"--freeze-backbone: {model} is not a fine-tuned classifier, so there is nothing to keep")
    losses = asdict(objectives)
    width = losses.pop("contribution_hidden_size")
    adapler = AdapLeRForSequenceClassification.from_backbone(
        model, labels=list(task.labels), contribution_hidden_size=width
    )
    if not fine_tuned:
        reinitialise_head(adapler.backbone, mode=initial_head)
    train_rows = add_saliency(encoded["train"], saliency)
    with epochs_folder(output) as folder:
        trainer = AdapLeRTrainer(
            adapler,
            training_arguments(
                settings,
                folder,
                kind=AdapLeRTrainingArguments,
                metric_for_best_model="selection",
                save_total_limit=None if keep_epochs else 2,
                reference_score=reference_score,
                metric=task.metric,
                **losses,
            ),
            train_dataset=train_rows,
            eval_dataset=encoded["validation"],
            data_collator=SaliencyCollator(tokenizer),
            callbacks=[StopWhenNotFinite()],
        )
        trainer.train(resume_from_checkpoint=last_checkpoint(folder) if resume else None)
    epochs = epochs_of(trainer.state.log_history)
    chosen = max(epochs, key=lambda epoch: epoch["selection"])
    record = record_of(
        "train",
        settings,
        started=started,
        objectives=asdict(objectives),
        task=task.name,
        data_checksum=task.checksum,
        encoding=dict(encoding or {}),
        labels=list(task.labels),
        metric=task.metric,
        model=model_name(model),
        reference_score=reference_score,
        rows={split: rows.num_rows for split, rows in encoded.items()},
        epochs=epochs,
        selected=chosen,
        qualified=chosen["selection"] > 1,
    )
    wait_for_everyone()  # every process has read the selected epoch's checkpoint by now
    if is_main():
        save_best(adapler, tokenizer, output, record=record)
        if not keep_epochs:
            shutil.rmtree(folder, ignore_errors=True)
    wait_for_everyone()
    return record
