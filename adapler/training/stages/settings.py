"""All settings of each command; what several commands share is in `adapler.training.settings`.

From Python, a command is called with its settings:

    from adapler.training.stages.run import run
    from adapler.training.stages.settings import RunSettings, TaskSettings

    run(RunSettings(task=TaskSettings(task="sst2"), model="google-bert/bert-base-uncased", output=Path("runs/sst2")))
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from adapler.errors import ArgumentError
from adapler.training.settings import (
    Execution,
    Inference,
    Objectives,
    Settings,
    TaskSettings,
    check_choices,
    check_numbers,
    option_name,
)

__all__ = [
    "CalibrateSettings",
    "EvaluateSettings",
    "Execution",
    "Inference",
    "ExportSettings",
    "FinetuneSettings",
    "Objectives",
    "RunSettings",
    "SaliencySettings",
    "Settings",
    "TaskSettings",
    "TradeoffSettings",
    "TrainSettings",
]

ReinitHead = Literal["auto", "yes", "no"]
Start = Literal["pretrained", "finetuned"]
Split = Literal["train", "validation", "test"]
RecordedSplit = Literal["validation", "test"]


def _one_of(values: Any, *names: str) -> None:
    given = [name for name in names if getattr(values, name) is not None]
    if len(given) != 1:
        found = "none is given" if not given else f"{' and '.join(map(option_name, given))} are given"
        raise ArgumentError(f"{' or '.join(map(option_name, names))}: one of them is needed, {found}")


@dataclass(frozen=True, kw_only=True)
class _NewHead:
    reinit_head: ReinitHead = "auto"
    """whether an encoder gets a new pooler and classifier; auto: when its pooler was never trained. A fine-tuned
    classifier loses its head with `yes` only"""


@dataclass(frozen=True, kw_only=True)
class _Resumable:
    resume: bool = False
    """go on from the newest checkpoint in the output folder; without it, what an unfinished training left there is
    removed"""


@dataclass(frozen=True, kw_only=True)
class _Rounded:
    half: bool = False
    """round the fine-tuned weights to float16's grid, so that half the space stores them without a change"""


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(_NewHead, _Rounded, _Resumable):
    """`adapler finetune`."""

    model: str
    """where fine-tuning starts: hub name or folder of a pre-trained encoder, or of a classifier"""

    output: Path
    """folder of the fine-tuned model"""

    task: TaskSettings
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, kw_only=True)
class SaliencySettings:
    """`adapler saliency`."""

    finetuned: Path | None = None
    """what `adapler finetune` wrote"""

    model: str | None = None
    """instead, a classifier fine-tuned elsewhere: hub name or folder"""

    output: Path
    """folder of the saliency targets"""

    epochs: int = 3
    """how many of the best fine-tuning epochs to average"""

    task: TaskSettings
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        _one_of(self, "finetuned", "model")
        check_numbers(self, ("epochs",), low=1)


@dataclass(frozen=True, kw_only=True)
class TrainSettings(_NewHead, _Resumable):
    """`adapler train`."""

    finetuned: Path | None = None
    """what `adapler finetune` wrote: the start, and the reference score"""

    model: str | None = None
    """where training starts instead: the pre-trained encoder, as in the paper, a classifier fine-tuned elsewhere, or an
    AdapLeR model, which is trained further (hub name or folder)"""

    reference_score: float | None = None
    """validation score of the fine-tuned classifier, between 0 and 1 (default: the best one in --finetuned, or that of
    the classifier in --model, measured)"""

    saliency: Path
    """what `adapler saliency` wrote"""

    output: Path
    """folder of the trained model"""

    keep_epochs: bool = False
    """keep every epoch's checkpoint"""

    task: TaskSettings
    settings: Settings = field(default_factory=Settings)
    objectives: Objectives = field(default_factory=Objectives)

    def __post_init__(self) -> None:
        if self.model is None and self.finetuned is None:
            raise ArgumentError("--model: needed when --finetuned is not given")
        if self.reference_score is not None and not 0 <= self.reference_score <= 1:
            raise ArgumentError(f"--reference-score: {self.reference_score} is not between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class RunSettings(_NewHead, _Rounded):
    """`adapler run`: all stages. Several `objectives` give a trade-off."""

    model: str | None = None
    """pre-trained encoder: hub name or folder"""

    classifier: str | None = None
    """instead, a classifier fine-tuned already: hub name or folder"""

    output: Path
    """run folder; a run that was stopped goes on there"""

    start: Start = "pretrained"
    """which weights the backbone has when AdapLeR training starts"""

    finetune_epochs: int | None = None
    """epochs of fine-tuning (default: --epochs)"""

    finetune_learning_rate: float | None = None
    """learning rate of fine-tuning (default: --learning-rate)"""

    saliency_epochs: int = 3
    """how many of the best fine-tuning epochs to average"""

    task: TaskSettings
    settings: Settings = field(default_factory=Settings)
    objectives: tuple[Objectives, ...] = field(default_factory=lambda: (Objectives(),))

    def __post_init__(self) -> None:
        _one_of(self, "model", "classifier")
        check_numbers(self, ("finetune_epochs", "saliency_epochs"), low=1)
        check_numbers(self, ("finetune_learning_rate",), low=0, strict=True)
        check_choices(self, start=Start)
        if not self.objectives:
            raise ArgumentError("--phi: no value is given")
        phis = {objectives.phi for objectives in self.objectives}
        targets = {objectives.target_speedup for objectives in self.objectives}
        if len(phis) > 1 and targets != {None}:
            raise ArgumentError("--phi: one value only with --target-speedup, which starts from it and changes it")
        if max(len(phis), len(targets)) < len(self.objectives):
            name = "--phi" if targets == {None} else "--target-speedup"
            raise ArgumentError(f"{name}: a value is given twice; each has a folder of its own")

    def finetuning(self) -> Settings:
        """The settings of fine-tuning."""
        changes = {"epochs": self.finetune_epochs, "learning_rate": self.finetune_learning_rate}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        return replace(self.settings, **given)


@dataclass(frozen=True, kw_only=True)
class _Batched:
    token_budget: int | None = None
    """padded tokens in a batch (default: adapler.model.batching.token_budget_for)"""

    def __post_init__(self) -> None:
        check_numbers(self, ("token_budget",), low=1)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(_Batched):
    """`adapler evaluate`."""

    model: str
    """AdapLeR model: folder or hub name"""

    split: Split = "test"
    """which rows are judged"""

    threshold_scale: tuple[float, ...] | None = None
    """factors on every eta; below 1 more tokens are kept, 0 keeps all (default: 1)"""

    speedup: tuple[float, ...] | None = None
    """instead, FLOPs speedups; the scales for them are picked from the model's calibration"""

    output: Path | None = None
    """write the result to this JSON file"""

    task: TaskSettings
    execution: Inference = field(default_factory=Inference)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, split=Split)
        if self.threshold_scale is not None and self.speedup is not None:
            raise ArgumentError("--speedup and --threshold-scale: only one of them can be given")
        for scale in self.threshold_scale or ():
            if not 0 <= scale < math.inf:
                raise ArgumentError(f"--threshold-scale: {scale} is not a number of at least 0")


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings(_Batched):
    """`adapler calibrate`."""

    model: str
    """folder of an AdapLeR model; a hub name needs --output"""

    split: RecordedSplit = "validation"
    """which rows are measured; test with --output only"""

    output: Path | None = None
    """write the curve to this JSON file (default: calibration.json in the model's folder)"""

    most_speedup: float = 12.0
    """the curve ends at this FLOPs speedup"""

    most_drop: float = 0.15
    """or where the score is so much below the score without removal"""

    points: int = 24
    """threshold scales to measure, at most"""

    timed_single: int = 20
    """texts that are also timed one by one"""

    resamples: int = 2000
    """bootstrap resamples of the examples, for the intervals"""

    level: float = 0.95
    """of the intervals"""

    task: TaskSettings
    execution: Inference = field(default_factory=Inference)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, split=RecordedSplit)
        check_numbers(self, ("timed_single", "resamples"), low=1)
        check_numbers(self, ("points",), low=4)
        check_numbers(self, ("most_speedup",), low=1, strict=True)
        check_numbers(self, ("most_drop",), low=0, strict=True)
        check_numbers(self, ("level",), low=0, strict=True, below=1)


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """`adapler export`."""

    model: Path
    """folder of an AdapLeR model"""

    output: Path
    """folder of the copy"""

    onnx: bool = False
    """write ONNX graphs instead, which drop tokens too and run without PyTorch; needs the extra `onnx`"""

    int8: bool = False
    """with --onnx: store the backbone's matrices as int8, which is faster and changes the logits a little"""

    def __post_init__(self) -> None:
        if self.int8 and not self.onnx:
            raise ArgumentError("--int8: only with --onnx")


@dataclass(frozen=True, kw_only=True)
class TradeoffSettings:
    """`adapler tradeoff`."""

    runs: tuple[Path, ...] = field(metadata={"positional": "RUN"})
    """what `adapler train` or `adapler run` wrote"""

    split: RecordedSplit = "validation"
    """which split's scores"""

    output: Path
    """the table, a .csv"""
