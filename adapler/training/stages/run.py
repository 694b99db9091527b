"""The stages of a run, one after the other; a stage that finished with the same settings is not done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from adapler.backbones.loading import read_config
from adapler.configuration import AdapLeRConfig
from adapler.distributed import device, is_main, join_processes, wait_for_everyone
from adapler.errors import ArgumentError
from adapler.evaluation import evaluation_table
from adapler.files import check_output_folder, claimed, replacing
from adapler.inference.evaluation import evaluation_table
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.training.policies.base import training_class
from adapler.training.records import (
    RECORD,
    identity_of,
    inputs_of,
    model_checksum,
    read_record,
    record_of,
    write_record,
)
from adapler.training.resume import finished_record
from adapler.training.selection import shortfall
from adapler.training.settings import Execution, Objectives
from adapler.training.stages.evaluate import evaluate
from adapler.training.stages.finetune import best_epochs, finetune, reference_score
from adapler.training.stages.policies.table import with_earlier
from adapler.training.stages.policies.train import evaluate_policy, train_policy
from adapler.training.stages.predicted import measured_score, with_predicted_labels
from adapler.training.stages.prepare import Prepared, prepare
from adapler.training.stages.saliency import saliency, saliency_identity
from adapler.training.stages.settings import RunSettings
from adapler.training.stages.targets import load_targets
from adapler.training.stages.train import train
from adapler.training.trainer.start import check_first_layer


@dataclass(frozen=True)
class _Start:
    """What the training of what drops tokens starts from.

    Attributes:
        model: where the backbone starts.
        sources: the classifiers whose saliency is the target, the best one first.
        saliency: folder of the targets.
        score: validation score of the fine-tuned classifier.
        precision: what that score was computed in; None where its record does not say.
    """

    model: str | Path
    sources: list[str | Path]
    saliency: Path
    score: float
    precision: str | None


def run(settings: RunSettings) -> pd.DataFrame:
    """Fine-tune (or measure a classifier), compute saliency, train AdapLeR for each phi, and evaluate.

    With another policy there is no saliency, and its training takes the place of AdapLeR's, for each of its budgets.

    In several processes, all of them train and the main one does the rest. A run that was stopped goes on where it
    was; a stage that began or finished with other settings, data or models is refused.

    Args:
        settings: of all stages.

    Returns:
        The trade-off: a row for each phi or other budget, with scores and speedups on validation and, where the task
        has it, test, in float32, and the model's folder. Without rows in processes other than the main one. The file
        `tradeoff.csv` has the rows of earlier runs in the same folder too.

    Raises:
        ArgumentError, DataError, CheckpointError, TrainingError: see the stages.
    """
    started, output = time.time(), Path(settings.output)
    backbone = str(settings.classifier or settings.model)
    join_processes(choose_device(settings.settings.device))
    check_output_folder(output, replaced=False)
    with claimed(output):
        if settings.other_policy and settings.classifier is not None:
            if read_config(settings.classifier).model_type == AdapLeRConfig.model_type:
                name = settings.policies[0].policy
                raise ArgumentError(
                    f"--classifier: {settings.classifier} is an AdapLeR model; --policy {name} starts from "
                    "a plain classifier"
                )
        prepared = prepare(
            settings.task,
            backbone,
            splits=("train", "validation"),
            optional=("test",),
            seed=settings.settings.seed,
            unlabelled=settings.classifier is not None and settings.objectives[0].freeze_backbone,
            workers=settings.settings.workers,
        )
        if is_main() and "test" not in prepared.encoded:
            print(f"note: {prepared.task.name} has no test split, so nothing is evaluated on one")
        if settings.classifier is not None:
            prepared = with_predicted_labels(prepared, settings.classifier, execution=_execution(settings))
        check_first_layer(settings.objectives[0], backbone)
        layers = read_config(backbone).num_hidden_layers
        for policy in settings.policies if settings.other_policy else ():
            training_class(policy.policy).check(policy, task=prepared.task.name, layers=layers)
        start = _finetuned(settings, prepared) if settings.classifier is None else _measured(settings, prepared)
        table = pd.DataFrame(list((_other_points if settings.other_policy else _points)(settings, prepared, start)))
        if is_main():
            _write_table(table, settings, prepared, started=started)
        return table


def _finetuned(settings: RunSettings, prepared: Prepared) -> _Start:
    """The first stage: fine-tuning."""
    folder = Path(settings.output) / "finetuned"
    finetune(
        prepared.task,
        prepared.encoded,
        model=str(settings.model),
        tokenizer=prepared.tokenizer,
        output=folder,
        settings=settings.finetuning(),
        reinit_head=settings.reinit_head,
        resume=True,
        half=settings.half,
        packed=settings.finetune_packed,
        kept=settings.saliency_epochs,
        encoding=prepared.encoding,
    )
    score, precision = reference_score(folder)
    if is_main():
        print(f"fine-tuned: best validation {prepared.task.metric} {score:.4f}")
    from_encoder = settings.starts_from == "pretrained" and not settings.objectives[0].freeze_backbone
    return _Start(
        model=str(settings.model) if from_encoder else folder,
        sources=list(best_epochs(folder, most=settings.saliency_epochs)),
        saliency=Path(settings.output) / "saliency",
        score=score,
        precision=precision,
    )


def _measured(settings: RunSettings, prepared: Prepared) -> _Start:
    """The first stage of a classifier that was fine-tuned elsewhere: its validation score."""
    folder, started, classifier = Path(settings.output) / "classifier", time.time(), str(settings.classifier)
    execution = _execution(settings)
    identity = identity_of(
        "run",
        execution,
        **inputs_of(prepared.scored_task(), prepared.encoding, model=classifier),
    )
    if finished_record(folder, identity, resume=True, keep_epochs=True) is None and is_main():
        score = measured_score(classifier, prepared, execution=execution)
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder / RECORD, record_of(identity, started=started, best=score))
    wait_for_everyone()
    record = read_record(folder)
    return _Start(
        model=classifier,
        sources=[classifier],
        saliency=folder / "saliency",
        score=float(record["best"]),
        precision=record.get("precision"),
    )


def _points(settings: RunSettings, prepared: Prepared, start: _Start) -> Iterator[dict[str, Any]]:
    """AdapLeR: saliency, then a model for each phi or target; a row of the trade-off each, in the main process."""
    _make_targets(settings, prepared, start)
    for objectives in settings.objectives:
        folder = _train(settings, prepared, start, objectives)
        if is_main():
            model = AdapLeRForSequenceClassification.from_pretrained(folder).to(choose_device(settings.settings.device))
            target = objectives.target_speedup
            row: dict[str, Any] = {"phi": objectives.phi} if target is None else {"target_speedup": target}
            yield row | _evaluate(
                folder, prepared, partial(evaluate, model, prepared, dtype="float32"), title=_budget(objectives)
            )
        wait_for_everyone()


def _other_points(settings: RunSettings, prepared: Prepared, start: _Start) -> Iterator[dict[str, Any]]:
    """Another policy: a model for each budget; a row of the trade-off each, in the main process."""
    for policy in settings.policies:
        name = training_class(policy.policy).point(policy, task=prepared.task.name)
        folder = Path(settings.output) / name
        training = train_policy(
            prepared,
            policy,
            start=start.model,
            classifier=start.sources[0],
            output=folder,
            settings=settings.settings,
            reference_score=start.score,
            reference_precision=start.precision,
            max_drop=settings.objectives[0].max_drop,
            initial_head=settings.reinit_head,
        )
        if is_main():
            model = training.load(folder).to(choose_device(settings.settings.device))
            judge = partial(evaluate_policy, training, model, prepared)
            row = {name: training.chosen[name] for name in ("policy", "policy_weight", "keep")}
            yield row | _evaluate(folder, prepared, judge, title=name)
        wait_for_everyone()


def _make_targets(settings: RunSettings, prepared: Prepared, start: _Start) -> None:
    execution = _execution(settings)
    identity = saliency_identity(prepared, start.sources, targets=settings.targets, execution=execution)
    done = finished_record(start.saliency, identity, resume=True, keep_epochs=True)
    if done is None and is_main():
        if start.saliency.is_dir():
            print(f"note: {start.saliency} has no run.json, an older version wrote it: it is made anew")
        saliency(prepared, start.sources, targets=settings.targets, output=start.saliency, execution=execution)
    wait_for_everyone()


def _train(settings: RunSettings, prepared: Prepared, start: _Start, objectives: Objectives) -> Path:
    """AdapLeR training with one phi or target; returns its folder."""
    folder = Path(settings.output) / f"{_budget(objectives)}{_mode(objectives)}"
    train(
        prepared.scored_task(),
        prepared.encoded,
        model=start.model,
        tokenizer=prepared.tokenizer,
        saliency=load_targets(start.saliency),
        output=folder,
        settings=settings.settings,
        objectives=objectives,
        reference_score=start.score,
        reference_precision=start.precision,
        initial_head=settings.reinit_head,
        teacher=start.sources[0],
        resume=True,
        encoding=prepared.encoding,
    )
    return folder


def _evaluate(folder: Path, prepared: Prepared, judge: Callable[..., dict[str, Any]], *, title: str) -> dict[str, Any]:
    """All splits but train, in float32, written into the model's folder; returns what the trade-off table says."""
    record = read_record(folder)
    row: dict[str, Any] = {"qualified": record["qualified"], "seconds": record["seconds"]}
    if missed := shortfall(record):
        print(f"{title.replace('-', ' ', 1)}: {missed}")
    for split in (name for name in ("validation", "test") if name in prepared.encoded):
        result = judge(split=split)
        write_record(folder / f"evaluation-{split}.json", result | {"model_checksum": model_checksum(folder)})
        print(f"{title.replace('-', ' ', 1)}, {split}:\n{evaluation_table(result)}")
        hard = result["hard"][0]
        row |= {f"{split}_{prepared.metric(split)}": hard["score"], f"{split}_speedup": hard["speedup"]}
    return row | {"model": folder.name}


def _write_table(table: pd.DataFrame, settings: RunSettings, prepared: Prepared, *, started: float) -> None:
    mode, output = _mode(settings.objectives[0]), Path(settings.output)
    if settings.other_policy:
        mode = f"-{settings.policies[0].policy}"
    path = output / f"tradeoff{mode}.csv"
    table = with_earlier(table, path)
    with replacing(path) as partial:
        table.to_csv(partial, index=False)
    identity = identity_of(
        "run",
        settings.settings,
        task=prepared.task.name,
        model=str(settings.classifier or settings.model),
        data_checksum=prepared.task.checksum,
        encoding=prepared.encoding,
    )
    points = "points" if settings.other_policy else "phi"
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    record = record_of(identity, started=started, **{points: rows})
    write_record(output / f"run{mode}.json", record)
    print(table.dropna(axis="columns", how="all").to_string(index=False))


def _execution(settings: RunSettings) -> Execution:
    chosen = settings.settings
    return Execution(device=chosen.device, precision=chosen.precision, seed=chosen.seed)


def _budget(objectives: Objectives) -> str:
    """What a model of a run is called after: its phi, or the speedup that it was trained to."""
    target = objectives.target_speedup
    return f"phi-{objectives.phi:g}" if target is None else f"speedup-{target:g}"


def _mode(objectives: Objectives) -> str:
    return "-post-hoc" if objectives.freeze_backbone else ""
