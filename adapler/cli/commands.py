"""The commands of `adapler`: from parsed arguments to settings, to a stage, to what is printed.

What a command needs is imported when it runs, so that `adapler --help` answers at once.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapler.cli.options import chosen
from adapler.distributed import is_main
from adapler.errors import ArgumentError, DataError
from adapler.files import replacing


def run_command(args: argparse.Namespace) -> int:
    settings = chosen(args)
    from adapler.training.stages.run import run

    run(settings)
    return 0


def finetune_command(args: argparse.Namespace) -> int:
    settings = chosen(args)
    from adapler.training.stages.finetune import run_finetune

    record = run_finetune(settings)
    if is_main():
        print(f"best validation {record['metric']} {record['best']:.4f}; model in {settings.output}")
    return 0


def saliency_command(args: argparse.Namespace) -> int:
    settings = chosen(args)
    from adapler.training.stages.saliency import run_saliency

    record = run_saliency(settings)
    print(f"saliency of {record['rows']['train']} rows in {settings.output}")
    return 0


def train_command(args: argparse.Namespace) -> int:
    settings = chosen(args)
    from adapler.training.stages.train import run_train

    record = run_train(settings)
    if is_main():
        _report_selected(record, settings.output)
    return 0


def _report_selected(record: dict[str, Any], output: Path) -> None:
    epoch, metric = record["selected"], record["metric"]
    print(
        f"epoch {epoch['epoch']:g}: validation {metric} {epoch[metric]:.4f} "
        f"(fine-tuned {record['reference_score']:.4f}), speedup {epoch['speedup']:.2f}x; model in {output}"
    )
    if "validation" in record:
        exact = record["validation"]
        print(f"in {exact['precision']}: {metric} {exact[metric]:.4f}, speedup {exact['speedup']:.2f}x")
    if not record["qualified"]:
        print("no epoch is within the allowed drop of the fine-tuned model: the best validation score was kept")


def evaluate_command(args: argparse.Namespace) -> int:
    settings = chosen(args)
    from adapler.inference.evaluation import evaluation_table
    from adapler.training.stages.evaluate import run_evaluate

    result = run_evaluate(settings)
    print(f"{result['task']}, {result['split']}: {result['examples']} examples, in {result['precision']}")
    print(evaluation_table(result))
    return 0


def _read_texts(path: Path) -> list[Any]:
    """Texts of a .jsonl (`text`, or `text_a` and `text_b`) or of a plain file, one a line."""
    from adapler.data.archive import json_lines

    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start})") from error
    texts: list[Any] = []
    if path.suffix != ".jsonl":
        texts = [line.strip() for line in content.split("\n") if line.strip()]
    else:
        for number, row in json_lines(content, str(path)):
            found = (row.get("text"),) if "text" in row else (row.get("text_a"), row.get("text_b"))
            if not all(isinstance(text, str) and text.strip() for text in found):
                raise DataError(f"{path}:{number}: no `text`, or `text_a` and `text_b`, that is a string with words")
            texts.append(found[0] if len(found) == 1 else found)
    if not texts:
        raise DataError(f"{path}: no texts")
    return texts


def predict_command(args: argparse.Namespace) -> int:
    from adapler import AdapLeRForSequenceClassification
    from adapler.data.encoding import load_tokenizer
    from adapler.distributed import device
    from adapler.training.resume import check_output_file

    if (args.input is None) == (not args.text):
        raise ArgumentError("give either texts or --input FILE")
    check_output_file(args.output)
    texts = args.text or _read_texts(args.input)
    model = AdapLeRForSequenceClassification.from_pretrained(args.model).to(device())
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


def export_command(args: argparse.Namespace) -> int:
    settings = chosen(args)
    from adapler import AdapLeRForSequenceClassification
    from adapler.data.encoding import load_tokenizer
    from adapler.model.export import export
    from adapler.training.resume import check_output_folder

    check_output_folder(settings.output)
    model = AdapLeRForSequenceClassification.from_pretrained(settings.model)
    tokenizer = load_tokenizer(settings.model, words=False)
    size = export(model, settings.output, tokenizer=tokenizer, record=settings.model / "run.json")
    print(f"{settings.output}: {size / 1e6:.1f} MB")
    return 0


def tradeoff_command(args: argparse.Namespace) -> int:
    settings = chosen(args)
    from adapler.cli.tradeoff import tradeoff_table
    from adapler.training.resume import check_output_file

    check_output_file(settings.output)
    table = tradeoff_table(settings.runs, split=settings.split)
    with replacing(settings.output) as partial:
        table.to_csv(partial, index=False)
    print(f"{len(table)} rows of {table['run'].nunique()} runs in {settings.output}")
    return 0
