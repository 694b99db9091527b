"""The commands of `adapler`: from parsed arguments to settings, to a stage, to what is printed.

Each function takes what argparse made of the command line, and returns the exit code, 0. Errors are raised as
AdapLeRError. What a command needs is imported when it runs, so that `adapler --help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from adapler.cli.options import chosen
from adapler.distributed import is_main
from adapler.errors import ArgumentError, counted
from adapler.files import replacing, visible


def pipeline_command(args: argparse.Namespace) -> int:
    """`adapler run`."""
    settings = chosen(args)
    from adapler.training.stages.run import run

    run(settings)
    return 0


def finetune_command(args: argparse.Namespace) -> int:
    """`adapler finetune`."""
    settings = chosen(args)
    from adapler.training.stages.finetune import run_finetune

    record = run_finetune(settings)
    if is_main():
        print(f"best validation {record['metric']} {record['best']:.4f}; model in {settings.output}")
    return 0


def saliency_command(args: argparse.Namespace) -> int:
    """`adapler saliency`."""
    settings = chosen(args)
    from adapler.training.stages.saliency import run_saliency

    record = run_saliency(settings)
    print(f"saliency of {counted(record['rows']['train'], 'row')} in {settings.output}")
    return 0


def train_command(args: argparse.Namespace) -> int:
    """`adapler train`."""
    settings = chosen(args)
    from adapler.training.stages.train import run_train

    record = run_train(settings)
    if is_main():
        _report_selected(record, settings.output)
    return 0


def _report_selected(record: dict[str, Any], output: Path) -> None:
    from adapler.training.selection import shortfall

    epoch, metric = record["selected"], record["metric"]
    print(
        f"epoch {epoch['epoch']:g}, step {epoch['step']}: validation {metric} {epoch[metric]:.4f} "
        f"(fine-tuned {record['reference_score']:.4f}), speedup {epoch['speedup']:.2f}x; model in {output}"
    )
    if "reached" in record:
        end = record["reached"]
        print(f"eta times {end['factor']:.3g}: speedup {end['before']:.2f}x -> {end['speedup']:.2f}x on validation")
    if "validation" in record:
        exact = record["validation"]
        print(f"in {exact['precision']}: {metric} {exact[metric]:.4f}, speedup {exact['speedup']:.2f}x")
    if missed := shortfall(record):
        print(missed)


def evaluate_command(args: argparse.Namespace) -> int:
    """`adapler evaluate`."""
    settings = chosen(args)
    from adapler.evaluation import evaluation_table
    from adapler.training.stages.evaluate import run_evaluate

    result = run_evaluate(settings)
    print(f"{result['task']}, {result['split']}: {counted(result['examples'], 'example')}, in {result['precision']}")
    print(evaluation_table(result))
    return 0


def calibrate_command(args: argparse.Namespace) -> int:
    """`adapler calibrate`."""
    settings = chosen(args)
    from adapler.calibrate import curve_table
    from adapler.training.stages.calibrate import run_calibrate

    curve, path = run_calibrate(settings)
    print(f"{curve.task}, {curve.split}: {counted(curve.examples, 'example')}; {curve.machine}")
    print(curve_table(curve.none, curve.points, metric=curve.metric))
    print(f"{100 * curve.slower_texts:.2g} % of single steps to the next scale cost a text more FLOPs; curve in {path}")
    return 0


def export_command(args: argparse.Namespace) -> int:
    """`adapler export`."""
    settings = chosen(args)
    from adapler import AdapLeRForSequenceClassification
    from adapler.export import export, scale_eta
    from adapler.text import load_tokenizer

    _check_export_folder(settings.output, onnx=settings.onnx)
    model = AdapLeRForSequenceClassification.from_pretrained(settings.model)
    tokenizer = load_tokenizer(settings.model, words=False)
    scale = settings.threshold_scale
    if scale != 1:
        scale_eta(model, scale)
    if settings.onnx:
        return _export_onnx(settings, model, tokenizer)
    record = settings.model / "run.json"
    size = export(model, settings.output, tokenizer=tokenizer, record=record, threshold_scale=scale)
    print(f"{settings.output}: {size / 1e6:.1f} MB")
    return 0


_OF_EXPORTS = (  # what an export writes, as patterns; what a user adds to it would be lost
    *(
        "*.safetensors",
        "*.onnx",
        "*.onnx.data",
        "*.model",
        "config.json",
        "run.json",
        "calibration.json",
        "vocab.*",
        "merges.txt",
    ),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
)


def _check_export_folder(path: Path, *, onnx: bool) -> None:
    """An export may replace an empty folder and an earlier export of its kind: no trained model, nobody else's, and
    nothing that was written into it since."""
    from adapler.configuration import AdapLeRConfig
    from adapler.export import INDEX
    from adapler.files import check_output_folder
    from adapler.onnx.export import DESCRIPTION
    from adapler.training.records import read_json

    former = DESCRIPTION if onnx else INDEX
    check_output_folder(path, former=(former,))
    others = [one for one in visible(path.glob("*")) if not any(one.match(known) for known in (former, *_OF_EXPORTS))]
    if others:
        raise ArgumentError(
            f"--output: {path} would be replaced whole, and holds {others[0].name}, which no export writes; move it "
            "away, or choose another folder"
        )
    config = path / "config.json"
    kind = read_json(config).get("model_type") if config.is_file() else AdapLeRConfig.model_type
    if kind != AdapLeRConfig.model_type:
        raise ArgumentError(
            f"--output: {path} would be replaced whole, and holds another model (config.json: model_type {kind!r}, not "
            f"{AdapLeRConfig.model_type!r}); choose another folder"
        )


def _export_onnx(settings: Any, model: Any, tokenizer: Any) -> int:
    from adapler.onnx.export import export_onnx

    written = export_onnx(
        model,
        settings.output,
        tokenizer=tokenizer,
        int8=settings.int8,
        record=settings.model / "run.json",
        threshold_scale=settings.threshold_scale,
    )
    kind = "int8, from float32, nothing dropped" if settings.int8 else "float32, from PyTorch"
    for name, size in written.sizes.items():
        difference = written.differences[name]
        print(f"{settings.output / name}: {size / 1e6:.1f} MB; logits differ by at most {difference:.1g} ({kind})")
    return 0


def card_command(args: argparse.Namespace) -> int:
    """`adapler card`."""
    settings = chosen(args)
    from adapler.card.text import write_card

    path, notes = write_card(settings)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{path}; read it, and say under Limits what the model is not for")
    return 0


def tradeoff_command(args: argparse.Namespace) -> int:
    """`adapler tradeoff`."""
    settings = chosen(args)
    from adapler.cli.tradeoff import tradeoff_table
    from adapler.files import check_output_file

    check_output_file(settings.output)
    table = tradeoff_table(settings.runs, split=settings.split)
    with replacing(settings.output) as partial:
        table.to_csv(partial, index=False)
    rows, runs = counted(len(table), "row"), counted(table["run"].nunique(), "run")
    print(f"{rows} of {runs} in {settings.output}")
    return 0
