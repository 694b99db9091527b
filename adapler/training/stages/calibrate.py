"""Calibration of a trained model: its curve of score, FLOPs and time, stored beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from adapler.calibrate import measure
from adapler.calibration import CALIBRATION, Calibration, Machine, weights_checksum, write_calibration
from adapler.devices import choose_device, describe_dtype
from adapler.errors import ArgumentError
from adapler.files import check_output_file, claimed
from adapler.inference.calibration import Grid, measure
from adapler.model.batching import token_budget_for
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.precision import describe_dtype
from adapler.training.records import versions
from adapler.training.stages.prepare import prepare_trained
from adapler.training.stages.settings import CalibrateSettings


def calibration_file(settings: CalibrateSettings) -> Path:
    """Where the curve is written: `--output`, else beside the model.

    Raises:
        ArgumentError: nothing that was measured on the test split is stored with a model, and a hub model has no
            folder.
    """
    stored = Path(settings.model) / CALIBRATION
    output = settings.output or stored
    if settings.split == "test" and os.path.realpath(output) == os.path.realpath(stored):
        raise ArgumentError(
            "--split: a model does not keep what was measured on test, since a scale that is picked there fits it; "
            "use validation, or --output with another file to look at the curve only"
        )
    if settings.output is not None:
        return output
    if not Path(settings.model).is_dir():
        raise ArgumentError(f"--model: {settings.model} is not a folder; --output FILE names where the curve goes")
    return stored


def run_calibrate(settings: CalibrateSettings) -> tuple[Calibration, Path]:
    """The command `adapler calibrate`; returns the curve and the file that holds it.

    Raises:
        ArgumentError: a task with another number of labels than the model, or see calibration_file and claimed.
    """
    path = calibration_file(settings)
    check_output_file(path)
    with claimed(path):
        calibration = _measured(settings)
        write_calibration(path, calibration)
    return calibration, path


def _measured(settings: CalibrateSettings) -> Calibration:
    model = AdapLeRForSequenceClassification.from_pretrained(settings.model).to(
        choose_device(settings.execution.device)
    )
    checksum = weights_checksum(model)
    prepared, read = prepare_trained(settings.task, settings.model, split=settings.split, seed=settings.execution.seed)
    labels, known = len(prepared.task.labels), model.config.num_labels
    if labels != known:
        raise ArgumentError(f"--task: {prepared.task.name} has {labels} labels, the model in {settings.model} {known}")
    model = model.for_inference(dtype=settings.execution.dtype)
    print(f"note: {describe_dtype(settings.execution.dtype, model.device)}", file=sys.stderr)
    print(f"note: {read}", file=sys.stderr)
    token_budget = settings.token_budget or token_budget_for(model.device)
    machine = Machine.of(model)
    measured = measure(
        model,
        prepared.encoded[settings.split].to_list(),
        pad_token_id=prepared.tokenizer.pad_token_id,
        metric=prepared.task.metric,
        most_speedup=settings.most_speedup,
        most_drop=settings.most_drop,
        points=settings.points,
        token_budget=token_budget,
        timed_single=settings.timed_single,
        resamples=settings.resamples,
        level=settings.level,
        seed=settings.execution.seed,
        say=lambda line: print(line, file=sys.stderr),
    )
    return Calibration(
        model_checksum=checksum,
        task=prepared.task.name,
        split=settings.split,
        data_checksum=prepared.task.checksum,
        encoding=prepared.encoding,
        metric=prepared.task.metric,
        examples=measured.examples,
        machine=machine,
        token_budget=token_budget,
        timed_single=measured.timed_single,
        level=settings.level,
        resamples=settings.resamples,
        slower_texts=measured.slower_texts,
        versions=versions(),
        none=measured.none,
        points=measured.points,
    )
