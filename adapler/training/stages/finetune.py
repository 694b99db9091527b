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
from transformers import TrainerCallback, set_seed

from adapler.backbones import SINGLE_LABEL, ready, train_packed
from adapler.backbones.loading import is_fine_tuned, load_classifier, read_config, reinitialise_head
from adapler.data import Task
from adapler.devices import choose_device, describe_dtype
from adapler.distributed import is_main, join_processes, wait_for_everyone
from adapler.errors import ArgumentError, CheckpointError, TrainingError
from adapler.evaluation import classifier_score
from adapler.files import check_output_folder, claimed
from adapler.inference.evaluation import classifier_score
from adapler.passes import plain_pass_of
from adapler.precision import describe_dtype
from adapler.training.arguments import check_gradient_checkpointing, report_callbacks, training_arguments
from adapler.training.collator import PaddingCollator
from adapler.training.records import epochs_of, identity_of, inputs_of, read_record, record_of
from adapler.training.resume import (
    EPOCHS,
    begin_stage,
    epochs_folder,
    finished_record,
    what_is_kept,
)
from adapler.training.selection import score_rows
from adapler.training.settings import Settings
from adapler.training.stages.finish import finish_stage
from adapler.training.stages.prepare import prepare
from adapler.training.stages.settings import FinetuneSettings
from adapler.training.trainer import StageTrainer, StopWhenNotFinite, true_everywhere
from adapler.training.trainer.clock import Clock

KEPT = 3  # the best points that saliency is averaged over, unless more are asked for


def run_finetune(settings: FinetuneSettings) -> dict[str, Any]:
    """The command `adapler finetune`; returns its record."""
    check_output_folder(settings.output)
    with claimed(settings.output):
        prepared = prepare(
            settings.task,
            settings.model,
            splits=("train", "validation"),
            seed=settings.settings.seed,
            workers=settings.settings.workers,
        )
        return finetune(
            prepared.task,
            prepared.encoded,
            model=settings.model,
            tokenizer=prepared.tokenizer,
            output=settings.output,
            settings=settings.settings,
            reinit_head=settings.reinit_head,
            resume=settings.resume,
            half=settings.half,
            packed=settings.packed,
            encoding=prepared.encoding,
        )


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
    packed: bool = False,
    kept: int = KEPT,
    encoding: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune a classifier, keep every epoch's weights, and write the best one.

    With `settings.eval_steps` the points that are evaluated lie so many steps apart. There may be many of them, so only
    the weights of the best ones are kept.

    Args:
        task: names and labels.
        encoded: encoded splits, train and validation.
        model: encoder or classifier, hub name or folder.
        tokenizer: the model's.
        output: folder; gets the best epoch's model, its tokenizer and run.json, and `epochs/` with the weights of
            every epoch.
        settings: optimisation.
        reinit_head: "auto", "yes" or "no", see checkpoints.reinitialise_head; a fine-tuned classifier keeps its head
            unless it is "yes".
        resume: go on from the newest checkpoint in `epochs/`; a finished run is left as it is.
        half: round the best model's weights to float16's grid (still computed with in float32), so that they
            can be stored in half the space without a change.
        packed: run the batches through `plain_pass`, see train_packed.
        kept: how many of the best points keep their weights with `eval_steps`, at least KEPT.
        encoding: how the splits were encoded, for the record.

    Returns:
        The record written to run.json.

    Raises:
        ArgumentError: the folder holds another run, finished or not.
        TrainingError: a loss is not finite.
    """
    started = time.time()
    output = Path(output)
    join_processes(choose_device(settings.device))
    identity = identity_of(
        "finetune",
        settings,
        **inputs_of(task, encoding, model=model),
        reinit_head=reinit_head,
        half=half,
        packed=packed,
    )
    if (done := finished_record(output, identity, resume=resume, keep_epochs=True)) is not None:
        return done
    set_seed(settings.seed)
    classifier = load_classifier(model, labels=list(task.labels))
    otherwise = "fine-tune without it (`adapler finetune`, whose result `adapler run --classifier` takes)"
    check_gradient_checkpointing(classifier, settings, otherwise=otherwise)
    # transformers sets it in the first step, which a resumed run may not have.
    classifier.config.problem_type = SINGLE_LABEL
    if packed:
        train_packed(classifier)
    else:
        ready(classifier)  # for the attention whose gradient is fast, see pieces.SHORT
    new_head = reinitialise_head(classifier, mode=reinit_head, fine_tuned=is_fine_tuned(read_config(model)))
    with epochs_folder(output) as folder:
        # before what an unfinished training left goes: the options may be refused
        args = training_arguments(settings, folder, metric_for_best_model=task.metric, remove_unused_columns=False)
        checkpoint, known = begin_stage(output, identity, resume=resume)
        clock = Clock(started=started, checkpoint=checkpoint)
        if is_main():
            print(f"note: {describe_dtype(settings.precision, choose_device(settings.device))}")
            print(f"fine-tuning into {output}")
        keeping = [] if settings.eval_steps is None else [_KeepBest(task.metric, most=max(KEPT, kept))]
        trainer = (PackedFinetuneTrainer if packed else FinetuneTrainer)(
            model=classifier,
            metric=task.metric,
            args=args,
            train_dataset=encoded["train"],
            eval_dataset=encoded["validation"],
            data_collator=PaddingCollator(tokenizer),
            callbacks=[StopWhenNotFinite(), *keeping, *report_callbacks(settings, output)],
        )
        trainer.clock = clock
        trainer.train(resume_from_checkpoint=checkpoint)
    wait_for_everyone()  # every process has read the best epoch's checkpoint by now
    if is_main():
        if half:
            round_to_half(classifier)
        # As it is saved, and in float32, whatever the epochs were computed in.
        score = classifier_score(
            classifier, encoded["validation"], pad_token_id=tokenizer.pad_token_id, metric=task.metric
        )
        record = record_of(
            identity,
            started=clock.started,
            head_reinitialised=new_head,
            rows={split: rows.num_rows for split, rows in encoded.items()},
            epochs=epochs_of(trainer.state.log_history, precision=identity["precision"]),
            best=trainer.state.best_metric,
            validation={"precision": "float32", task.metric: score},
            keep_epochs=True,
            **({} if known else {"resumed_from_unknown_settings": True}),
        )
        finish_stage(classifier, tokenizer, output, record=record, keep_epochs=True)
    wait_for_everyone()
    return read_record(output)


class _KeepBest(TrainerCallback):  # type: ignore[misc]
    """Removes the checkpoints that are neither among the best nor the newest."""

    def __init__(self, metric: str, *, most: int) -> None:
        self.metric, self.most = metric, most

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not is_main():
            return
        scores = {row["step"]: row[f"eval_{self.metric}"] for row in state.log_history if "eval_loss" in row}
        best = sorted(scores, key=lambda step: (-scores[step], step))[: self.most]
        for path in Path(args.output_dir).glob("checkpoint-*[0-9]"):
            step = int(path.name.rpartition("-")[2])
            if step in scores and step not in best and step != state.global_step:
                shutil.rmtree(path, ignore_errors=True)


class FinetuneTrainer(StageTrainer):
    """The trainer of the plain classifier; validation counts examples, not windows."""

    def __init__(self, *args: Any, metric: str, **kwargs: Any) -> None:
        super().__init__(
            *args,
            compute_metrics=lambda p: {
                metric: score_rows(self.eval_dataset, p.predictions, p.label_ids, metric=metric)
            },
            **kwargs,
        )
        # The classifiers accept the number of items of a whole step and ignore it: their loss is the mean of a
        # batch. With True, the trainer would add these means over accumulated batches and processes, and not average.
        self.model_accepts_loss_kwargs = False

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        finite = math.isfinite(float(loss))
        if not true_everywhere(self.accelerator, finite):
            whose = "" if finite is False else " not finite in another process; here it is"
            raise TrainingError(
                f"training stopped at step {self.state.global_step + 1}: the loss is{whose} {float(loss)} "
                f"(group 'backbone'); {what_is_kept(self.args.output_dir)}"
            )
        return loss


class PackedFinetuneTrainer(FinetuneTrainer):
    """The same on packed rows, see train_packed.

    Raises:
        ArgumentError: several processes, whose gradients would not be averaged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.accelerator.num_processes > 1:
            raise ArgumentError("--packed: fine-tunes in one process only")

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        logits, _ = plain_pass_of(model, inputs)
        return nn.functional.cross_entropy(logits.float(), inputs["labels"])


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Round float32 weights to values that float16 holds exactly, in place."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half().float())


def reference_score(finetuned: Path) -> tuple[float, str | None]:
    """Best validation score of what `adapler finetune` wrote, and the precision it was computed in, where known.

    Raises:
        CheckpointError: no such record in it.
    """
    record = read_record(finetuned)
    if record.get("command") != "finetune":
        raise CheckpointError(f"{finetuned}/run.json: a record of {record.get('command')!r}, not of 'finetune'")
    if record.get("best") is None:
        raise CheckpointError(f"{finetuned}/run.json: 'best' is None, not a score")
    return float(record["best"]), record.get("precision")


def best_epochs(output: Path, *, most: int = KEPT) -> list[Path]:
    """Folders of the best fine-tuning epochs by validation score, at most `most`; of equal ones, the earlier.

    Raises:
        CheckpointError: no record of them in `output`, or their weights are gone or, by steps, were not kept.
    """
    record = read_record(output)
    try:
        ranked = sorted(record["epochs"], key=lambda epoch: (-epoch[record["metric"]], epoch["step"]))[:most]
        folders = [output / EPOCHS / f"checkpoint-{epoch['step']}" for epoch in ranked]
    except KeyError as error:
        raise CheckpointError(f"{output}/run.json: a record without {error}; fine-tune again") from error
    for number, folder in enumerate(folders):
        if folder.is_dir():
            continue
        if number and record.get("settings", {}).get("eval_steps") is not None:
            raise CheckpointError(
                f"{folder}: weights of this point were not kept (--eval-steps keeps those of the best ones); "
                f"average over the best {number} at most"
            )
        raise CheckpointError(f"{folder}: weights of this fine-tuning epoch are gone; fine-tune again")
    return folders
