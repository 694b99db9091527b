"""The stages of a run, finetune -> targets -> train -> evaluate; each is a function of (data, options) -> folder.

A stage that finished in its folder with the same configuration is not done again; another configuration is refused.
While a stage trains, `epochs/` holds a checkpoint for each evaluated point, from which it goes on where it was stopped.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import set_seed

from adapler.backbones import SINGLE_LABEL, ready, train_packed
from adapler.backbones.loading import is_fine_tuned, load_classifier, read_config, reinitialise_head
from adapler.devices import choose_device, describe_dtype
from adapler.distributed import from_main, is_main, join_processes, processes, wait_for_everyone
from adapler.errors import ArgumentError, CheckpointError
from adapler.evaluation import classifier_score, evaluation_table, score_by_example
from adapler.files import replacing
from adapler.inference import predict_rows
from adapler.options import record as as_record
from adapler.passes import plain_pass_of
from adapler.policies.base import Stage, Step, Training, Work, is_near, qualifies, training_class
from adapler.training.config import (
    Execution,
    FinetuneConfig,
    Optimisation,
    RunConfig,
    TargetOptions,
    TargetsConfig,
    TrainConfig,
    comparable,
)
from adapler.training.data import (
    Prepared,
    is_score_here,
    load_fine_tuned,
    measured_score,
    prepare,
    with_predicted_labels,
)
from adapler.training.records import (
    RECORD,
    arguments,
    begin,
    is_finished,
    mark_finished,
    model_checksum,
    model_name,
    read_record,
    versions,
    write_record,
)
from adapler.training.targets import add_targets, compute_targets, load_targets
from adapler.training.trainer import (
    KeepBest,
    PaddingCollator,
    StageTrainer,
    autocasts,
    evaluated_points,
    last_checkpoint,
    report_callbacks,
    stage_arguments,
)

EPOCHS = "epochs"  # in a stage's folder: a checkpoint for each evaluated point
BEST = 3  # points of fine-tuning by steps whose weights are kept, unless targets need more
STATES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "scaler.pt", "training_args.bin")  # not the weights


def _execution(options: Execution) -> Execution:
    return Execution(device=options.device, precision=options.precision, seed=options.seed)


def _inputs(prepared: Prepared, *, model: str | Path) -> dict[str, Any]:
    """The data and the model of a stage, for its configuration and its record."""
    task = prepared.task
    return {
        "task": task.name,
        "encoding": prepared.encoding,
        "data_checksum": task.checksum,
        "labels": list(task.labels),
        "metric": prepared.metric("validation"),
        "model": model_name(model),
        "model_checksum": model_checksum(model),
    }


def _facts(prepared: Prepared, options: Execution, *, seconds: float) -> dict[str, Any]:
    """What every record says of a stage that ran."""
    return {
        "precision": "bfloat16" if autocasts(options) else "float32",
        "rows": {split: rows.num_rows for split, rows in prepared.encoded.items()},
        "arguments": arguments(),
        "versions": versions(),
        "seconds": round(seconds, 1),
    }


def _run_stage(
    trainer: StageTrainer,
    folder: Path,
    config: Mapping[str, Any],
    finish: Callable[[list[dict[str, Any]], dict[str, Any]], None],
) -> None:
    """Train from the last checkpoint on, then let the main process write what the folder holds in the end.

    Args:
        trainer: of the stage; its checkpoints are in folder/epochs.
        folder: of the stage.
        config: of the stage, see `is_finished`.
        finish: takes all evaluated points and the selected one.
    """
    begin(folder, config)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder / EPOCHS))
    points = evaluated_points(trainer)
    wait_for_everyone()  # every process has read the selected point's checkpoint by now
    if is_main():
        finish(points, max(points, key=lambda point: point["selection"]))
    wait_for_everyone()


def _say(text: str) -> None:
    if is_main():
        print(text)


# Fine-tuning


@dataclass(kw_only=True)
class Finetuning(Stage):
    """Cross-entropy of the plain classifier.

    Attributes:
        packed: whether rows are computed end to end, see train_packed.
    """

    packed: bool = False

    def losses(self, step: Step) -> dict[str, Tensor]:
        """One."""
        if self.packed:
            logits, _ = plain_pass_of(step.core, step.batch)
            return {"cross_entropy": nn.functional.cross_entropy(logits.float(), step.batch["labels"])}
        return {"cross_entropy": step.forward().loss.float()}


def finetune(prepared: Prepared, config: FinetuneConfig, *, kept: int = BEST) -> Path:
    """Fine-tune a classifier; its folder gets the best epoch's model, and `epochs/` with the weights of all.

    With `eval_steps` the evaluated points lie so many steps apart. There may be many of them, so only the weights of
    the best ones are kept.

    Args:
        prepared: the task, with train and validation.
        config: options; an encoder's head is new, a fine-tuned classifier's only with reinit_head "yes".
        kept: how many of the best points keep their weights with `eval_steps`.

    Raises:
        ArgumentError: the folder holds another run.
        TrainingError: a loss is not finite.
    """
    options, output = config.optimisation, Path(config.output)
    join_processes(choose_device(options.device))
    wanted = {
        "command": "finetune",
        **as_record(config.optimisation),
        **{name: getattr(config, name) for name in ("reinit_head", "half", "packed")},
        **_inputs(prepared, model=config.model),
    }
    if is_finished(output, wanted):
        return output
    if config.packed and processes() > 1:
        raise ArgumentError("--packed: fine-tunes in one process only")
    set_seed(options.seed)
    classifier = load_classifier(config.model, labels=list(prepared.task.labels))
    if options.gradient_checkpointing and not classifier.supports_gradient_checkpointing:
        raise ArgumentError(f"--gradient-checkpointing: transformers' {classifier.config.model_type} has none")
    # transformers sets it in the first step, which a resumed run may not have.
    classifier.config.problem_type = SINGLE_LABEL
    (train_packed if config.packed else ready)(classifier)
    fine_tuned = is_fine_tuned(read_config(config.model))
    new_head = reinitialise_head(classifier, mode=config.reinit_head, fine_tuned=fine_tuned)
    _say(f"note: {describe_dtype(options.precision, choose_device(options.device))}\nfine-tuning into {output}")
    metric = prepared.metric("validation")
    trainer = StageTrainer(
        classifier,
        stage_arguments(options, output / EPOCHS),
        stage=Finetuning(removal="none", rates={"backbone": options.learning_rate}, packed=config.packed),
        metric=metric,
        speedup=lambda model, lengths_in, lengths: 1.0,
        train_dataset=prepared.encoded["train"],
        eval_dataset=prepared.encoded["validation"],
        data_collator=PaddingCollator(prepared.tokenizer),
        callbacks=[
            *([] if options.eval_steps is None else [KeepBest(max(BEST, kept))]),
            *report_callbacks(options, output),
        ],
    )

    if options.eval_steps is not None:
        trainer.add_callback(KeepBest(max(BEST, kept)))

    def finish(points: list[dict[str, Any]], best: dict[str, Any]) -> None:
        if config.half:
            _round_to_half(classifier)
        # As it is saved, and in float32, whatever the epochs were computed in.
        score = classifier_score(
            classifier, prepared.encoded["validation"], pad_token_id=prepared.pad_token_id, metric=metric
        )
        classifier.save_pretrained(output)
        prepared.tokenizer.save_pretrained(output)
        record = {
            **{name: wanted[name] for name in ("command", *_inputs(prepared, model=config.model))},
            "settings": as_record(options),
            **{name: wanted[name] for name in ("reinit_head", "half", "packed")},
            "head_reinitialised": new_head,
            **_facts(prepared, options, seconds=time.time() - trainer.started),
            "epochs": points,
            "best": best[metric],
            "validation": {"precision": "float32", metric: score},
        }
        write_record(output / RECORD, record)
        for pattern in STATES:
            for path in (output / EPOCHS).glob(f"*/{pattern}"):
                path.unlink()

    _run_stage(trainer, output, wanted, finish)
    mark_finished(output, wanted)
    return output


@torch.no_grad()
def _round_to_half(model: nn.Module) -> None:
    """Round float32 weights to values that float16 holds exactly, in place."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half().float())


def best_epochs(finetuned: Path, *, most: int = BEST) -> list[Path]:
    """Folders of the best fine-tuning epochs by validation score, at most `most`; of equal ones, the earlier.

    Raises:
        CheckpointError: their weights are gone or, by steps, were not kept.
    """
    record = read_record(finetuned)
    if record.get("command") != "finetune":
        raise CheckpointError(f"{finetuned}/run.json: a record of {record.get('command')!r}, not of 'finetune'")
    ranked = sorted(record["epochs"], key=lambda epoch: (-epoch[record["metric"]], epoch["step"]))[:most]
    folders = [finetuned / EPOCHS / f"checkpoint-{epoch['step']}" for epoch in ranked]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise CheckpointError(
            f"{missing[0]}: weights of this point are gone, or were not kept (--eval-steps keeps those of the best "
            f"{BEST}); average over fewer epochs, or fine-tune again"
        )
    return folders


# Targets


def targets(
    prepared: Prepared,
    classifiers: Sequence[str | Path],
    *,
    options: TargetOptions,
    execution: Execution,
    output: Path,
) -> Path:
    """Targets of the training set, averaged over fine-tuned classifiers, into a folder; see `compute_targets`."""
    wanted = {
        "command": "targets",
        **as_record(options),
        **as_record(execution),
        "task": prepared.task.name,
        "encoding": prepared.encoding,
        "data_checksum": prepared.task.checksum,
        "models": [{"model": model_name(name), "model_checksum": model_checksum(name)} for name in classifiers],
    }
    if is_finished(output, wanted):
        return output
    if is_main():
        started = time.time()
        made = compute_targets(
            [load_fine_tuned(name, prepared.task, execution=execution) for name in classifiers],
            prepared.encoded["train"],
            options=options,
            pad_token_id=prepared.pad_token_id,
            autocast=autocasts(execution),
            labels=prepared.label_names,
        )
        begin(output, wanted)
        made.save_to_disk(str(output))
        facts = _facts(prepared, execution, seconds=time.time() - started)
        write_record(output / RECORD, {**wanted, **facts, "rows": {"train": made.num_rows}})
    mark_finished(output, wanted)
    return output


# Training of a policy


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the training of a policy starts from.

    Attributes:
        model: where the backbone starts.
        classifier: the fine-tuned classifier, the teacher; None: there is none.
        score: its validation score.
        targets: folder of the targets, for a policy that learns from them.
    """

    model: str | Path
    classifier: str | Path | None
    score: float | None
    targets: Path | None = None


def train(
    prepared: Prepared,
    policy: str,
    options: Any,
    *,
    start: Start,
    output: Path,
    optimisation: Optimisation,
    max_drop: float = 0.01,
    reinit_head: str = "auto",
    keep_epochs: bool = False,
) -> Training:
    """Train one point of a policy, its stages one after the other; `output` gets the last one's model.

    Args:
        prepared: the task, with train and validation.
        policy: its name.
        options: of its training, see `Training.Settings`; one value of the budget.
        start: models and score.
        output: folder.
        optimisation: options; each stage has its own number of epochs.
        max_drop: how far below the classifier's score a point may be and still qualify.
        reinit_head: of an encoder.
        keep_epochs: whether the checkpoints of the last stage stay.

    Returns:
        The training. In run.json `epochs` has the evaluated points of the last stage, `selected` the one that was kept,
        each with the precision that it was computed in; `validation` is the selected one in float32.

    Raises:
        ArgumentError: the folder holds another run, or options that the start does not have.
        TrainingError: a loss or a gradient is not finite.
    """
    join_processes(choose_device(optimisation.device))
    kind = training_class(policy)
    steps = None if options.policy_epochs else optimisation.max_steps
    options = kind.resolve(options, task=prepared.task.name, settings=optimisation, start=start.model)
    check_policy(policy, start.model)
    work = Work(
        policy=policy,
        options=options,
        task=prepared.task,
        rows=prepared.encoded,
        tokenizer=prepared.tokenizer,
        max_length=int(prepared.encoding["max_length"]),
        start=start.model,
        settings=optimisation,
        autocast=autocasts(optimisation),
        load_teacher=lambda: _teacher(start, prepared, execution=optimisation),
        reinit_head=reinit_head,
    )
    training = kind(work)
    stages = training.stages()
    wanted = {
        "command": "train",
        "policy": policy,
        **as_record(optimisation),
        **as_record(options),
        **_inputs(prepared, model=start.model),
        "reference_score": start.score,
        "max_drop": max_drop,
        "reinit_head": reinit_head,
        "targets_checksum": None if start.targets is None else _targets_checksum(start.targets),
        "teacher": model_checksum(start.classifier) if start.classifier and any(s.distils for s in stages) else None,
    }
    if is_finished(output, wanted):
        return training
    records: list[dict[str, Any]] = []
    for number, stage in enumerate(stages):
        last = number == len(stages) - 1
        folder = output if last else output / "stages" / f"{number + 1}-{stage.name}"
        if not last and is_finished(folder, {**wanted, "stage": stage.name}):
            records.append(read_record(folder))
            continue
        set_seed(optimisation.seed)
        before = None if not number else output / "stages" / f"{number}-{stages[number - 1].name}"
        model = training.build() if before is None else training.load(before)
        if optimisation.gradient_checkpointing and not model.supports_gradient_checkpointing:
            raise ArgumentError(f"--gradient-checkpointing: transformers' {model.config.model_type} has none")
        rows = stage.rows(model, work)
        if start.targets is not None:
            rows = _with_targets(rows, start.targets, prepared, layers=model.config.num_hidden_layers)
        rate = stage.rates.get("backbone") or stage.rates.get("policy") or optimisation.learning_rate
        of_stage = replace(optimisation, epochs=stage.epochs, max_steps=steps, learning_rate=rate)
        _say(f"note: {describe_dtype(optimisation.precision, choose_device(optimisation.device))}")
        _say(f"training {kind.point_name(policy, options)}, stage {stage.name}, into {output}")
        set_seed(optimisation.seed)
        trainer = StageTrainer(
            model,
            stage_arguments(of_stage, folder / EPOCHS, save_total_limit=None if last and keep_epochs else 2),
            stage=stage,
            metric=prepared.metric("validation"),
            reference=start.score,
            max_drop=max_drop,
            speedup=training.speedup,
            teacher=model.backbone if _is_own_teacher(stage) else work.load_teacher() if stage.distils else None,
            train_dataset=rows,
            eval_dataset=prepared.encoded["validation"],
            data_collator=PaddingCollator(prepared.tokenizer),
            callbacks=report_callbacks(optimisation, folder),
        )

        def finish(
            points: list[dict[str, Any]],
            chosen: dict[str, Any],
            *,
            stage: Stage = stage,
            trainer: StageTrainer = trainer,
            folder: Path = folder,
            last: bool = last,
        ) -> None:
            found = stage.finish(trainer.core, work)
            trainer.core.eval()
            seconds = time.time() - trainer.started
            records.append({"stage": stage.name, "seconds": round(seconds, 1), "epochs": points, "selected": chosen})
            record = records[-1]
            if last:
                total = sum(one["seconds"] for one in records)
                record = _record(training, prepared, trainer.core, wanted, records, start=start, seconds=total) | found
                target = getattr(options, "target", None)
                if target is not None:
                    record["qualified"] = is_near(record["validation"]["speedup"], target)
            trainer.core.save_pretrained(folder)
            prepared.tokenizer.save_pretrained(folder)
            write_record(folder / RECORD, record)

        begin(output, wanted)
        _run_stage(trainer, folder, wanted if last else {**wanted, "stage": stage.name}, finish)
        mark_finished(folder, wanted if last else {**wanted, "stage": stage.name})
    if is_main():
        shutil.rmtree(output / "stages", ignore_errors=True)
        if not keep_epochs:
            shutil.rmtree(output / EPOCHS, ignore_errors=True)
    wait_for_everyone()
    return training


def check_policy(policy: str, model: str | Path) -> None:
    """Raises ArgumentError for a backbone of too few layers, or several processes where one has to do it alone."""
    kind, layers = training_class(policy), read_config(model).num_hidden_layers
    if layers < kind.fewest_layers:
        raise ArgumentError(f"--policy: {policy} needs {kind.fewest_layers} layers at least, the backbone has {layers}")
    if kind.one_process and processes() > 1:
        raise ArgumentError(f"--policy: {policy} trains in one process, {processes()} were started")


def _is_own_teacher(stage: Stage) -> bool:
    """A frozen backbone is the fine-tuned classifier itself."""
    return stage.distils and "backbone" in stage.rates and stage.rates["backbone"] is None


def _teacher(start: Start, prepared: Prepared, *, execution: Execution) -> Any:
    """The fine-tuned classifier, ready for `plain_pass`."""
    if start.classifier is None:
        raise ArgumentError("distillation: needs a fine-tuned classifier to learn from; --finetuned names one")
    teacher = load_fine_tuned(start.classifier, prepared.task, execution=execution)
    return ready(teacher).requires_grad_(False).eval()


def _targets_checksum(folder: Path) -> str:
    """Of the file that holds them."""
    from adapler.files import sha256_of

    return "".join(sha256_of(path) for path in sorted(folder.glob("*.arrow")))


def _with_targets(rows: datasets.Dataset, folder: Path, prepared: Prepared, *, layers: int) -> datasets.Dataset:
    found = load_targets(folder)
    first = found["targets"][0]
    if isinstance(first[0], list) and len(first) != layers:
        raise ArgumentError(f"--targets: of {len(first)} layers, the model has {layers}")
    return add_targets(rows, found, labels=prepared.label_names)


def _record(
    training: Training,
    prepared: Prepared,
    model: Any,
    wanted: Mapping[str, Any],
    records: list[dict[str, Any]],
    *,
    start: Start,
    seconds: float,
) -> dict[str, Any]:
    """run.json of a trained point."""
    options, settings, last = training.options, training.work.settings, records[-1]
    rows, metric, max_drop = prepared.encoded["validation"], prepared.metric("validation"), wanted["max_drop"]
    found = predict_rows(model, rows, pad_token_id=prepared.pad_token_id, progress="validation in float32")
    own = as_record(options)
    if training.budget:
        own[training.budget] = own[training.budget][0]
    named = own
    if training.targets(options) is not None:
        target_options = as_record(training.targets(options))
        own = {name: value for name, value in own.items() if name not in target_options}
        own |= {"phi": options.phi[0], "target_speedup": options.target, "max_drop": max_drop}
        named = {"objectives": own, "targets": target_options}
    return {
        "command": "train",
        "policy": training.work.policy,
        **_inputs(prepared, model=start.model),
        "start": "classifier" if is_fine_tuned(read_config(start.model)) else "encoder",
        "settings": as_record(settings),
        **named,
        "reference_score": start.score,
        "max_drop": max_drop,
        **_facts(prepared, settings, seconds=seconds),
        "examples": {"validation": len(set(rows["example_id"]))},
        "stages": records,
        "epochs": last["epochs"],
        "selected": last["selected"],
        "qualified": qualifies(last["selected"][metric], reference=start.score, max_drop=max_drop),
        "validation": {
            "precision": "float32",
            metric: score_by_example(found.logits, rows["labels"], rows["example_id"], metric=metric),
            "speedup": training.speedup(model, found.lengths_in, found.lengths),
            "lengths": [round(float(n), 2) for n in found.lengths.double().mean(0)],
        },
        **training.facts(model),
    }


def shortfall(record: Mapping[str, Any]) -> str:
    """What the record of a trained point says that it did not reach; empty where it is all that was asked for."""
    target = record.get("objectives", {}).get("target_speedup")
    if target is None:
        missed = "no epoch is within the allowed drop of the fine-tuned model: the best validation score was kept"
        return "" if record["qualified"] else missed
    nearest = record["reached"]["speedup"]
    if abs(nearest - target) <= (0.01 + 1e-9) * target:
        return ""
    return f"{target:g}x was not found: the nearest speedup, {nearest:.2f}x, was kept"


# Evaluation


def evaluate(training: Training, folder: Path, prepared: Prepared, *, policy: str) -> dict[str, Any]:
    """Validation and, where the task has it, test, in float32, written into the point's folder.

    Returns:
        The point's row of the trade-off.
    """
    record = read_record(folder)
    model = training.load(folder).to(choose_device(training.work.settings.device))
    budget = {"phi": None, "target_speedup": None} if training.targets(training.options) else {}
    names = {name: record.get("objectives", {}).get(name) for name in budget}
    if training.budget:
        names |= {training.budget: record[training.budget]}
    row: dict[str, Any] = {"policy": policy, **names, "qualified": record["qualified"], "seconds": record["seconds"]}
    if missed := shortfall(record):
        print(f"{folder.name}: {missed}")
    for split in (name for name in ("validation", "test") if name in prepared.encoded):
        found = training.evaluate(model, prepared.encoded[split], metric=prepared.metric(split))
        result = found | {
            "task": prepared.task.name,
            "split": split,
            "precision": "float32",
            "data_checksum": prepared.task.checksum,
            "encoding": prepared.encoding,
            "model_checksum": model_checksum(folder),
        }
        write_record(folder / f"evaluation-{split}.json", result)
        print(f"{folder.name}, {split}:\n{evaluation_table(result)}")
        hard = result["hard"][0]
        row |= {f"{split}_{prepared.metric(split)}": hard["score"], f"{split}_speedup": hard["speedup"]}
    return row | {"model": folder.name}


# The commands


def run_finetune(config: FinetuneConfig) -> dict[str, Any]:
    """The command `adapler finetune`; returns its record."""
    options = config.optimisation
    splits = ("train", "validation")
    prepared = prepare(config.task, config.model, splits=splits, seed=options.seed, workers=options.workers)
    return read_record(finetune(prepared, config))


def run_targets(config: TargetsConfig) -> dict[str, Any]:
    """The command `adapler targets`; returns its record."""
    sources: list[str | Path] = [str(config.model)]
    if config.finetuned is not None:
        sources = list(best_epochs(config.finetuned, most=config.targets.target_epochs))
    classifier, execution = config.finetuned or str(config.model), config.execution
    prepared = prepare(config.task, classifier, splits=("train",), seed=execution.seed, unlabelled=True)
    prepared = with_predicted_labels(prepared, classifier, execution=execution)
    targets(prepared, sources, options=config.targets, execution=execution, output=config.output)
    return read_record(config.output)


def run_train(config: TrainConfig) -> dict[str, Any]:
    """The command `adapler train`; returns its record.

    Raises:
        ArgumentError: no reference score is given, and none can be measured.
    """
    options, start = config.optimisation, config.model or str(config.finetuned)
    join_processes(choose_device(options.device))
    kind = training_class(config.policy)
    if kind.targets(config.training) is not None and config.targets is None:
        raise ArgumentError(f"--targets: needed by the policy {config.policy}; `adapler targets` writes them")
    classifier = config.finetuned or (start if is_fine_tuned(read_config(start)) else None)
    frozen = bool(getattr(config.training, "freeze_backbone", False))
    prepared = prepare(
        config.task,
        start,
        splits=("train", "validation"),
        seed=options.seed,
        unlabelled=frozen,
        workers=options.workers,
    )
    prepared = with_predicted_labels(prepared, start, execution=options)
    score = config.reference_score
    if score is None and config.finetuned is not None and "validation" not in prepared.predicted:
        record = read_record(config.finetuned)
        score = float(record["best"]) if is_score_here(record, prepared) else None
    if score is None:
        if classifier is None:
            raise ArgumentError("--reference-score: needed when --finetuned is not given and --model is an encoder")
        judge = start if "validation" in prepared.predicted else classifier
        score = from_main(lambda: measured_score(judge, prepared, execution=options))
    train(
        prepared,
        config.policy,
        config.training,
        start=Start(model=start, classifier=classifier, score=score, targets=config.targets),
        output=config.output,
        optimisation=options,
        max_drop=config.max_drop,
        reinit_head=config.reinit_head,
        keep_epochs=config.keep_epochs,
    )
    return read_record(config.output)


def run(config: RunConfig) -> pd.DataFrame:
    """Fine-tune (or measure a classifier), compute targets, train each point, and evaluate.

    In several processes, all of them train and the main one does the rest.

    Returns:
        The trade-off: a row for each point, with scores and speedups on validation and, where the task has it, test, in
        float32, and the model's folder; also in `tradeoff.csv`. Without rows in processes other than the main one.

    Raises:
        ArgumentError, DataError, CheckpointError, TrainingError: see the stages.
    """
    options, output, kind = config.optimisation, Path(config.output), training_class(config.policy)
    points, execution = kind.points(config.training), _execution(options)
    backbone = str(config.classifier or config.model)
    frozen = bool(getattr(config.training, "freeze_backbone", False))
    join_processes(choose_device(options.device))
    if config.classifier is not None and config.policy != "adapler":
        if read_config(config.classifier).model_type == "adapler":
            raise ArgumentError(
                f"--classifier: {config.classifier} is an AdapLeR model, {config.policy} needs a plain one"
            )
    check_policy(config.policy, backbone)
    prepared = prepare(
        config.task,
        backbone,
        splits=("train", "validation"),
        optional=("test",),
        seed=options.seed,
        unlabelled=config.classifier is not None and frozen,
        workers=options.workers,
    )
    if "test" not in prepared.encoded:
        _say(f"note: {prepared.task.name} has no test split, so nothing is evaluated on one")
    target_options = kind.targets(config.training)
    if config.classifier is not None:
        prepared = with_predicted_labels(prepared, config.classifier, execution=execution)
        score = from_main(lambda: measured_score(backbone, prepared, execution=execution))
        start = Start(model=backbone, classifier=backbone, score=score)
        sources: list[str | Path] = [backbone]
    else:
        most = BEST if target_options is None else target_options.target_epochs
        finetuned = finetune(prepared, config.finetuning(), kept=most)
        score = float(read_record(finetuned)["best"])
        sources = list(best_epochs(finetuned, most=most))
        model = finetuned if config.start == "finetuned" or frozen else str(config.model)
        start = Start(model=model, classifier=sources[0], score=score)
    _say(f"fine-tuned: best validation {prepared.metric('validation')} {score:.4f}")
    if target_options is not None:
        folder = targets(prepared, sources, options=target_options, execution=execution, output=output / "targets")
        start = replace(start, targets=folder)
    rows = []
    for point in points:
        resolved = kind.resolve(point, task=prepared.task.name, settings=options, start=start.model)
        folder = output / kind.point_name(config.policy, resolved)
        training = train(
            prepared,
            config.policy,
            point,
            start=start,
            output=folder,
            optimisation=options,
            max_drop=config.max_drop,
            reinit_head=config.reinit_head,
        )
        if is_main():
            rows.append(evaluate(training, folder, prepared, policy=config.policy))
        wait_for_everyone()
    table = pd.DataFrame(rows)
    if is_main():
        with replacing(output / "tradeoff.csv") as partial:
            table.to_csv(partial, index=False)
        write_record(
            output / RECORD,
            {"command": "run", **comparable(as_record(config)), "points": rows} | {"versions": versions()},
        )
        print(table.dropna(axis="columns", how="all").to_string(index=False))
    return table


def speed_up(config: Any) -> Path:
    """A fine-tuned classifier, post hoc to a target speedup, with its calibration; the folder of the model."""
    from adapler.policies.adapler import Objectives
    from adapler.training.config import CalibrateConfig, Inference
    from adapler.training.evaluation import run_calibrate

    objectives = Objectives(target_speedup=[config.target_speedup], freeze_backbone=True)
    run(
        RunConfig(
            classifier=config.model,
            output=config.output,
            task=config.task,
            optimisation=config.optimisation,
            training=objectives,
        )
    )
    folder = Path(config.output) / training_class("adapler").point_name("adapler", objectives)
    if is_main():
        options = config.optimisation
        inference = Inference(device=options.device, seed=options.seed)
        run_calibrate(CalibrateConfig(model=str(folder), task=config.task, execution=inference))
        print(f'pipeline("text-classification", model="{folder}") loads it after `import adapler`', file=sys.stderr)
    return folder
