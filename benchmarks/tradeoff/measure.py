"""Measures a trained point: `python -m benchmarks.tradeoff.measure JOB.json`, which `work` starts.

The point is read on validation at several threshold scales, one of them is chosen there, and only then is test read, at
every scale once: they are points of a curve. Times are measured at the scale that training ended with and at the chosen
one. Everything is in float32.

Dimensions: E examples, L layers, n rows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.backbones.checkpoints import read_config
from adapler.errors import ArgumentError, DataError, run_command
from adapler.inference.evaluation import classify
from adapler.inference.metrics import score_predictions
from adapler.inference.predict import Predictions, predict_dataset
from adapler.model.flops import Convention, adapler_flops, backbone_flops
from adapler.policies import policy_class
from adapler.training.records import model_checksum, read_json, read_record, versions, write_record
from adapler.training.settings import TaskSettings
from adapler.training.stages.prepare import Prepared, prepare
from benchmarks.tradeoff.records import PREDICTIONS, Key
from benchmarks.tradeoff.selection import choose
from benchmarks.tradeoff.systems import FINETUNED, System, cost_of, point_folder, run_folder, system_of
from benchmarks.tradeoff.timing import measure_times

# Threshold scales that validation chooses from; of equally good ones the first: that of training stays if it can.
SCALES = (1.0, 0.5, 0.75, 1.25, 1.5, 2.0)
# Of the scale at which a policy's scores end (2 for a probability), in place of the scales from there on: odds of 9 and
# 19, where a bar of 1 leaves nothing.
BEFORE_THE_END = (0.9, 0.95)
SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Model:
    """A trained point that can run.

    Attributes:
        model: AdapLeR (of any policy), or a plain classifier on the same packed path.
        removes: whether it drops tokens. A model that does not has no scale.
    """

    model: AdapLeRForSequenceClassification
    removes: bool

    @classmethod
    def load(cls, folder: Path) -> Model:
        """A folder that a training wrote."""
        removes = read_config(folder).model_type == AdapLeRConfig.model_type
        kind = AdapLeRForSequenceClassification
        model = kind.from_pretrained(folder) if removes else kind.from_backbone(folder)
        return cls(model.for_inference(dtype="float32"), removes)

    def arguments(self, scale: float | None) -> dict[str, Any]:
        """Of a call."""
        return {"removal": "hard", "threshold_scale": scale} if self.removes else {"removal": "none"}

    def flops(self, found: Predictions, *, convention: Convention) -> float:
        """Over all rows."""
        if not self.removes:
            return float(backbone_flops(self.model.config, found.lengths_in, convention=convention).sum())
        return float(adapler_flops(self.model.config, found.lengths_in, found.lengths, convention=convention).sum())


@dataclass(frozen=True)
class Baseline:
    """The fine-tuned classifier that speedups are counted against.

    Attributes:
        config: its own.
        max_length: what the padded convention pads every row to.
    """

    config: Any
    max_length: int

    def speedups(self, model: Model, found: Predictions) -> dict[str, float]:
        """FLOPs of this classifier over those of a system.

        speedup: on true lengths, every layer whole (the convention "paper" of adapler.model.flops).
        speedup_executed: on true lengths, as this library computes both (the last layer for [CLS] only).
        speedup_padded: this classifier on rows that are padded to `max_length`, the system on true lengths; the
            convention of much of the literature, which credits a system with the removal of padding.
        """
        paper, executed = (model.flops(found, convention=kind) for kind in ("paper", "executed"))
        padded = torch.full_like(found.lengths_in, self.max_length)
        return {
            "speedup": float(backbone_flops(self.config, found.lengths_in).sum()) / paper,
            "speedup_executed": float(backbone_flops(self.config, found.lengths_in, convention="executed").sum())
            / executed,
            "speedup_padded": float(backbone_flops(self.config, padded).sum()) / paper,
        }


def scales_of(config: Any) -> tuple[float, ...]:
    """The threshold scales that a model with this configuration is read at."""
    last = policy_class(config.policy).last_scale
    ends = () if math.isinf(last) else tuple(round(share * last, 3) for share in BEFORE_THE_END)
    return (*(scale for scale in SCALES if scale < last), *ends)


def read_split(
    model: Model, rows: datasets.Dataset, *, scale: float | None, pad: int, metric: str, baseline: Baseline
) -> tuple[dict[str, Any], list[int]]:
    """One pass over a split: score, speedups and lengths, and the predicted label of each example, (E,)."""
    found = predict_dataset(model.model, rows, pad_token_id=pad, **model.arguments(scale))
    predicted = classify(found, rows["example_id"])
    _, gold = gold_of(rows)
    result = {
        "scale": scale,
        "score": score_predictions(predicted, gold, metric=metric),
        **baseline.speedups(model, found),
        "lengths_in": float(found.lengths_in.double().mean()),
        "lengths": [round(float(n), 2) for n in found.lengths.double().mean(0)],
    }
    return result, predicted


def gold_of(rows: datasets.Dataset) -> tuple[list[str], list[int]]:
    """Id and true label of each example, in order of appearance."""
    gold = dict(zip(rows["example_id"], rows["labels"], strict=True))
    return list(gold), list(gold.values())


def measure_point(job: Mapping[str, Any], system: System, prepared: Prepared) -> dict[str, Any]:
    """A point's record, with its predictions (see records.collect)."""
    run, budget = Path(job["folder"]), job["budget"]
    folder, classifier = point_folder(run, system, budget), run_folder(run, system) / FINETUNED
    record, finetuned = read_record(folder), read_record(classifier)
    metric, pad = prepared.task.metric, prepared.tokenizer.pad_token_id
    baseline = Baseline(read_config(classifier), int(prepared.encoding["max_length"]))
    model = Model.load(folder)
    splits = [prepared.encoded[split] for split in SPLITS]
    options: dict[str, Any] = {"pad": pad, "metric": metric, "baseline": baseline}
    scales: Sequence[float | None] = scales_of(model.model.config) if model.removes else (None,)
    validation = [read_split(model, splits[0], scale=scale, **options)[0] for scale in scales]
    reference = float(finetuned["validation"][metric])
    place, qualified = choose(validation, reference=reference, max_drop=job["max_drop"])
    read = [read_split(model, splits[1], scale=scale, **options) for scale in scales]
    timed = list(dict.fromkeys([scales[0], scales[place]]))
    times, machine = measure_times(
        [(Model.load(classifier).model, {"removal": "none"}), *((model.model, model.arguments(s)) for s in timed)],
        splits[1].to_list(),
        pad_token_id=pad,
        texts=job["timed"],
        single=job["timed_single"],
        rounds=job["rounds"],
    )
    by_scale = dict(zip(timed, times, strict=True))
    ids, gold = gold_of(splits[1])
    key = Key(job["backbone"], job["task"], system.name, job["seed"], budget)
    return {
        **{name: getattr(key, name) for name in ("backbone", "task", "system", "seed", "budget")},
        "title": system.title,
        "budget_option": system.budget,
        "coverage": job["coverage"],
        "metric": metric,
        "reference": reference,
        "max_drop": job["max_drop"],
        "qualified": qualified,
        "chosen": scales[place],
        "validation": validation,
        "test": [result | {"time": by_scale.get(result["scale"])} for result, _ in read],
        "examples": {split: len(gold_of(rows)[0]) for split, rows in zip(SPLITS, splits, strict=True)},
        "rows": record.get("rows", finetuned.get("rows")),
        "cost": cost_of(run, system, record),
        "epoch_flops": job["epoch_flops"],
        "selected": record.get("selected"),
        "recipe": job["recipe"],
        "changes": job["changes"],
        "encoding": prepared.encoding,
        "data_checksum": prepared.task.checksum,
        "model_checksum": model_checksum(folder),
        "classifier_checksum": model_checksum(classifier),
        "encoder_checksum": finetuned.get("model_checksum"),
        "machine": {**machine, "jobs": job["jobs"]},
        "versions": versions(),
        PREDICTIONS: {"example_ids": ids, "labels": gold, "predicted": [predicted for _, predicted in read]},
    }


def prepare_run(job: Mapping[str, Any], system: System) -> Prepared:
    """Validation and test as training saw them.

    Raises:
        DataError: the task's rows have changed since. ArgumentError: see prepare.
    """
    folder = run_folder(Path(job["folder"]), system) / FINETUNED
    record = read_record(folder)
    encoding = record["encoding"]
    names = ("max_length", "long_documents", "train_documents", "stride")
    settings = TaskSettings(task=job["data"], **{name: encoding[name] for name in names if name in encoding})
    prepared = prepare(settings, folder, splits=SPLITS, seed=job["seed"])
    if prepared.task.checksum != record["data_checksum"]:
        raise DataError(f"{job['data']}: holds other rows than those that {folder} was trained on")
    return prepared


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the point that a job's file names; the result lies beside it."""
    words = sys.argv[1:] if argv is None else list(argv)
    if len(words) != 1:
        raise ArgumentError(f"JOB: one file is needed, {len(words)} given")
    path = Path(words[0])
    job = read_json(path)
    system = system_of(job["system"])
    prepared = prepare_run(job, system)
    key = Key(job["backbone"], job["task"], system.name, job["seed"], job["budget"])
    print(f"measuring {key.name}", flush=True)
    write_record(path.parent / f"{key.name}.point.json", measure_point(job, system, prepared))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
