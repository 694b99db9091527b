"""Evaluation of a trained model on a split of a task."""

from __future__ import annotations

import sys
from typing import Any

from adapler.calibration import Machine
from adapler.devices import choose_device, choose_dtype, describe_dtype
from adapler.errors import ArgumentError, CheckpointError
from adapler.evaluation import evaluate_rows
from adapler.files import check_output_file, claimed
from adapler.inference.evaluation import evaluate_rows
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.precision import choose_dtype, describe_dtype
from adapler.text import reading
from adapler.training.records import model_checksum, write_record
from adapler.training.stages.prepare import Prepared, are_rows_of, prepare_trained
from adapler.training.stages.settings import EvaluateSettings


def run_evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    """The command `adapler evaluate`; returns its result.

    Raises:
        ArgumentError: the task has another number of labels than the model, or see claimed.
    """
    check_output_file(settings.output)
    with claimed(settings.output):
        result = _measured(settings)
        if settings.output is not None:
            write_record(settings.output, result)
    return result


def _measured(settings: EvaluateSettings) -> dict[str, Any]:
    checksum = model_checksum(settings.model)  # now: a training may put another model there before this ends
    model = AdapLeRForSequenceClassification.from_pretrained(settings.model).to(
        choose_device(settings.execution.device)
    )
    if checksum != model_checksum(settings.model):
        raise CheckpointError(f"--model: the weights in {settings.model} changed while they were read; evaluate again")
    prepared, read = prepare_trained(settings.task, settings.model, split=settings.split, seed=settings.execution.seed)
    labels, known = len(prepared.task.labels), model.config.num_labels  # `prepare` has matched their names
    if labels != known:
        raise ArgumentError(f"--task: {prepared.task.name} has {labels} labels, the model in {settings.model} {known}")
    print(f"note: {read}", file=sys.stderr)
    choices = [model.choose_scale(**target) for target in settings.targets]
    notes: list[object] = list(choices)
    if choices:  # of one curve, all, and of one kind of target
        notes.append(choices[0].other_reading(reading(prepared.encoding)))
    if choices and choices[0].target == "milliseconds":
        notes.append(choices[0].other_machine(Machine.of(model.for_inference(dtype=settings.execution.dtype))))
    for note in filter(None, notes):
        print(f"note: {note}", file=sys.stderr)
    scales = tuple(choice.threshold_scale for choice in choices) or settings.threshold_scale or (1.0,)
    if choices and are_rows_of(choices[0].calibration, prepared, settings.task, model=settings.model):
        curve = choices[0].calibration
        print(
            f"note: the curve was measured on these rows ({curve.split}): it fits them, other rows can differ",
            file=sys.stderr,
        )
    print(f"note: {describe_dtype(settings.execution.dtype, model.device)}", file=sys.stderr)
    result = evaluate(
        model,
        prepared,
        split=settings.split,
        dtype=settings.execution.dtype,
        threshold_scales=scales,
        token_budget=settings.token_budget,
    )
    for target, row in zip(settings.targets, result["hard"], strict=False):
        row.update((f"asked_{name}", value) for name, value in target.items())
    return result | {"model_checksum": checksum}


def evaluate(
    model: AdapLeRForSequenceClassification,
    prepared: Prepared,
    *,
    split: str,
    dtype: str,
    threshold_scales: tuple[float, ...] = (1.0,),
    token_budget: int | None = None,
) -> dict[str, Any]:
    """Score and speedup on a split, see `evaluate_rows`, and what they were computed on and in."""
    result = evaluate_rows(
        model.for_inference(dtype=dtype),
        prepared.encoded[split],
        pad_token_id=prepared.tokenizer.pad_token_id,
        metric=prepared.metric(split),
        threshold_scales=threshold_scales,
        token_budget=token_budget,
    )
    return result | {
        "task": prepared.task.name,
        "split": split,
        "precision": choose_dtype(dtype, model.device),
        "data_checksum": prepared.task.checksum,
        "encoding": prepared.encoding,
    }
