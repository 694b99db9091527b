"""Measuring a model on a task's rows: score, FLOPs speedup and lengths, with and without removal; a fine-tuned
classifier's score and labels; the curve over threshold scales. The commands `adapler evaluate` and `adapler calibrate`.

Dimensions: C labels, E examples, R resamples, S threshold scales.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from transformers import PreTrainedModel

from adapler import flops
from adapler.backbones.families import check_task, label_names
from adapler.calibration import (
    CALIBRATION,
    Baseline,
    Calibration,
    Interval,
    Machine,
    Measured,
    Point,
    write_calibration,
)
from adapler.data import Task
from adapler.errors import ArgumentError, DataError
from adapler.flops import adapler_flops, backbone_flops
from adapler.inference import InferenceClassifier, Predictions, predict_rows, token_budget_for, weights_checksum
from adapler.modeling import AdapLeRForSequenceClassification, is_fine_tuned, load_classifier, read_config
from adapler.options import counted
from adapler.passes import check_finite
from adapler.system import check_output_file, choose_device, choose_dtype, describe_dtype, from_main, is_main
from adapler.text import reading
from adapler.training.config import CalibrateConfig, EvaluateConfig, Execution
from adapler.training.data import Prepared, prepare_trained
from adapler.training.records import versions, write_record

FIRST_SCALES = (0.0, 0.5, 1.0)
GROWTH = 1.5  # from one scale to the next, while the end of the curve is looked for
EVERYTHING = 1e6  # a scale at which all that can be dropped is
CLOSE = 1.2  # two neighbouring speedups are no further apart, or another scale is measured between them

Array = NDArray[np.float64]


def score_predictions(predictions: ArrayLike, labels: ArrayLike, *, metric: str = "accuracy") -> float:
    """Accuracy, or F1 of class 1 (MRPC's), of (n,) predicted and true class indices; "agreement" is accuracy, with
    another classifier's predictions as labels."""
    return float(ratio_of(score_parts(np.asarray(predictions), np.asarray(labels), metric=metric).sum(0)))


def score_parts(predicted: NDArray[Any], gold: NDArray[Any], *, metric: str) -> Array:
    """(E, 2): summed over examples, the ratio of the two is the score."""
    if metric != "f1":
        return np.stack([predicted == gold, np.ones(len(gold))], axis=1).astype(float)
    hit, said, true = (predicted == 1) & (gold == 1), predicted == 1, gold == 1
    return np.stack([2.0 * hit, said.astype(float) + true], axis=1)  # F1 = 2 tp / (2 tp + fp + fn)


def ratio_of(sums: Array) -> Array:
    """(..., 2) -> (...); 0 where nothing is counted, as the F1 of no positives."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] != 0)


def by_example(values: Tensor, example_ids: Sequence[str]) -> tuple[list[str], Tensor]:
    """Mean of (rows, C) over the rows of each example (windows of a long document), in order of appearance."""
    order = {example: index for index, example in enumerate(dict.fromkeys(example_ids))}
    owner = torch.tensor([order[example] for example in example_ids])
    total = values.new_zeros(len(order), values.shape[1]).index_add_(0, owner, values)
    return list(order), total / owner.bincount()[:, None]


def check_labels(labels: Sequence[int], classes: int) -> None:
    """Raises DataError for the first label of a row that is none of the model's."""
    strange = next((label for label in labels if not 0 <= label < classes), None)
    if strange is not None:
        raise DataError(f"labels: {strange} found, but the model has {classes} labels, 0 to {classes - 1}")


def classify(predictions: Predictions, example_ids: Sequence[str]) -> list[int]:
    """The label of each example, in order of appearance; ArgumentError for logits that are not finite."""
    check_finite(predictions.logits)
    _, logits = by_example(predictions.logits, example_ids)
    return [int(label) for label in logits.argmax(-1)]


def score_by_example(
    logits: Tensor, labels: Sequence[int], example_ids: Sequence[str], *, metric: str = "accuracy"
) -> float:
    """Score of examples; the mean of the logits (rows, C) of an example's rows decides."""
    gold = dict(zip(example_ids, labels, strict=True))
    _, mean = by_example(logits.float(), example_ids)
    return score_predictions(mean.argmax(-1), list(gold.values()), metric=metric)


def classifier_score(classifier: Any, rows: Any, *, pad_token_id: int, metric: str = "accuracy") -> float:
    """Score of a plain classifier on encoded rows; ArgumentError where it does not choose one of several labels
    (regression, multi-label), or its logits are not finite."""
    check_task(classifier.config)
    predictions = predict_rows(classifier, rows, pad_token_id=pad_token_id, progress="the classifier")
    check_finite(predictions.logits)
    return score_by_example(predictions.logits, rows["labels"], rows["example_id"], metric=metric)


def evaluate_rows(
    model: Any,
    rows: Any,
    *,
    pad_token_id: int,
    metric: str = "accuracy",
    threshold_scales: Sequence[float] = (1.0,),
    token_budget: int | None = None,
    teacher: Any = None,
    speedup: Callable[..., float] | None = None,
) -> dict[str, Any]:
    """Score the backbone alone and AdapLeR at each threshold scale, on encoded rows with example_id and labels; windows
    of one example are averaged.

    `teacher` is the plain classifier that `none` is of, where the model is a plain one too; `speedup` is (model,
    lengths in, lengths, convention=) -> speedup in FLOPs, see `flops.speedup`. The result is JSON-ready: `none` (score)
    and `hard`, a list with threshold_scale, score, speedup (convention "paper"), speedup_executed ("executed"), lengths
    (means by layer), lengths_in (mean), agreement (share of examples classified as without removal).
    """
    check_labels(rows["labels"], model.config.num_labels)
    options: dict[str, Any] = {"pad_token_id": pad_token_id, "token_budget": token_budget}
    owners, labels, removes, hard = list(rows["example_id"]), rows["labels"], teacher is None, []
    gain = speedup or (lambda model, *lengths, **how: flops.speedup(model.config, *lengths, **how))
    how: dict[str, Any] = {"removal": "none"} if removes else {}
    plain = predict_rows(teacher or model, rows, progress="no removal" if removes else "the teacher", **how, **options)
    labels_of_plain = classify(plain, owners)
    for scale in threshold_scales:
        how = {"removal": "hard", "threshold_scale": scale} if removes else {}
        title = f"hard removal, scale {scale:g}" if removes else "the student"
        found = predict_rows(model, rows, progress=title, **how, **options)
        same = [a == b for a, b in zip(classify(found, owners), labels_of_plain, strict=True)]
        hard.append(
            {
                "threshold_scale": scale,
                "score": score_by_example(found.logits, labels, owners, metric=metric),
                "speedup": gain(model, found.lengths_in, found.lengths, convention="paper"),
                "speedup_executed": gain(model, found.lengths_in, found.lengths, convention="executed"),
                "lengths_in": float(found.lengths_in.double().mean()),
                "lengths": [float(n) for n in found.lengths.double().mean(0)],
                "agreement": sum(same) / len(same),
            }
        )
    none = {"score": score_by_example(plain.logits, labels, owners, metric=metric)}
    return {"metric": metric, "examples": len(set(owners)), "rows": len(rows), "none": none, "hard": hard}


def evaluation_table(result: dict[str, Any]) -> str:
    """The result of evaluate_rows as text."""
    metric, rows = result["metric"], [{"removal": "none", result["metric"]: result["none"]["score"], "speedup": 1.0}]
    for row in result["hard"]:
        lengths = " ".join(f"{n:.0f}" for n in row["lengths"])
        rows.append(
            {
                "removal": "hard",
                "scale": f"{row['threshold_scale']:.4g}",
                **{name.replace("asked_", "asked for "): v for name, v in row.items() if name.startswith("asked_")},
                metric: row["score"],
                "speedup": row["speedup"],
                "executed": row["speedup_executed"],
                **({} if metric == "agreement" else {"agreement": row["agreement"]}),
                "mean tokens entering each layer": f"{row['lengths_in']:.0f} -> {lengths}",
            }
        )
    formats = dict.fromkeys(("speedup", "executed"), "{:.2f}x".format)
    table = pd.DataFrame(rows).to_string(index=False, na_rep="", float_format="{:.4f}".format, formatters=formats)
    return f"{table}\nspeedup: FLOPs, every layer whole (the paper's convention); executed: the last one for [CLS] only"


# A fine-tuned classifier: the start of a training, the teacher, and the labels of text that has none


def load_fine_tuned(name: str | Path, task: Task, *, execution: Execution) -> PreTrainedModel:
    """A fine-tuned classifier with a task's labels, on its device; of an AdapLeR model, its backbone. ArgumentError for
    an encoder, another number of labels, or the same labels in another order."""
    config = read_config(name)
    if not is_fine_tuned(config):
        raise ArgumentError(f"{name}: is an encoder, without a trained head; a fine-tuned classifier is needed here")
    own = label_names(config)
    lower, wanted = [label.lower() for label in own], [label.lower() for label in task.labels]
    if len(own) != len(wanted) or (lower != wanted and sorted(lower) == sorted(wanted)):
        raise ArgumentError(f"{name}: has the labels {', '.join(own)}, and here they are {', '.join(task.labels)}")
    if config.model_type == "adapler":
        backbone: PreTrainedModel = AdapLeRForSequenceClassification.from_pretrained(name).backbone
        return backbone.to(choose_device(execution.device))
    return load_classifier(name, labels=list(task.labels)).to(choose_device(execution.device))


def with_predicted_labels(prepared: Prepared, classifier: str | Path, *, execution: Execution) -> Prepared:
    """The same task, with a classifier's own predictions as the labels of the splits that have none.

    Cross-entropy and targets use them like true labels. A score on such a split is the share of examples on which a
    model agrees with the classifier, so it is called `agreement`.
    """
    wanted = tuple(split for split in prepared.task.unlabelled if split in prepared.encoded)
    if not wanted:
        return prepared
    if is_main():
        print(f"note: {', '.join(wanted)} without labels: the predictions of {classifier} take their place")

    def predictions() -> dict[str, list[int]]:
        """The predicted class of each row's example, by split."""
        model, labels = _for_inference(classifier, prepared, execution=execution), {}
        for split in wanted:
            rows = prepared.encoded[split]
            found = predict_rows(model, rows, pad_token_id=prepared.pad_token_id, progress=f"labels of {split}")
            owners = list(rows["example_id"])
            label = dict(zip(dict.fromkeys(owners), classify(found, owners), strict=True))
            labels[split] = [label[example] for example in owners]
        return labels

    found, encoded = from_main(predictions() if is_main() else None), dict(prepared.encoded)
    for split in wanted:
        kept = encoded[split].remove_columns("labels")
        encoded[split] = kept.add_column("labels", found[split], feature=datasets.Value("int64"))
    encoding = {**prepared.encoding, "predicted_labels": list(wanted)}
    return replace(prepared, encoded=datasets.DatasetDict(encoded), encoding=encoding, predicted=wanted)


def _for_inference(classifier: str | Path, prepared: Prepared, *, execution: Execution) -> InferenceClassifier:
    """The classifier in the dtype that training evaluates in."""
    loaded = load_fine_tuned(classifier, prepared.task, execution=execution)
    return InferenceClassifier(loaded, dtype=choose_dtype(execution.precision, choose_device(execution.device)))


def measured_score(classifier: str | Path, prepared: Prepared, *, execution: Execution) -> float:
    """Validation score of a classifier, computed as an epoch's; a note where the labels may be in another order."""
    rows, metric = prepared.encoded["validation"], prepared.metric("validation")
    model = _for_inference(classifier, prepared, execution=execution)
    score = classifier_score(model, rows, pad_token_id=prepared.pad_token_id, metric=metric)
    labels = list(dict(zip(rows["example_id"], rows["labels"], strict=True)).values())
    most = Counter(labels).most_common(1)[0][1] / len(labels)
    if metric == "accuracy" and score < most:
        print(
            f"note: {classifier} has an accuracy of {score:.4f}, below the most frequent label's share, {most:.4f}; it "
            f"may number its labels in another order than {', '.join(prepared.task.labels)}",
            file=sys.stderr,
        )
    return score


# The curve over threshold scales


@dataclass(frozen=True)
class Pass:
    """One run over the rows: (E, 2) numerator and denominator of the score, (E,) FLOPs, milliseconds of a text in
    batches and one by one."""

    parts: Array
    flops: Array
    times: dict[str, float]

    @property
    def score(self) -> float:
        return float(ratio_of(self.parts.sum(0)))


def measure(
    model: Any,
    rows: Sequence[dict[str, Any]],
    config: CalibrateConfig,
    *,
    pad_token_id: int,
    metric: str = "accuracy",
    say: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Measure a model at threshold scales from 0 to where it is fast enough or has lost its score.

    Where the speedup changes fast, more scales are measured. Intervals are percentile bootstrap intervals. All scales
    and the model without removal get the same draws of examples, so that drops are paired. Examples that are timed one
    by one, with all their windows, are drawn with the seed. `say` is called with a line for each scale.
    """
    check_labels([row["labels"] for row in rows], model.config.num_labels)
    owners = [str(row["example_id"]) for row in rows]
    labels = dict(zip(owners, (int(row["labels"]) for row in rows), strict=True))
    names, gold = list(labels), np.array(list(labels.values()))  # (E,) in order of appearance
    windows = np.array(list(Counter(owners).values()))  # (E,)
    seed, points = config.execution.seed, config.points
    drawn = {names[i] for i in np.random.default_rng(seed).permutation(len(names))[: config.timed_single]}
    single = [row for row, owner in zip(rows, owners, strict=True) if owner in drawn]
    options: dict[str, Any] = {"pad_token_id": pad_token_id, "token_budget": config.token_budget}

    def run(**how: Any) -> Pass:
        start = time.perf_counter()
        found = predict_rows(model, rows, **options, **how)
        middle = time.perf_counter()
        predict_rows(model, single, **options | {"token_budget": 1}, **how)
        end = time.perf_counter()
        check_finite(found.logits)
        _, logits = by_example(found.logits, owners)  # (E, C)
        spent = backbone_flops(model.config, found.lengths_in)
        if how["removal"] == "hard":
            spent = adapler_flops(model.config, found.lengths_in, found.lengths)
        _, mean = by_example(spent[:, None], owners)
        return Pass(
            parts=score_parts(logits.argmax(-1).numpy(), gold, metric=metric),
            flops=mean[:, 0].numpy() * windows,
            times={
                "milliseconds": 1000 * (middle - start) / len(names),
                "milliseconds_single": 1000 * (end - middle) / len(drawn),
            },
        )

    passes: dict[float, Pass] = {}

    def speedup(scale: float) -> float:
        return float(none.flops.sum() / passes[scale].flops.sum())

    def add(scale: float) -> None:
        passes[scale] = one = run(removal="hard", threshold_scale=scale)
        say(
            f"threshold_scale {scale:g}: {metric} {one.score:.4f}, {speedup(scale):.2f}x fewer FLOPs, "
            f"{one.times['milliseconds']:.1f} ms a text"
        )

    predict_rows(model, single[:1], **options, removal="hard")  # the first call also sets things up
    none = run(removal="none")
    say(f"removal none: {metric} {none.score:.4f}, {none.times['milliseconds']:.1f} ms a text")
    for scale in FIRST_SCALES:
        add(scale)
    last, fastest = FIRST_SCALES[-1], 0.0  # fastest: not known yet
    # Ever larger scales until the curve ends, or nothing is left to drop.
    while len(passes) < points:
        if speedup(last) >= config.most_speedup or none.score - passes[last].score >= config.most_drop:
            break
        before, last = last, float(f"{last * GROWTH:.4g}")
        add(last)
        if speedup(last) < 1.01 * speedup(before):
            if not fastest:
                found = predict_rows(model, rows, **options, removal="hard", threshold_scale=EVERYTHING)
                fastest = float(none.flops.sum() / adapler_flops(model.config, found.lengths_in, found.lengths).sum())
            if speedup(last) > fastest / 1.01:
                break
    while len(passes) < points:  # scales between neighbours whose speedups are far apart, the furthest first
        scales = sorted(passes)
        gaps = [speedup(high) / speedup(low) for low, high in zip(scales, scales[1:], strict=False)]
        widest = int(np.argmax(gaps))
        middle = float(f"{(scales[widest] + scales[widest + 1]) / 2:.4g}")
        if gaps[widest] <= CLOSE or middle in passes:
            break
        add(middle)
    return _summarised(none, passes, config, timed_single=len(drawn))


def resampled(passes: Sequence[Pass], *, resamples: int, seed: int) -> Array:
    """(R, K, 3): numerator and denominator of the score, and FLOPs, of K passes over the same draws of examples."""
    examples = len(passes[0].flops)
    columns = np.concatenate([np.concatenate([one.parts, one.flops[:, None]], axis=1) for one in passes], axis=1)
    random = np.random.default_rng(seed)
    block = max(1, min(resamples, (1 << 24) // examples))  # resamples in memory at a time
    counts = (
        random.multinomial(examples, np.full(examples, 1 / examples), size=min(block, resamples - begin))
        for begin in range(0, resamples, block)
    )
    return np.concatenate([drawn @ columns for drawn in counts]).reshape(resamples, len(passes), 3)


def _summarised(none: Pass, passes: dict[float, Pass], config: CalibrateConfig, *, timed_single: int) -> Measured:
    ordered = sorted(passes.items())
    every = [none, *(one for _, one in ordered)]
    drawn = resampled(every, resamples=config.resamples, seed=config.execution.seed)  # (R, 1 + S, 3)
    scores, flops = ratio_of(drawn[..., :2]), drawn[..., 2]  # (R, 1 + S)
    tail = 100 * (1 - config.level) / 2

    def interval(values: Array) -> Interval:
        low, high = np.percentile(values, [tail, 100 - tail])
        return float(low), float(high)

    points = tuple(
        Point(
            threshold_scale=scale,
            score=one.score,
            score_interval=interval(scores[:, index]),
            drop=none.score - one.score,
            drop_interval=interval(scores[:, 0] - scores[:, index]),
            speedup=float(none.flops.sum() / one.flops.sum()),
            speedup_interval=interval(flops[:, 0] / flops[:, index]),
            **one.times,
        )
        for index, (scale, one) in enumerate(ordered, start=1)
    )
    by_scale = np.stack([one.flops for _, one in ordered])  # (S, E)
    return Measured(
        none=Baseline(score=none.score, score_interval=interval(scores[:, 0]), **none.times),
        points=points,
        examples=len(none.flops),
        timed_single=timed_single,
        slower_texts=float((np.diff(by_scale, axis=0) > 0).mean()),
    )


def curve_table(none: Baseline, points: Sequence[Point], *, metric: str) -> str:
    """The curve as text; intervals in brackets."""

    def cell(value: float, interval: Interval, digits: int = 3) -> str:
        return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"

    rows = []
    for one in (none, *points):
        row = {"scale": "none", metric: cell(one.score, one.score_interval), "drop": "", "speedup": ""}
        if isinstance(one, Point):
            row |= {"scale": f"{one.threshold_scale:.4g}", "drop": cell(one.drop, one.drop_interval)}
            row["speedup"] = cell(one.speedup, one.speedup_interval, 2)
        times = {"ms in batches": one.milliseconds, "ms one by one": one.milliseconds_single}
        rows.append(row | {name: f"{value:.2f}" for name, value in times.items()})
    return pd.DataFrame(rows).to_string(index=False)


# The commands


def _note(text: object) -> None:
    print(f"note: {text}", file=sys.stderr)


def _loaded(config: EvaluateConfig | CalibrateConfig) -> tuple[Any, Prepared]:
    """The model of a command on its device, and the split that it is measured on."""
    execution = config.execution
    model = AdapLeRForSequenceClassification.from_pretrained(config.model).to(choose_device(execution.device))
    prepared, read = prepare_trained(config.task, config.model, split=config.split, seed=execution.seed)
    _note(read)
    _note(describe_dtype(execution.dtype, model.device))
    return model, prepared


def run_evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """The command `adapler evaluate`; returns its result. Errors: see `prepare_trained`."""
    check_output_file(config.output)
    dtype, (model, prepared) = config.execution.dtype, _loaded(config)
    choices, copy = [model.choose_scale(**target) for target in config.targets], model.for_inference(dtype=dtype)
    notes: list[object] = list(choices)
    for one in choices[:1]:  # all are of one curve, and of one kind of target
        notes += [one.other_reading(reading(prepared.encoding)), one.other_machine(Machine.of(copy))]
        if (one.calibration.data_checksum, one.calibration.split) == (prepared.task.checksum, config.split):
            notes.append(f"the curve was measured on these rows ({config.split}): it fits them, other rows can differ")
    for note in filter(None, notes):
        _note(note)
    scales = tuple(choice.threshold_scale for choice in choices) or tuple(config.threshold_scale or (1.0,))
    result = evaluate_rows(
        copy,
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
    """The command `adapler calibrate`; returns the curve and the file that holds it. The test split is refused: it is
    never stored with a model."""
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
    model, prepared = _loaded(config)
    checksum, model = weights_checksum(model), model.for_inference(dtype=config.execution.dtype)
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
