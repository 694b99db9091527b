"""The command `adapler`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers

from adapler.data import command as data_command
from adapler.errors import ArgumentError, DataError, run_command
from adapler.files import replacing
from adapler.options import add_objectives, add_settings, add_task_options, objectives_of, prepare, settings_of
from adapler.runs import write_record


def _finetune(args: argparse.Namespace) -> int:
    from adapler.finetuning import finetune

    prepared = prepare(args, args.model, splits=("train", "validation"))
    record = finetune(
        prepared.task,
        prepared.encoded,
        model=args.model,
        tokenizer=prepared.tokenizer,
        output=args.output,
        settings=settings_of(args),
        reinit_head=args.reinit_head,
        resume=args.resume,
        half=args.half,
    )
    print(f"best validation {record['metric']} {record['best']:.4f}; model in {args.output}")
    return 0


def _saliency(args: argparse.Namespace) -> int:
    from adapler.pipeline import make_targets

    prepared = prepare(args, args.finetuned, splits=("train",))
    make_targets(prepared, finetuned=args.finetuned, output=args.output, most=args.epochs, precision=args.precision)
    print(f"saliency of {prepared.encoded['train'].num_rows} rows in {args.output}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from adapler.pipeline import reference_score
    from adapler.targets import load_targets
    from adapler.training import train

    targets = load_targets(args.saliency)
    reference = reference_score(args.finetuned) if args.reference_score is None else args.reference_score
    start = args.model if args.model is not None else args.finetuned
    prepared = prepare(args, start, splits=("train", "validation"))
    record = train(
        prepared.task,
        prepared.encoded,
        model=start,
        tokenizer=prepared.tokenizer,
        saliency=targets,
        output=args.output,
        settings=settings_of(args),
        objectives=objectives_of(args),
        reference_score=reference,
        resume=args.resume,
        keep_epochs=args.keep_epochs,
    )
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


def _run(args: argparse.Namespace) -> int:
    from adapler.pipeline import run_pipeline

    return run_pipeline(args)


def _evaluate(args: argparse.Namespace) -> int:
    from adapler import AdapLeRForSequenceClassification
    from adapler.evaluation import evaluate_rows, evaluation_table

    model = AdapLeRForSequenceClassification.from_pretrained(args.model)
    prepared = prepare(args, args.model, splits=(args.split,))
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


def _read_texts(path: Path) -> list[Any]:
    """Texts of a .jsonl (`text`, or `text_a` and `text_b`) or of a plain file, one a line."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start})") from error
    texts: list[Any] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            texts.append(line)
            continue
        try:
            row = json.loads(line)
            texts.append(row["text"] if "text" in row else (row["text_a"], row["text_b"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: not a JSON object with `text`, or `text_a` and `text_b`") from error
    if not texts:
        raise DataError(f"{path}: no texts")
    return texts


def _predict(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from adapler import AdapLeRForSequenceClassification
    from adapler.data.encoding import load_tokenizer

    if (args.input is None) == (not args.text):
        raise ArgumentError("give either texts or --input FILE")
    texts = args.text or _read_texts(args.input)
    model = AdapLeRForSequenceClassification.from_pretrained(args.model)
    results = model.predict(
        texts,
        tokenizer=load_tokenizer(args.model, words=False),
        removal=args.removal,
        threshold_scale=args.threshold_scale,
        max_length=args.max_length,
        progress="predict" if len(texts) > 64 else None,
    )
    if args.output is None:
        for result in results:
            lengths = " ".join(map(str, result.lengths))
            print(f"{result.label}\t{result.score:.4f}\t{result.speedup:.2f}x\t{len(result.tokens)} -> {lengths}")
        return 0
    with replacing(args.output) as partial, partial.open("w", encoding="utf-8") as stream:
        for result in results:
            stream.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
    print(f"{len(results)} predictions in {args.output}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from adapler.pipeline import export

    size = export(args.model, args.output)
    print(f"{args.output}: {size / 1e6:.1f} MB")
    return 0


def _example(text: str) -> dict[str, Any]:
    return {"epilog": f"example:\n  {text}", "formatter_class": argparse.RawDescriptionHelpFormatter}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adapler", description="Train and use classifiers that drop tokens.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, **_example(example))
        sub.set_defaults(run=run)
        return sub

    model = "google-bert/bert-base-uncased"
    sub = command(
        "run",
        _run,
        "the whole pipeline of a task: fine-tune, saliency, train, evaluate; goes on where it was stopped",
        f"adapler run --task sst2 --model {model} --output runs/sst2 --gamma 0.005 --phi 0.0005",
    )
    sub.add_argument("--model", required=True, help="pre-trained encoder: hub name or folder")
    sub.add_argument("--output", type=Path, required=True, help="run folder")
    sub.add_argument("--start", choices=("pretrained", "finetuned"), default="pretrained", help="of AdapLeR training")
    sub.add_argument("--finetune-epochs", type=int, help="default: --epochs")
    sub.add_argument("--finetune-learning-rate", type=float, help="default: --learning-rate")
    sub.add_argument("--reinit-head", choices=("auto", "yes", "no"), default="auto")
    sub.add_argument("--half", action="store_true", help="round the fine-tuned weights to float16's grid")
    add_task_options(sub)
    add_settings(sub)
    add_objectives(sub, several=True)

    sub = command(
        "finetune",
        _finetune,
        "fine-tune the plain backbone: the baseline, and the source of saliency",
        f"adapler finetune --task sst2 --model {model} --output runs/sst2/finetuned",
    )
    sub.add_argument("--model", required=True, help="pre-trained encoder: hub name or folder")
    sub.add_argument("--output", type=Path, required=True)
    sub.add_argument("--reinit-head", choices=("auto", "yes", "no"), default="auto", help="new pooler and classifier")
    sub.add_argument("--half", action="store_true", help="round the weights to float16's grid")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")
    add_task_options(sub)
    add_settings(sub)

    sub = command(
        "saliency",
        _saliency,
        "saliency targets of the training set from the best fine-tuning epochs",
        "adapler saliency --task sst2 --finetuned runs/sst2/finetuned --output runs/sst2/saliency",
    )
    sub.add_argument("--finetuned", type=Path, required=True, help="what `adapler finetune` wrote")
    sub.add_argument("--output", type=Path, required=True)
    sub.add_argument("--epochs", type=int, default=3, help="how many epochs to average (default: 3)")
    sub.add_argument("--seed", type=int, default=42, help="of --limit")
    sub.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    add_task_options(sub)

    sub = command(
        "train",
        _train,
        "train AdapLeR",
        "adapler train --task sst2 --finetuned runs/sst2/finetuned --saliency runs/sst2/saliency "
        "--freeze-backbone --output runs/sst2/post-hoc",
    )
    sub.add_argument("--finetuned", type=Path, help="what `adapler finetune` wrote: start and reference score")
    sub.add_argument("--model", help="where the backbone starts instead: the pre-trained encoder, as in the paper")
    sub.add_argument("--reference-score", type=float, help="default: the fine-tuned model's best validation score")
    sub.add_argument("--saliency", type=Path, required=True, help="what `adapler saliency` wrote")
    sub.add_argument("--output", type=Path, required=True)
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")
    sub.add_argument("--keep-epochs", action="store_true", help="keep every epoch's checkpoint")
    add_task_options(sub)
    add_settings(sub)
    add_objectives(sub)

    sub = command(
        "evaluate",
        _evaluate,
        "score and FLOPs speedup of a trained model on a split",
        "adapler evaluate --model runs/sst2/adapler --task sst2 --split test --threshold-scale 0.5 1 1.5",
    )
    sub.add_argument("--model", type=Path, required=True, help="AdapLeR model folder")
    sub.add_argument("--split", default="test", choices=("train", "validation", "test"))
    sub.add_argument("--threshold-scale", type=float, nargs="+", default=[1.0], help="factors on every eta")
    sub.add_argument("--token-budget", type=int, default=8192, help="padded tokens in a batch")
    sub.add_argument("--output", type=Path, help="write the result as JSON")
    add_task_options(sub)

    sub = command(
        "predict",
        _predict,
        "classify texts",
        'adapler predict --model checkpoints/movies-minilm "a film that never once bores"',
    )
    sub.add_argument("text", nargs="*", help="texts")
    sub.add_argument("--input", type=Path, help="a .jsonl (`text`, or `text_a` and `text_b`), or one text a line")
    sub.add_argument("--model", required=True, help="AdapLeR model: folder or hub name")
    sub.add_argument("--removal", choices=("hard", "none"), default="hard")
    sub.add_argument("--threshold-scale", type=float, default=1.0)
    sub.add_argument("--max-length", type=int)
    sub.add_argument("--output", type=Path, help="write everything as .jsonl")

    sub = command(
        "export",
        _export,
        "copy a model with its backbone's weights stored as float16",
        "adapler export --model runs/movies/post-hoc --output checkpoints/movies",
    )
    sub.add_argument("--model", type=Path, required=True)
    sub.add_argument("--output", type=Path, required=True)

    sub = command("data", data_command.run, "download and describe data", "adapler data stats data/eraser/sample")
    data_command.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    transformers.logging.set_verbosity_error()
    return int(args.run(args))


def entry() -> None:
    sys.exit(run_command(main))


if __name__ == "__main__":
    entry()
