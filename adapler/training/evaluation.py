"""The commands of trained models on a task's rows: evaluate and calibrate."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapler.calibrate import curve_table, measure
from adapler.calibration import CALIBRATION, Calibration, Machine, write_calibration
from adapler.errors import ArgumentError, counted
from adapler.evaluation import evaluate_rows, evaluation_table
from adapler.inference import token_budget_for, weights_checksum
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.system import check_output_file, choose_device, choose_dtype, describe_dtype
from adapler.text import reading
from adapler.training.config import CalibrateConfig, EvaluateConfig
from adapler.training.data import prepare_trained
from adapler.training.records import versions, write_record


def _note(text: object) -> None:
    print(f"note: {text}", file=sys.stderr)


def run_evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """The command `adapler evaluate`; returns its result.

    Raises:
        ArgumentError: a task that does not fit the model, see `prepare_trained`.
    """
    check_output_file(config.output)
    model = AdapLeRForSequenceClassification.from_pretrained(config.model).to(choose_device(config.execution.device))
    prepared, read = prepare_trained(config.task, config.model, split=config.split, seed=config.execution.seed)
    _note(read)
    choices = [model.choose_scale(**target) for target in config.targets]
    notes: list[object] = list(choices)
    if choices:  # of one curve, all, and of one kind of target
        notes.append(choices[0].other_reading(reading(prepared.encoding)))
    if choices and choices[0].target == "milliseconds":
        notes.append(choices[0].other_machine(Machine.of(model.for_inference(dtype=config.execution.dtype))))
    for note in filter(None, notes):
        _note(note)
    if choices and choices[0].calibration.data_checksum == prepared.task.checksum:
        if choices[0].calibration.split == config.split:
            _note(f"the curve was measured on these rows ({config.split}): it fits them, other rows can differ")
    scales = tuple(choice.threshold_scale for choice in choices) or tuple(config.threshold_scale or (1.0,))
    dtype = config.execution.dtype
    _note(describe_dtype(dtype, model.device))
    result = evaluate_rows(
        model.for_inference(dtype=dtype),
        prepared.encoded[config.split],
        pad_token_id=prepared.pad_token_id,
        metric=prepared.metric(config.split),
        threshold_scales=scales,
        token_budget=config.token_budget,
    )
    for target, row in zip(config.targets, result["hard"], strict=False):
        row.update((f"asked_{name}", value) for name, value in target.items())
    result |= prepared.provenance(config.split, model=config.model) | {"precision": choose_dtype(dtype, model.device)}
    if config.output is not None:
        write_record(config.output, result)
    print(f"{result['task']}, {result['split']}: {counted(result['examples'], 'example')}, in {result['precision']}")
    print(evaluation_table(result))
    return result


def run_calibrate(config: CalibrateConfig) -> tuple[Calibration, Path]:
    """The command `adapler calibrate`; returns the curve and the file that holds it.

    Raises:
        ArgumentError: the test split, which is never stored with a model; a hub model without --output; or a task
            that does not fit the model.
    """
    stored = Path(config.model) / CALIBRATION
    path = config.output or stored
    if config.split == "test" and os.path.realpath(path) == os.path.realpath(stored):
        raise ArgumentError(
            "--split: a model does not keep what was measured on test, since a scale that is picked there fits it; "
            "use validation, or --output with another file to look at the curve only"
        )
    if config.output is None and not Path(config.model).is_dir():
        raise ArgumentError(f"--model: {config.model} is not a folder; --output FILE names where the curve goes")
    check_output_file(path)
    model = AdapLeRForSequenceClassification.from_pretrained(config.model).to(choose_device(config.execution.device))
    checksum = weights_checksum(model)
    prepared, read = prepare_trained(config.task, config.model, split=config.split, seed=config.execution.seed)
    model = model.for_inference(dtype=config.execution.dtype)
    _note(describe_dtype(config.execution.dtype, model.device))
    _note(read)
    token_budget, machine = config.token_budget or token_budget_for(model.device), Machine.of(model)
    measured = measure(
        model,
        prepared.encoded[config.split].to_list(),
        replace(config, token_budget=token_budget),
        pad_token_id=prepared.pad_token_id,
        metric=prepared.task.metric,
        say=lambda line: print(line, file=sys.stderr),
    )
    calibration = Calibration(
        **prepared.provenance(config.split, model=config.model) | {"model_checksum": checksum},
        **vars(measured),
        metric=prepared.task.metric,
        machine=machine,
        token_budget=token_budget,
        level=config.level,
        resamples=config.resamples,
        versions=versions(),
    )
    write_calibration(path, calibration)
    print(f"{calibration.task}, {calibration.split}: {counted(calibration.examples, 'example')}; {machine}")
    print(curve_table(calibration.none, calibration.points, metric=calibration.metric))
    slower = 100 * calibration.slower_texts
    print(f"{slower:.2g} % of single steps to the next scale cost a text more FLOPs; curve in {path}")
    return calibration, path
