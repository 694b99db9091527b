"""AdapLeR training of a task: builds the model and the trainer, writes the selected epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
from transformers import set_seed

from adapler.backbones.loading import is_fine_tuned, read_config
from adapler.data import Task
from adapler.devices import choose_device, describe_dtype
from adapler.distributed import from_main, is_main, join_processes, wait_for_everyone
from adapler.errors import ArgumentError
from adapler.evaluation import score_by_example
from adapler.files import check_output_folder, claimed
from adapler.flops import speedup
from adapler.inference.evaluation import score_by_example
from adapler.inference.predict import predict_dataset
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.precision import describe_dtype
from adapler.training.arguments import (
    AdapLeRTrainingArguments,
    precision_name,
    report_callbacks,
    training_arguments,
)
from adapler.training.collator import PaddingCollator
from adapler.training.records import (
    epochs_of,
    identity_of,
    inputs_of,
    model_checksum,
    model_name,
    read_record,
    record_of,
)
from adapler.training.resume import begin_stage, epochs_folder, finished_record
from adapler.training.selection import is_near
from adapler.training.settings import Objectives, Settings
from adapler.training.stages.finetune import reference_score as finetuned_score
from adapler.training.stages.finish import finish_stage
from adapler.training.stages.predicted import is_score_here, load_fine_tuned, measured_score, with_predicted_labels
from adapler.training.stages.prepare import Prepared, prepare
from adapler.training.stages.reach import reach_target
from adapler.training.stages.settings import TrainSettings
from adapler.training.stages.targets import (
    add_saliency,
    check_same_part,
    layers_of_targets,
    load_targets,
    targets_checksum,
)
from adapler.training.trainer import AdapLeRTrainer, StopWhenNotFinite
from adapler.training.trainer.clock import Clock
from adapler.training.trainer.start import check_first_layer, kind_of, start_model, with_predictors_of


def _judge(settings: TrainSettings, prepared: Prepared, *, start: str, score: float | None) -> str | None:
    """The classifier whose validation score is measured here; None where the one that is known is of the same rows."""
    if "validation" in prepared.predicted:
        if settings.reference_score is not None:
            raise ArgumentError("--reference-score: validation has no labels, so agreement with the classifier decides")
        return start  # a recorded score is no agreement
    recorded = settings.finetuned if settings.reference_score is None else None
    if recorded is not None and not is_score_here(read_record(recorded), prepared):
        return str(recorded)  # its own score is of other rows, or of other parts of them
    return start if score is None else None


def run_train(settings: TrainSettings) -> dict[str, Any]:
    """The command `adapler train`; returns its record.

    Raises:
        ArgumentError: no reference score is given, and none can be measured.
    """
    start = settings.model if settings.model is not None else str(settings.finetuned)
    if settings.reinit_head == "yes" and kind_of(start) != "encoder":
        raise ArgumentError(f"--reinit-head: yes, but training keeps the head of {start}, a fine-tuned classifier")
    join_processes(choose_device(settings.settings.device))
    check_output_folder(settings.output)
    with claimed(settings.output):
        targets = load_targets(settings.saliency)
        score, precision = settings.reference_score, None
        if score is None and settings.finetuned is not None:
            score, precision = finetuned_score(settings.finetuned)
        if score is None and not is_fine_tuned(read_config(start)):
            raise ArgumentError("--reference-score: needed when --finetuned is not given and --model is an encoder")
        prepared = prepare(
            settings.task,
            start,
            splits=("train", "validation"),
            seed=settings.settings.seed,
            unlabelled=settings.objectives.freeze_backbone,
            workers=settings.settings.workers,
        )
        check_same_part(settings.saliency, prepared.encoded["train"], encoding=prepared.encoding)
        prepared = with_predicted_labels(prepared, start, execution=settings.settings)
        if (judge := _judge(settings, prepared, start=start, score=score)) is not None:
            score = from_main(lambda: measured_score(judge, prepared, execution=settings.settings))
            precision = precision_name(settings.settings.precision)
        return train(
            prepared.scored_task(),
            prepared.encoded,
            model=start,
            tokenizer=prepared.tokenizer,
            saliency=targets,
            output=settings.output,
            settings=settings.settings,
            objectives=settings.objectives,
            reference_score=score,
            reference_precision=precision,
            initial_head=settings.reinit_head,
            teacher=settings.finetuned,
            resume=settings.resume,
            keep_epochs=settings.keep_epochs,
            encoding=prepared.encoding,
        )


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
    reference_precision: str | None = None,
    initial_head: str = "auto",
    teacher: str | Path | None = None,
    resume: bool = False,
    keep_epochs: bool = False,
    encoding: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train AdapLeR and write the selected epoch's model, tokenizer and run.json into `output`.

    Args:
        task: names and labels.
        encoded: encoded splits, train and validation.
        model: where training starts: the pre-trained encoder (as in the paper), a fine-tuned classifier (needed with
            freeze_backbone, which keeps it as it is), or an AdapLeR model, which is trained further.
        tokenizer: the backbone's.
        saliency: targets for every training row, by id, for all layers together or for each.
        output: folder.
        settings: optimisation; learning_rate is the backbone's.
        objectives: AdapLeR's losses.
        reference_score: the fine-tuned model's best validation score; None: no epoch can qualify, and the best
            validation score decides.
        reference_precision: "float32" or "bfloat16", what that score was computed in, for the record; None: unknown.
        initial_head: see checkpoints.reinitialise_head; used only when `model` is not fine-tuned.
        teacher: fine-tuned classifier to distil from, where the objectives say so; default: `model`, if it is one. With
            freeze_backbone it is not read.
        resume: go on from the newest checkpoint; a finished run is left as it is.
        keep_epochs: keep the checkpoints, optimiser state included.
        encoding: how the splits were encoded, for the record.

    Returns:
        The record written to run.json. Its `epochs` and `selected` are as training logged them, each with its
        precision; `validation` is the selected epoch in float32, after `reached`, the factor that brought its
        thresholds to a target speedup.

    Raises:
        ArgumentError: the folder holds another run, finished or not; targets of another number of layers.
        TrainingError: a loss or a gradient is not finite.
    """
    started = time.time()
    output, objectives = Path(output), objectives.resolved()
    join_processes(choose_device(settings.device))
    if objectives.freeze_backbone and kind_of(model) == "encoder":
        raise ArgumentError(f"--freeze-backbone: {model} is not a fine-tuned classifier, so there is nothing to keep")
    objectives = with_predictors_of(model, objectives)
    check_first_layer(objectives, model)
    if teacher is None and kind_of(model) != "encoder":
        teacher = model
    read = teacher if objectives.distils and not objectives.freeze_backbone else None  # a frozen one teaches itself
    identity = identity_of(
        "train",
        settings,
        objectives=asdict(objectives),
        **inputs_of(task, encoding, model=model),
        saliency_checksum=targets_checksum(saliency),
        reference_score=reference_score,
        reinit_head=initial_head,
        start=kind_of(model),
        **({} if read is None else {"teacher": model_name(read), "teacher_checksum": model_checksum(read)}),
    )
    if (done := finished_record(output, identity, resume=resume, keep_epochs=True)) is not None:
        return done
    set_seed(settings.seed)
    adapler = start_model(model, task, objectives=objectives, initial_head=initial_head)
    if (layers := layers_of_targets(saliency)) not in (None, adapler.num_layers):
        raise ArgumentError(f"saliency: targets of {layers} layers, the model has {adapler.num_layers}")
    predicted = "train" in (encoding or {}).get("predicted_labels", ())
    train_rows = add_saliency(encoded["train"], saliency, labels=() if predicted else task.labels)
    with epochs_folder(output) as folder:
        # before what an unfinished training left goes: the options or the teacher may be refused
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
                objectives=objectives,
            ),
            train_dataset=train_rows,
            eval_dataset=encoded["validation"],
            data_collator=PaddingCollator(tokenizer),
            teacher=None if read is None else load_fine_tuned(read, task, execution=settings),
            callbacks=[StopWhenNotFinite()],
        )
        checkpoint, known = begin_stage(output, identity, resume=resume)
        trainer.clock = clock = Clock(started=started, checkpoint=checkpoint)
        for callback in report_callbacks(settings, output):
            trainer.add_callback(callback)
        if is_main():
            print(f"note: {describe_dtype(settings.precision, choose_device(settings.device))}")
            target = objectives.target_speedup
            aim = f"phi {objectives.phi:g}" if target is None else f"phi from {objectives.phi:g} to {target:g}x"
            print(f"training AdapLeR with {aim} into {output}")
        trainer.train(resume_from_checkpoint=checkpoint)
    epochs = epochs_of(trainer.state.log_history, precision=identity["precision"])
    chosen = max(epochs, key=lambda epoch: epoch["selection"])
    wait_for_everyone()  # every process has read the selected epoch's checkpoint by now
    if is_main():
        reached: dict[str, Any] = {}
        if (target := objectives.target_speedup) is not None:
            padding = tokenizer.pad_token_id
            reached = reach_target(adapler, encoded["validation"], pad_token_id=padding, target=target)
        validation = _in_float32(adapler, encoded["validation"], tokenizer=tokenizer, metric=task.metric)
        record = record_of(
            identity,
            started=clock.started,
            reference_precision=reference_precision,
            rows={split: rows.num_rows for split, rows in encoded.items()},
            examples={"validation": len(set(encoded["validation"]["example_id"]))},
            epochs=epochs,
            selected=chosen,
            qualified=chosen["selection"] > 1 if target is None else is_near(validation["speedup"], target),
            validation=validation,
            keep_epochs=keep_epochs,
            **({"reached": reached} if reached else {}),
            **({} if known else {"resumed_from_unknown_settings": True}),
        )
        finish_stage(adapler, tokenizer, output, record=record, keep_epochs=keep_epochs, keep_states=True)
    wait_for_everyone()
    return read_record(output)


def _in_float32(
    model: AdapLeRForSequenceClassification, rows: datasets.Dataset, *, tokenizer: Any, metric: str
) -> dict[str, Any]:
    """The selected epoch as it is saved, in hard mode: every number of the row in one precision."""
    predictions = predict_rows(
        model, rows, pad_token_id=tokenizer.pad_token_id, removal="hard", progress="validation in float32"
    )
    return {
        "precision": "float32",
        metric: score_by_example(predictions.logits, rows["labels"], rows["example_id"], metric=metric),
        "speedup": speedup(model.config, predictions.lengths_in, predictions.lengths),
        "lengths": [round(float(n), 2) for n in predictions.lengths.double().mean(0)],
    }
