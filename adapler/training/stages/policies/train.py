"""Training of a removal policy beside AdapLeR's: its stages one after the other, each of them resumable.

While a point trains, its folder holds `stages/` with a finished folder for each stage that is done. At the end the last
stage's model stands in the point's folder, and `stages/` is removed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, set_seed

from adapler.backbones import ready
from adapler.distributed import is_main, wait_for_everyone
from adapler.errors import counted
from adapler.files import check_output_folder
from adapler.training.arguments import check_gradient_checkpointing, report_callbacks, training_arguments
from adapler.training.collator import PaddingCollator
from adapler.training.policies.base import PolicyTraining, training_class
from adapler.training.policies.settings import PolicySettings
from adapler.training.policies.stage import Stage, Work
from adapler.training.policies.trainer import PolicyTrainer
from adapler.training.records import epochs_of, identity_of, inputs_of, model_checksum, read_record, record_of
from adapler.training.resume import begin_stage, epochs_folder, finished_record
from adapler.training.settings import Execution, Settings
from adapler.training.stages.finish import finish_stage
from adapler.training.stages.predicted import load_fine_tuned
from adapler.training.stages.prepare import Prepared
from adapler.training.trainer import StopWhenNotFinite
from adapler.training.trainer.clock import Clock

STAGES = "stages"  # in a point's folder, while it trains


def train_policy(
    prepared: Prepared,
    policy: PolicySettings,
    *,
    start: str | Path,
    classifier: str | Path,
    output: Path,
    settings: Settings,
    reference_score: float,
    reference_precision: str | None = None,
    max_drop: float = 0.01,
    initial_head: str = "auto",
) -> PolicyTraining:
    """Train one point of a policy; a point that is finished, and a stage of it, is left as it is.

    Args:
        prepared: the task.
        policy: which, and its budget.
        start: where the model starts: a fine-tuned classifier or a pre-trained encoder.
        classifier: the fine-tuned classifier, for stages that distil.
        output: the point's folder; gets model, tokenizer and run.json.
        settings: of optimisation.
        reference_score: of the fine-tuned classifier on validation.
        reference_precision: what that was computed in.
        max_drop: how far below it a point may be and still qualify.
        initial_head: of an encoder, see checkpoints.reinitialise_head.

    Returns:
        The training. In run.json `stages` has the evaluated points of each stage, `epochs` those of the last one,
        `selected` the one that was kept; `seconds` counts all stages.

    Raises:
        ArgumentError: the folder holds another run, finished or not.
        TrainingError: a loss or a gradient is not finite.
    """
    check_output_folder(output)
    work = Work(
        task=prepared.scored_task(),
        rows=prepared.encoded,
        tokenizer=prepared.tokenizer,
        max_length=int(prepared.encoding["max_length"]),
        start=start,
        settings=settings,
        policy=policy,
        load_teacher=lambda: _teacher(classifier, prepared, execution=settings),
        reinit_head=initial_head,
    )
    training = training_class(policy.policy)(work)
    stages = training.stages()
    identity = identity_of(
        "policy",
        settings,
        **training.chosen,
        **inputs_of(work.task, prepared.encoding, model=start),
        reference_score=reference_score,
        max_drop=max_drop,
        reinit_head=initial_head,
        **_teacher_of(stages, classifier, start=start),
    )
    done = finished_record(output, identity, resume=True, keep_epochs=True, usual=training.usual_here)
    if done is None:
        records, before = [], None
        try:
            for number, stage in enumerate(stages, start=1):
                folder = output / STAGES / f"{number}-{stage.name}"
                wanted = {**identity, "stage": stage.name}
                _train_stage(training, stage, before=before, output=folder, identity=wanted, max_drop=max_drop)
                records.append(read_record(folder))
                before = folder
        except BaseException:
            for path in (output / STAGES, output):  # what failed at once leaves nothing behind
                if is_main() and path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
            raise
        if is_main():
            _finish(training, identity, records, output=output, reference_precision=reference_precision)
        wait_for_everyone()
    if is_main():
        shutil.rmtree(output / STAGES, ignore_errors=True)
    return training


def _train_stage(
    training: PolicyTraining,
    stage: Stage,
    *,
    before: Path | None,
    output: Path,
    identity: Mapping[str, Any],
    max_drop: float,
) -> None:
    """One stage into its own folder, from the folder of the stage before."""
    usual = training.usual_here
    if finished_record(output, identity, resume=True, keep_epochs=False, usual=usual) is not None:
        return
    started, work = time.time(), training.work
    set_seed(work.settings.seed)
    model = training.build() if before is None else training.load(before)
    check_gradient_checkpointing(model, work.settings, otherwise="leave it out")
    rows = stage.rows(model, work)
    with epochs_folder(output) as folder:
        checkpoint, _ = begin_stage(output, identity, resume=True, usual=usual)
        clock = Clock(started=started, checkpoint=checkpoint)
        rate = stage.backbone_rate or stage.policy_rate or work.settings.learning_rate
        steps = work.settings.max_steps if work.policy.policy_epochs is None else None
        of_stage = replace(work.settings, epochs=stage.epochs, max_steps=steps, learning_rate=rate)
        if is_main():
            long = counted(stage.epochs, "epoch") if steps is None else counted(steps, "step")
            print(f"{work.policy.policy}, stage {stage.name}: {long} into {output}")
        set_seed(work.settings.seed)
        trainer = PolicyTrainer(
            model,
            stage=stage,
            training=training,
            metric=work.task.metric,
            reference=identity["reference_score"],
            max_drop=max_drop,
            teacher=work.load_teacher() if stage.distils else None,
            args=training_arguments(
                of_stage,
                folder,
                metric_for_best_model="selection",
                save_total_limit=2,
                remove_unused_columns=False,
                ddp_find_unused_parameters=False,
            ),
            train_dataset=rows,
            eval_dataset=work.rows["validation"],
            data_collator=PaddingCollator(work.tokenizer),
            callbacks=[StopWhenNotFinite(), *report_callbacks(work.settings, output.parents[1], stage=output.name)],
        )
        trainer.clock = clock
        trainer.train(resume_from_checkpoint=checkpoint)
    wait_for_everyone()
    if is_main():
        epochs = epochs_of(trainer.state.log_history, precision=str(identity["precision"]))
        stage.finish(model, work)
        record = record_of(
            identity,
            started=clock.started,
            rows={split: split_rows.num_rows for split, split_rows in work.rows.items()},
            epochs=epochs,
            selected=max(epochs, key=lambda epoch: epoch["selection"]),
            keep_epochs=False,
        )
        finish_stage(model.eval(), work.tokenizer, output, record=record, keep_epochs=False)
    wait_for_everyone()


def _finish(
    training: PolicyTraining,
    identity: Mapping[str, Any],
    records: list[dict[str, Any]],
    *,
    output: Path,
    reference_precision: str | None,
) -> None:
    """The last stage's model becomes the point's."""
    work, last = training.work, records[-1]
    folder = output / STAGES / f"{len(records)}-{last['stage']}"
    chosen, reference, model = last["selected"], float(identity["reference_score"]), training.load(folder)
    validation = work.rows["validation"]
    record = record_of(
        identity,
        started=time.time(),
        reference_precision=reference_precision,
        rows=last["rows"],
        examples={"validation": len(set(validation["example_id"]))},
        stages=[{name: one[name] for name in ("stage", "seconds", "epochs", "selected")} for one in records],
        epochs=last["epochs"],
        selected=chosen,
        qualified=chosen[work.task.metric] >= reference - float(identity["max_drop"]) - 1e-9,
        keep_epochs=False,
        **training.facts(model),
    )
    record["seconds"] = round(sum(one["seconds"] for one in records), 1)
    finish_stage(model, work.tokenizer, output, record=record, keep_epochs=False)


def _teacher_of(stages: Sequence[Stage], classifier: str | Path, *, start: str | Path) -> dict[str, Any]:
    """For the identity: whom a stage distils from, where that is not the model that training starts from."""
    checksum = model_checksum(classifier) if any(stage.distils for stage in stages) else None
    return {} if checksum in (None, model_checksum(start)) else {"teacher_checksum": checksum}


def _teacher(classifier: str | Path, prepared: Prepared, *, execution: Execution) -> PreTrainedModel:
    """The fine-tuned classifier, ready for `plain_pass`."""
    teacher = load_fine_tuned(classifier, prepared.task, execution=execution)
    return ready(teacher).requires_grad_(False).eval()


def evaluate_policy(training: PolicyTraining, model: Any, prepared: Prepared, *, split: str) -> dict[str, Any]:
    """Score and speedup on a split in float32, and what they were computed on, in the form of `evaluate`."""
    return training.evaluate(model, prepared.encoded[split], metric=prepared.metric(split)) | {
        "task": prepared.task.name,
        "split": split,
        "precision": "float32",
        "data_checksum": prepared.task.checksum,
        "encoding": prepared.encoding,
    }
