"""The stages of a run, one after the other, each skipped when its record shows it is done."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from adapler.backbones.checkpoints import is_fine_tuned, load_classifier, read_config
from adapler.data.tasks import Task
from adapler.distributed import device, is_main, wait_for_everyone
from adapler.errors import ArgumentError, CheckpointError
from adapler.files import replacing
from adapler.inference.evaluation import classifier_score, evaluate_rows, evaluation_table
from adapler.model.modeling import AdapLeRForSequenceClassification
from adapler.training.records import (
    Settings,
    check_output_folder,
    model_name,
    record_of,
    use_bfloat16,
    write_record,
)
from adapler.training.stages.finetune import best_epochs, finetune
from adapler.training.stages.options import Prepared, objectives_of, prepare, settings_of
from adapler.training.stages.targets import load_targets, saliency_targets, save_targets
from adapler.training.stages.train import Objectives, train


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder that a training command wrote.

    Raises:
        CheckpointError: none there, or not readable.
    """
    path = folder / "run.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no run.json, so no training command finished here") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: a JSON object is expected, found {type(record).__name__}")
    return record


def reference_score(finetuned: Path) -> float:
    """Best validation score of what `adapler finetune` wrote.

    Raises:
        CheckpointError: no such record in it.
    """
    record = read_record(finetuned)
    if record.get("command") != "finetune":
        raise CheckpointError(f"{finetuned}/run.json: a record of {record.get('command')!r}, not of 'finetune'")
    if not isinstance(record.get("best"), int | float):
        raise CheckpointError(f"{finetuned}/run.json: 'best' is {record.get('best')!r}, not a score")
    return float(record["best"])


def _load_fine_tuned(name: str | Path, task: Task) -> PreTrainedModel:
    """Raises ArgumentError for an encoder."""
    if not is_fine_tuned(read_config(name)):
        raise ArgumentError(f"{name}: is an encoder, without a trained head; a fine-tuned classifier is needed here")
    return load_classifier(name, labels=list(task.labels)).to(device())


def measured_score(classifier: str | Path, prepared: Prepared) -> float:
    """Validation score of a classifier that was fine-tuned elsewhere."""
    rows, metric = prepared.encoded["validation"], prepared.task.metric
    score = classifier_score(
        _load_fine_tuned(classifier, prepared.task),
        rows,
        pad_token_id=prepared.tokenizer.pad_token_id,
        metric=metric,
    )
    _say(f"{classifier}: validation {metric} {score:.4f}")
    labels = list(dict(zip(rows["example_id"], rows["labels"], strict=True)).values())
    most = Counter(labels).most_common(1)[0][1] / len(labels)
    if metric == "accuracy" and score < most:
        _say(
            f"note: that is below the most frequent label's share, {most:.4f}; it may number its labels in another "
            f"order than {', '.join(prepared.task.labels)} (id2label in its config.json says which)"
        )
    return score


def classifiers_of(finetuned: Path, *, most: int) -> list[Path]:
    """Folders of the best epochs in a folder that `adapler finetune` wrote, at most `most`."""
    if most < 1:
        raise ArgumentError(f"--epochs: {most} is not at least 1")
    return best_epochs(finetuned, record=read_record(finetuned), most=most)


def make_targets(prepared: Prepared, classifiers: Sequence[str | Path], *, output: Path, precision: str) -> None:
    """Saliency of the training set, averaged over fine-tuned classifiers."""
    targets = saliency_targets(
        [_load_fine_tuned(name, prepared.task) for name in classifiers],
        prepared.encoded["train"],
        pad_token_id=prepared.tokenizer.pad_token_id,
        autocast=use_bfloat16(precision),
    )
    save_targets(targets, output)


def _done(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a stage finished here with these settings.

    Raises:
        ArgumentError: it finished with others.
    """
    if not (folder / "run.json").is_file():
        return False
    record = read_record(folder)
    for name, value in wanted.items():
        if name in record and record[name] != value:
            raise ArgumentError(
                f"--output: {folder} holds a finished run with {name} {record.get(name)}, not {value}; "
                "give another folder or remove that one"
            )
    return True


def run_pipeline(args: argparse.Namespace) -> int:
    """`adapler run`: fine-tune, saliency, AdapLeR for each phi, evaluation; see the command's help.

    In several processes, all of them train and the main one does the rest.
    """
    started = time.time()
    settings, output = settings_of(args), args.output
    objectives = {phi: objectives_of(args, phi=phi) for phi in args.phi}
    finetune_settings = replace(
        settings,
        epochs=settings.epochs if args.finetune_epochs is None else args.finetune_epochs,
        learning_rate=settings.learning_rate if args.finetune_learning_rate is None else args.finetune_learning_rate,
    )
    check_output_folder(output)
    prepared = prepare(args, args.classifier or args.model, splits=("train", "validation", "test"))
    if args.classifier is None:
        reference = _finetune(args, prepared, finetune_settings)
        start, saliency = output / "finetuned", output / "saliency"
    else:
        reference = _measure(args, prepared, settings)
        start, saliency = args.classifier, output / "classifier" / "saliency"
    if is_main() and not saliency.is_dir():
        sources = classifiers_of(start, most=args.saliency_epochs) if args.classifier is None else [start]
        make_targets(prepared, sources, output=saliency, precision=args.precision)
    wait_for_everyone()
    if args.classifier is None and not args.freeze_backbone and args.start == "pretrained":
        start = args.model
    rows = []
    for chosen in objectives.values():
        folder = _train(args, prepared, settings, chosen, start=start, saliency=saliency, reference=reference)
        if is_main():
            rows.append(_evaluate(folder, prepared, phi=chosen.phi))
        wait_for_everyone()
    if is_main():
        kind = "-post-hoc" if args.freeze_backbone else ""
        table = pd.DataFrame(rows)
        with replacing(output / f"tradeoff{kind}.csv") as partial:
            table.to_csv(partial, index=False)
        model = str(args.classifier or args.model)
        fields = {"task": prepared.task.name, "model": model, "phi": rows, **_same(prepared)}
        write_record(output / f"run{kind}.json", record_of("run", settings, started=started, **fields))
        print(table.to_string(index=False))
    return 0


def _same(prepared: Prepared) -> dict[str, Any]:
    """What must be the same in a finished stage for the next one to build on it."""
    return {"data_checksum": prepared.task.checksum, "encoding": prepared.encoding}


def _say(text: str) -> None:
    if is_main():
        print(text)


def _measure(args: argparse.Namespace, prepared: Prepared, settings: Settings) -> float:
    """The first stage of a classifier that was fine-tuned elsewhere; returns its validation score."""
    folder, started = args.output / "classifier", time.time()
    named = {"model": model_name(args.classifier), **_same(prepared)}
    if not _done(folder, named) and is_main():
        score, task = measured_score(args.classifier, prepared), prepared.task
        fields = {"task": task.name, "labels": list(task.labels), "metric": task.metric, "best": score, **named}
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder / "run.json", record_of("run", settings, started=started, **fields))
    wait_for_everyone()  # also one that came late and found the record written
    return float(read_record(folder)["best"])


def _finetune(args: argparse.Namespace, prepared: Prepared, settings: Settings) -> float:
    """The first stage; returns the best validation score."""
    folder = args.output / "finetuned"
    if not _done(folder, {"settings": asdict(settings), "model": model_name(args.model), **_same(prepared)}):
        _say(f"fine-tuning into {folder}")
        finetune(
            prepared.task,
            prepared.encoded,
            model=args.model,
            tokenizer=prepared.tokenizer,
            output=folder,
            settings=settings,
            reinit_head=args.reinit_head,
            resume=True,
            half=args.half,
            encoding=prepared.encoding,
        )
    reference = reference_score(folder)
    _say(f"fine-tuned: best validation {prepared.task.metric} {reference:.4f}")
    return reference


def _train(
    args: argparse.Namespace,
    prepared: Prepared,
    settings: Settings,
    objectives: Objectives,
    *,
    start: str | Path,
    saliency: Path,
    reference: float,
) -> Path:
    """AdapLeR training with one phi; returns its folder."""
    folder: Path = args.output / (f"phi-{objectives.phi:g}" + ("-post-hoc" if args.freeze_backbone else ""))
    wanted = {"settings": asdict(settings), "objectives": asdict(objectives), "model": model_name(start)}
    if not _done(folder, {**wanted, **_same(prepared)}):
        _say(f"training AdapLeR with phi {objectives.phi:g} into {folder}")
        train(
            prepared.task,
            prepared.encoded,
            model=start,
            tokenizer=prepared.tokenizer,
            saliency=load_targets(saliency),
            output=folder,
            settings=settings,
            objectives=objectives,
            reference_score=reference,
            initial_head=args.reinit_head,
            resume=True,
            encoding=prepared.encoding,
        )
    return folder


def _evaluate(folder: Path, prepared: Prepared, *, phi: float) -> dict[str, Any]:
    """Validation and test of a trained model, written into its folder; returns its row of the trade-off table."""
    model = AdapLeRForSequenceClassification.from_pretrained(folder).to(device())
    record = read_record(folder)
    row = {"phi": phi, "qualified": record["qualified"], "seconds": record["seconds"]}
    metric = prepared.task.metric
    for split in ("validation", "test"):
        result = evaluate_rows(
            model, prepared.encoded[split], pad_token_id=prepared.tokenizer.pad_token_id, metric=metric
        )
        result |= {"task": prepared.task.name, "split": split, "data_checksum": prepared.task.checksum}
        write_record(folder / f"evaluation-{split}.json", result)
        print(f"phi {phi:g}, {split}:\n{evaluation_table(result)}")
        hard = result["hard"][0]
        row |= {f"{split}_{metric}": hard["score"], f"{split}_speedup": hard["speedup"]}
    return row
