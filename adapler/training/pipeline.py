"""The stages of a run, finetune -> targets -> train -> evaluate; each is a function of (data, options) -> folder.

A stage that finished in its folder with the same configuration is skipped; another configuration is an error.
While a stage trains, `epochs/` holds a checkpoint for each evaluated point, from which it resumes.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import set_seed

from adapler.backbones.families import SINGLE_LABEL, ready, view
from adapler.errors import ArgumentError, CheckpointError
from adapler.evaluation import (
    classifier_score,
    evaluate_rows,
    evaluation_table,
    load_fine_tuned,
    measured_score,
    run_calibrate,
    score_by_example,
    with_predicted_labels,
)
from adapler.inference import predict_rows
from adapler.modeling import is_fine_tuned, load_classifier, read_config, reinitialise_head
from adapler.options import counted
from adapler.options import record as as_record
from adapler.policies.base import Packed, Stage, Training, is_near, qualifies, training_class
from adapler.system import (
    choose_device,
    describe_dtype,
    from_main,
    is_main,
    join_processes,
    processes,
    replacing,
    sha256_of,
    wait_for_everyone,
)
from adapler.text import RUN
from adapler.training import records
from adapler.training.config import (
    CalibrateConfig,
    Execution,
    FinetuneConfig,
    Inference,
    Optimisation,
    PolicyConfig,
    RunConfig,
    TargetOptions,
    TargetsConfig,
    TrainConfig,
)
from adapler.training.data import Prepared, add_targets, compute_targets, load_targets, prepare
from adapler.training.trainer import (
    KeepBest,
    PaddingCollator,
    StageTrainer,
    evaluated_points,
    last_checkpoint,
    stage_arguments,
)

EPOCHS = "epochs"  # in a stage's folder: a checkpoint for each evaluated point
BEST = 3  # points of fine-tuning by steps whose weights are kept, unless targets need more
STATES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "scaler.pt", "training_args.bin")  # not the weights


def _inputs(prepared: Prepared, *, model: str | Path) -> dict[str, Any]:
    """The data and the model of a stage, for its configuration and its record."""
    task = prepared.task
    return {
        "task": task.name,
        "encoding": prepared.encoding,
        "data_checksum": task.checksum,
        "labels": list(task.labels),
        "metric": prepared.metric("validation"),
        "model": records.model_name(model),
        "model_checksum": records.model_checksum(model),
    }


def _facts(prepared: Prepared, options: Execution, *, seconds: float) -> dict[str, Any]:
    """Facts in the record of every stage."""
    return {
        "precision": "bfloat16" if options.autocasts else "float32",
        "rows": {split: rows.num_rows for split, rows in prepared.encoded.items()},
        "arguments": records.arguments(),
        "versions": records.versions(),
        "seconds": round(seconds, 1),
    }


def _say(text: str) -> None:
    if is_main():
        print(text)


def _trainer(
    model: Any,
    stage: Stage,
    rows: Any,
    *,
    prepared: Prepared,
    options: Optimisation,
    folder: Path,
    config: Mapping[str, Any],
    keep: int | None = None,
    **how: Any,
) -> StageTrainer:
    """The trainer of a stage in a folder, which is marked as begun with `config`, see `is_finished`; `options` have the
    stage's epochs and learning rate, and `keep` checkpoints stay (default: all)."""
    _say(f"note: {describe_dtype(options.precision, choose_device(options.device))}\n{stage.name} into {folder}")
    records.begin(folder, config)
    return StageTrainer(
        model,
        stage_arguments(options, folder / EPOCHS, save_total_limit=keep),
        stage=stage,
        metric=prepared.metric("validation"),
        train_dataset=rows,
        eval_dataset=prepared.encoded["validation"],
        data_collator=PaddingCollator(prepared.tokenizer),
        **how,
    )


# Fine-tuning


def finetune(prepared: Prepared, config: FinetuneConfig, *, kept: int = BEST) -> Path:
    """Fine-tune a classifier; its folder gets the best epoch's model, and `epochs/` with the weights of all.

    An encoder's head is new, a fine-tuned classifier's only with reinit_head "yes". With `eval_steps` there may be many
    points, so only the weights of the `kept` best ones stay.
    """
    options, output, metric = config.optimisation, Path(config.output), prepared.metric("validation")
    join_processes(choose_device(options.device))
    inputs, own = _inputs(prepared, model=config.model), ("reinit_head", "half", "packed")
    chosen = {name: getattr(config, name) for name in own}
    wanted = {"command": "finetune", **as_record(options), **chosen, **inputs}
    if records.is_finished(output, wanted):
        return output
    if config.packed and processes() > 1:
        raise ArgumentError("--packed: fine-tunes in one process only")
    set_seed(options.seed)
    classifier = load_classifier(config.model, labels=list(prepared.task.labels))
    # transformers sets it in the first step, which a resumed run may not have.
    classifier.config.problem_type = SINGLE_LABEL
    ready(classifier)
    if config.packed:
        view(classifier).hold_pairwise()
    fine_tuned = is_fine_tuned(read_config(config.model))
    new_head = reinitialise_head(classifier, mode=config.reinit_head, fine_tuned=fine_tuned)
    trainer = _trainer(
        classifier,
        (Packed if config.packed else Stage)(name="finetune", removal=None, rates={"backbone": options.learning_rate}),
        prepared.encoded["train"],
        prepared=prepared,
        options=options,
        folder=output,
        config=wanted,
        speedup=lambda model, lengths_in, lengths: 1.0,
        callbacks=[KeepBest(max(BEST, kept))] if options.eval_steps else [],
    )
    last = last_checkpoint(output / EPOCHS)
    if not trainer.is_over(last):
        trainer.train(last)
    points, best = evaluated_points(trainer)
    if is_main():
        if config.half:  # values that float16 holds exactly
            for parameter in classifier.parameters():
                parameter.data = parameter.data.half().float()
        # As it is saved, and in float32, whatever the epochs were computed in.
        rows = prepared.encoded["validation"]
        score = classifier_score(classifier, rows, pad_token_id=prepared.pad_token_id, metric=metric)
        classifier.save_pretrained(output)
        prepared.tokenizer.save_pretrained(output)
        record = {
            "command": "finetune",
            **inputs,
            "settings": as_record(options),
            **chosen,
            "head_reinitialised": new_head,
            **_facts(prepared, options, seconds=time.time() - trainer.started),
            "epochs": points,
            "best": best[metric],
            "validation": {"precision": "float32", metric: score},
        }
        records.write_record(output / RUN, record)
        for pattern in STATES:
            for path in (output / EPOCHS).glob(f"*/{pattern}"):
                path.unlink()
    records.mark_finished(output, wanted)
    return output


def best_epochs(finetuned: Path, *, most: int = BEST) -> list[Path]:
    """Folders of the best fine-tuning epochs by validation score, at most `most`; of equal ones, the earlier.
    CheckpointError where their weights are gone or, by steps, were not kept."""
    record = records.read_record(finetuned)
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
        "models": [
            {"model": records.model_name(name), "model_checksum": records.model_checksum(name)} for name in classifiers
        ],
    }
    if records.is_finished(output, wanted):
        return output
    if is_main():
        started = time.time()
        made = compute_targets(
            [load_fine_tuned(name, prepared.task, execution=execution) for name in classifiers],
            prepared.encoded["train"],
            options=options,
            pad_token_id=prepared.pad_token_id,
            autocast=execution.autocasts,
            labels=prepared.label_names,
        )
        records.begin(output, wanted)
        made.save_to_disk(str(output))
        facts = _facts(prepared, execution, seconds=time.time() - started)
        records.write_record(output / RUN, {**wanted, **facts, "rows": {"train": made.num_rows}})
    records.mark_finished(output, wanted)
    return output


# Training of a policy


@dataclass(frozen=True, kw_only=True)
class Start:
    """Starting point of a policy's training."""

    model: str | Path  # where the backbone starts
    classifier: str | Path | None  # the fine-tuned classifier, the teacher
    score: float | None  # its validation score
    targets: Path | None = None  # folder of the targets, for a policy that learns from them


def train(prepared: Prepared, config: PolicyConfig, options: Any, *, start: Start, output: Path) -> Training:
    """Train one point of a policy, its stages one after the other; `output` gets the last one's model.

    `options` are the policy's (`Training.Settings`), with one value of the budget. In run.json `epochs` has the
    evaluated points of the last stage, `selected` the one that was kept, each with the precision that it was computed
    in; `validation` is the selected one in float32.
    """
    policy, optimisation, max_drop = config.policy, config.optimisation, config.max_drop
    join_processes(choose_device(optimisation.device))
    kind = training_class(policy)
    steps = None if options.policy_epochs else optimisation.max_steps
    options = kind.resolve(options, task=prepared.task.name, settings=optimisation, start=start.model)
    check_policy(policy, start.model)

    def teacher() -> Any:
        if start.classifier is None:
            raise ArgumentError("distillation: needs a fine-tuned classifier to learn from; --finetuned names one")
        found = load_fine_tuned(start.classifier, prepared.task, execution=optimisation)
        return ready(found).requires_grad_(False).eval()

    training = kind(prepared, config, options, start=start.model, load_teacher=teacher)
    stages = training.stages()
    made_of = sorted(start.targets.glob("*.arrow")) if start.targets else []
    wanted = {
        "command": "train",
        "policy": policy,
        **as_record(optimisation),
        **as_record(options),
        **_inputs(prepared, model=start.model),
        "reference_score": start.score,
        "max_drop": max_drop,
        "reinit_head": config.reinit_head,
        "targets_checksum": "".join(map(sha256_of, made_of)) if start.targets else None,
        "teacher": records.model_checksum(start.classifier)
        if start.classifier and any(s.distils for s in stages)
        else None,
    }
    if records.is_finished(output, wanted):
        return training
    stage_records: list[dict[str, Any]] = []
    folders = [output / "stages" / f"{number}-{stage.name}" for number, stage in enumerate(stages[:-1], 1)] + [output]
    for number, (stage, folder) in enumerate(zip(stages, folders, strict=True)):
        last = folder == output
        of_stage = wanted if last else {**wanted, "stage": stage.name}
        if not last and records.is_finished(folder, of_stage):
            stage_records.append(records.read_record(folder))
            continue
        set_seed(optimisation.seed)
        model = training.load(folders[number - 1]) if number else training.build()
        rows = stage.rows(model, training)
        if start.targets is not None:
            layers = model.config.num_hidden_layers
            rows = add_targets(rows, load_targets(start.targets), labels=prepared.label_names, layers=layers)
        rate = stage.rates.get("backbone") or stage.rates.get("policy") or optimisation.learning_rate
        own_teacher = stage.distils and stage.rates.get("backbone", rate) is None  # a frozen backbone is the classifier

        records.begin(output, wanted)
        set_seed(optimisation.seed)
        trainer = _trainer(
            model,
            stage,
            rows,
            prepared=prepared,
            options=replace(optimisation, epochs=stage.epochs, max_steps=steps, learning_rate=rate),
            folder=folder,
            config=of_stage,
            keep=2,
            reference=start.score,
            max_drop=max_drop,
            speedup=training.speedup,
            teacher=model.backbone if own_teacher else teacher() if stage.distils else None,
        )
        checkpoint = last_checkpoint(folder / EPOCHS)
        if not trainer.is_over(checkpoint):
            trainer.train(checkpoint)
        points, selected = evaluated_points(trainer)
        if is_main():
            found = stage.finish(model, training)
            model.eval()
            seconds = round(time.time() - trainer.started, 1)
            record = {"stage": stage.name, "seconds": seconds, "epochs": points, "selected": selected}
            stage_records.append(record)
            if last:
                record = _record(training, prepared, trainer, wanted, stage_records, start=start) | found
            model.save_pretrained(folder)
            prepared.tokenizer.save_pretrained(folder)
            records.write_record(folder / RUN, record)
        records.mark_finished(folder, of_stage)
    if is_main():
        shutil.rmtree(output / "stages", ignore_errors=True)
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


def _record(
    training: Training,
    prepared: Prepared,
    trainer: StageTrainer,
    wanted: Mapping[str, Any],
    stage_records: list[dict[str, Any]],
    *,
    start: Start,
) -> dict[str, Any]:
    """run.json of a trained point."""
    model, settings, selected = trainer.core, training.config.optimisation, stage_records[-1]["selected"]
    rows, metric, max_drop = prepared.encoded["validation"], prepared.metric("validation"), wanted["max_drop"]
    found = predict_rows(model, rows, pad_token_id=prepared.pad_token_id, progress="validation in float32")
    gain, target = training.speedup(model, found.lengths_in, found.lengths), trainer.stage.target
    near = is_near(gain, target) if target else qualifies(selected[metric], reference=start.score, max_drop=max_drop)
    described = training.described(training.options)
    if start.targets is not None and "targets" in described:  # made before: their folder says how, not this command
        made = records.read_record(start.targets) if (start.targets / RUN).is_file() else {}
        described["targets"] = {name: made.get(name) for name in described["targets"]}
    return {
        "command": "train",
        "policy": training.config.policy,
        **_inputs(prepared, model=start.model),
        "start": "classifier" if is_fine_tuned(read_config(start.model)) else "encoder",
        "settings": as_record(settings),
        **described,
        "reference_score": start.score,
        "max_drop": max_drop,
        **_facts(prepared, settings, seconds=sum(one["seconds"] for one in stage_records)),
        "examples": {"validation": len(set(rows["example_id"]))},
        "stages": stage_records,
        "epochs": stage_records[-1]["epochs"],
        "selected": selected,
        "qualified": near,
        "validation": {
            "precision": "float32",
            metric: score_by_example(found.logits, rows["labels"], rows["example_id"], metric=metric),
            "speedup": gain,
            "lengths": [round(float(n), 2) for n in found.lengths.double().mean(0)],
        },
    }


def shortfall(record: Mapping[str, Any]) -> str:
    """Message on a target speedup that a trained model missed; empty if it was reached."""
    if "reached" not in record:
        missed = "no epoch is within the allowed drop of the fine-tuned model: the best validation score was kept"
        return "" if record["qualified"] else missed
    target, nearest = record["reached"]["target"], record["reached"]["speedup"]
    if abs(nearest - target) <= (0.01 + 1e-9) * target:
        return ""
    return f"{target:g}x was not found: the nearest speedup, {nearest:.2f}x, was kept"


# Evaluation


def evaluate(training: Training, folder: Path, prepared: Prepared, *, policy: str) -> dict[str, Any]:
    """Validation and, where the task has it, test, in float32, written into the point's folder; the trade-off's row."""
    record = records.read_record(folder)
    model = training.load(folder).to(choose_device(training.config.optimisation.device))
    row: dict[str, Any] = {"policy": policy, **training.columns(training.options)}
    row |= {"qualified": record["qualified"], "seconds": record["seconds"]}
    if missed := shortfall(record):
        print(f"{folder.name}: {missed}")
    for split in (name for name in ("validation", "test") if name in prepared.encoded):
        found = evaluate_rows(
            model,
            prepared.encoded[split],
            pad_token_id=prepared.pad_token_id,
            metric=prepared.metric(split),
            teacher=training.teacher,
            speedup=training.speedup,
        )
        result = found | prepared.provenance(split, model=folder) | {"precision": "float32"}
        records.write_record(folder / f"evaluation-{split}.json", result)
        print(f"{folder.name}, {split}:\n{evaluation_table(result)}")
        hard = result["hard"][0]
        row |= {f"{split}_{prepared.metric(split)}": hard["score"], f"{split}_speedup": hard["speedup"]}
    return row | {"model": folder.name}


# The commands


def run_finetune(config: FinetuneConfig) -> dict[str, Any]:
    """The command `adapler finetune`; returns its record."""
    options, splits = config.optimisation, ("train", "validation")
    prepared = prepare(config.task, config.model, splits=splits, seed=options.seed, workers=options.workers)
    record = records.read_record(finetune(prepared, config))
    _say(f"best validation {record['metric']} {record['best']:.4f}; model in {config.output}")
    return record


def run_targets(config: TargetsConfig) -> dict[str, Any]:
    """The command `adapler targets`; returns its record."""
    sources: list[str | Path] = [str(config.model)]
    if config.finetuned is not None:
        sources = list(best_epochs(config.finetuned, most=config.targets.target_epochs))
    classifier, execution = config.finetuned or str(config.model), config.execution
    prepared = prepare(config.task, classifier, splits=("train",), seed=execution.seed, unlabelled=True)
    prepared = with_predicted_labels(prepared, classifier, execution=execution)
    record = records.read_record(
        targets(prepared, sources, options=config.targets, execution=execution, output=config.output)
    )
    _say(f"targets of {counted(record['rows']['train'], 'row')} in {config.output}")
    return record


def run_train(config: TrainConfig) -> dict[str, Any]:
    """The command `adapler train`; returns its record."""
    options, start = config.optimisation, config.model or str(config.finetuned)
    join_processes(choose_device(options.device))
    if training_class(config.policy).targets(config.training) is not None and config.targets is None:
        raise ArgumentError(f"--targets: needed by the policy {config.policy}; `adapler targets` writes them")
    classifier = config.finetuned or (start if is_fine_tuned(read_config(start)) else None)
    prepared = prepare(
        config.task,
        start,
        splits=("train", "validation"),
        seed=options.seed,
        unlabelled=_is_post_hoc(config),
        workers=options.workers,
    )
    prepared = with_predicted_labels(prepared, start, execution=options)
    score = config.reference_score
    if score is None:
        if classifier is None:
            raise ArgumentError("--reference-score: needed when --finetuned is not given and --model is an encoder")
        judge = start if "validation" in prepared.predicted else classifier
        score = from_main(measured_score(judge, prepared, execution=options) if is_main() else None)
    begun = Start(model=start, classifier=classifier, score=score, targets=config.targets)
    train(prepared, config, config.training, start=begun, output=config.output)
    record, metric = records.read_record(config.output), prepared.metric("validation")
    exact = record["validation"]
    _say(
        f"validation {metric} {exact[metric]:.4f} (fine-tuned {score:.4f}), speedup {exact['speedup']:.2f}x, in "
        f"{exact['precision']}; model of step {record['selected']['step']} in {config.output}"
    )
    if missed := shortfall(record):
        _say(missed)
    return record


def _is_post_hoc(config: PolicyConfig) -> bool:
    return bool(getattr(config.training, "freeze_backbone", False))


def run(config: RunConfig) -> pd.DataFrame:
    """Fine-tune (or measure a classifier), compute targets, train each point, and evaluate.

    Returns the trade-off, also in `tradeoff.csv`: a row for each point, with scores and speedups on validation and,
    where the task has it, test, in float32, and the model's folder. In several processes all train, and the main one
    does the rest; the others return no rows.
    """
    options, output, kind = config.optimisation, Path(config.output), training_class(config.policy)
    execution = Execution(device=options.device, precision=options.precision, seed=options.seed)
    backbone, post_hoc = str(config.classifier or config.model), _is_post_hoc(config)
    join_processes(choose_device(options.device))
    check_policy(config.policy, backbone)
    prepared = prepare(
        config.task,
        backbone,
        splits=("train", "validation"),
        optional=("test",),
        seed=options.seed,
        unlabelled=config.classifier is not None and post_hoc,
        workers=options.workers,
    )
    if "test" not in prepared.encoded:
        _say(f"note: {prepared.task.name} has no test split, so nothing is evaluated on one")
    target_options = kind.targets(config.training)
    if config.classifier is not None:
        prepared = with_predicted_labels(prepared, config.classifier, execution=execution)
        score = from_main(measured_score(backbone, prepared, execution=execution) if is_main() else None)
        start = Start(model=backbone, classifier=backbone, score=score)
        sources: list[str | Path] = [backbone]
    else:
        most = BEST if target_options is None else target_options.target_epochs
        finetuned = finetune(prepared, config.finetuning(), kept=most)
        score = float(records.read_record(finetuned)["best"])
        sources = list(best_epochs(finetuned, most=most))
        model = finetuned if config.start == "finetuned" or post_hoc else str(config.model)
        start = Start(model=model, classifier=sources[0], score=score)
    _say(f"fine-tuned: best validation {prepared.metric('validation')} {score:.4f}")
    if target_options is not None:
        folder = targets(prepared, sources, options=target_options, execution=execution, output=output / "targets")
        start = replace(start, targets=folder)
    rows = []
    for point in kind.points(config.training):
        resolved = kind.resolve(point, task=prepared.task.name, settings=options, start=start.model)
        folder = output / kind.point_name(config.policy, resolved)
        training = train(prepared, config, point, start=start, output=folder)
        if is_main():
            rows.append(evaluate(training, folder, prepared, policy=config.policy))
        wait_for_everyone()
    table = pd.DataFrame(rows)
    if is_main():
        with replacing(output / "tradeoff.csv") as partial:
            table.to_csv(partial, index=False)
        made = {
            "command": "run",
            **records.comparable(as_record(config)),
            "points": rows,
            "versions": records.versions(),
        }
        records.write_record(output / RUN, made)
        print(table.dropna(axis="columns", how="all").to_string(index=False))
    return table


def speed_up(config: Any) -> None:
    """The command `adapler speed-up`: a fine-tuned classifier, post hoc to a target speedup, calibrated. The output
    folder is the model; what the training needs to resume is in `training` within it."""
    kind, output, options = training_class("adapler"), Path(config.output), config.optimisation
    point: Any = kind.Settings
    point, steps = point(target_speedup=[config.target_speedup], freeze_backbone=True), output / "training"
    run(RunConfig(classifier=config.model, output=steps, task=config.task, optimisation=options, training=point))
    if is_main():
        made = steps / kind.point_name("adapler", point)
        shutil.copytree(made, output, dirs_exist_ok=True, ignore=shutil.ignore_patterns(records.DONE))
        inference = Inference(device=options.device, seed=options.seed)
        run_calibrate(CalibrateConfig(model=str(output), task=config.task, execution=inference))
        print(f"the faster model is in {output}")
        print(f'pipeline("text-classification", model="{output}") loads it after `import adapler`', file=sys.stderr)
