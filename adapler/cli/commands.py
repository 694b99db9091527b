"""What each command of `adapler` does with its parsed arguments; models are imported when a command needs them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from adapler.backbones.checkpoints import is_fine_tuned, read_config
from adapler.data.tasks import Task
from adapler.distributed import device, is_main
from adapler.errors import ArgumentError
from adapler.files import replacing
from adapler.training.records import check_output_file, check_output_folder, write_record
from adapler.training.stages.options import objectives_of, prepare, settings_of


def finetune_command(args: argparse.Namespace) -> int:
    from adapler.training.stages.finetune import finetune

    settings = settings_of(args)
    check_output_folder(args.output)
    prepared = prepare(args, args.model, splits=("train", "validation"))
    record = finetune(
        prepared.task,
        prepared.encoded,
        model=args.model,
        tokenizer=prepared.tokenizer,
        output=args.output,
        settings=settings,
        reinit_head=args.reinit_head,
        resume=args.resume,
        half=args.half,
        encoding=prepared.encoding,
    )
    if is_main():
        print(f"best validation {record['metric']} {record['best']:.4f}; model in {args.output}")
    return 0


def saliency_command(args: argparse.Namespace) -> int:
    from adapler.training.stages.run import classifiers_of, make_targets

    check_output_folder(args.output)
    sources = [args.model] if args.finetuned is None else classifiers_of(args.finetuned, most=args.epochs)
    prepared = prepare(args, args.model or args.finetuned, splits=("train",))
    make_targets(prepared, sources, output=args.output, precision=args.precision)
    print(f"saliency of {prepared.encoded['train'].num_rows} rows in {args.output}")
    return 0


def train_command(args: argparse.Namespace) -> int:
    from adapler.training.stages.run import measured_score, reference_score
    from adapler.training.stages.targets import load_targets
    from adapler.training.stages.train import train

    settings, objectives = settings_of(args), objectives_of(args)
    start = args.model if args.model is not None else args.finetuned
    if start is None:
        raise ArgumentError("--model: needed when --finetuned is not given")
    if args.reference_score is not None and not 0 <= args.reference_score <= 1:
        raise ArgumentError(f"--reference-score: {args.reference_score} is not between 0 and 1")
    check_output_folder(args.output)
    targets = load_targets(args.saliency)
    reference = args.reference_score
    if reference is None and args.finetuned is not None:
        reference = reference_score(args.finetuned)
    if reference is None and not is_fine_tuned(read_config(start)):
        raise ArgumentError("--reference-score: needed when --finetuned is not given and --model is an encoder")
    prepared = prepare(args, start, splits=("train", "validation"))
    if reference is None:
        reference = measured_score(start, prepared)
    record = train(
        prepared.task,
        prepared.encoded,
        model=start,
        tokenizer=prepared.tokenizer,
        saliency=targets,
        output=args.output,
        settings=settings,
        objectives=objectives,
        reference_score=reference,
        resume=args.resume,
        keep_epochs=args.keep_epochs,
        encoding=prepared.encoding,
    )
    if is_main():
        _report_selected(record, args.output)
    return 0


def _report_selected(record: dict[str, Any], output: Path) -> None:
    chosen, metric = record["selected"], record["metric"]
    print(
        f"epoch {chosen['epoch']:g}: validation {metric} {chosen[metric]:.4f} "
        f"(fine-tuned {record['reference_score']:.4f}), speedup {chosen['speedup']:.2f}x; model in {output}"
    )
    if not record["qualified"]:
        print("no epoch is within the allowed drop of the fine-tuned model: the best validation score was kept")


def run_command(args: argparse.Namespace) -> int:
    from adapler.training.stages.run import run_pipeline

    return run_pipeline(args)


def evaluate_command(args: argparse.Namespace) -> int:
    from adapler import AdapLeRForSequenceClassification
    from adapler.inference.evaluation import evaluate_rows, evaluation_table

    check_output_file(args.output)
    model = AdapLeRForSequenceClassification.from_pretrained(args.model).to(device())
    prepared = prepare(args, args.model, splits=(args.split,))
    _check_labels(model, prepared.task, folder=args.model)
    result = evaluate_rows(
        model,
        prepared.encoded[args.split],
        pad_token_id=prepared.tokenizer.pad_token_id,
        metric=prepared.task.metric,
        threshold_scales=args.threshold_scale,
        token_budget=args.token_budget,
    )
    result |= {"task": prepared.task.name, "split": args.split, "data_checksum": prepared.task.checksum}
    print(f"{prepared.task.name}, {args.split}: {result['examples']} examples")
    print(evaluation_table(result))
    if args.output is not None:
        write_record(args.output, result)
    return 0


def _check_labels(model: Any, task: Task, *, folder: Path) -> None:
    """Their number; `prepare` has matched their names."""
    number = model.config.num_labels
    if number != len(task.labels):
        raise ArgumentError(f"--task: {task.name} has {len(task.labels)} labels, the model in {folder} {number}")


def export_command(args: argparse.Namespace) -> int:
    from adapler import AdapLeRForSequenceClassification
    from adapler.data.encoding import load_tokenizer
    from adapler.model.export import export

    check_output_folder(args.output)
    model = AdapLeRForSequenceClassification.from_pretrained(args.model)
    tokenizer = load_tokenizer(args.model, words=False)
    size = export(model, args.output, tokenizer=tokenizer, record=args.model / "run.json")
    print(f"{args.output}: {size / 1e6:.1f} MB")
    return 0


def tradeoff_command(args: argparse.Namespace) -> int:
    from adapler.cli.tradeoff import tradeoff_table

    check_output_file(args.output)
    table = tradeoff_table(args.runs, split=args.split)
    with replacing(args.output) as partial:
        table.to_csv(partial, index=False)
    print(f"{len(table)} rows of {table['run'].nunique()} runs in {args.output}")
    return 0
