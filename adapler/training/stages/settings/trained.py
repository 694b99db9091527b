"""The settings of the commands that take trained models: evaluate, calibrate, export, card and tradeoff."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adapler.errors import ArgumentError, check_drop
from adapler.training.settings import Inference, TaskSettings, check_choices, check_numbers
from adapler.training.stages.settings.shared import Batched, RecordedSplit

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Batched):
    """`adapler evaluate`."""

    model: str
    """AdapLeR model: folder or hub name"""

    split: Split = "test"
    """which rows are judged"""

    threshold_scale: tuple[float, ...] | None = None
    """factors on every eta; below 1 more tokens are kept, 0 keeps all (default: 1)"""

    speedup: tuple[float, ...] | None = None
    """instead, FLOPs speedups; the scales for them are picked from the model's calibration"""

    max_drop: tuple[float, ...] | None = None
    """instead, how far the score may lie below the score without removal, as far as the calibration knows"""

    milliseconds: tuple[float, ...] | None = None
    """instead, milliseconds of a text in batches, as the calibration measured them"""

    output: Path | None = None
    """write the result to this JSON file"""

    task: TaskSettings
    execution: Inference = field(default_factory=Inference)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, split=Split)
        choices = {
            "--speedup": self.speedup,
            "--max-drop": self.max_drop,
            "--milliseconds": self.milliseconds,
            "--threshold-scale": self.threshold_scale,
        }
        given = [name for name, values in choices.items() if values is not None]
        if len(given) > 1:
            raise ArgumentError(f"{' and '.join(given[:2])}: only one of them can be given")
        for drop in self.max_drop or ():
            check_drop("--max-drop", drop)
        for scale in self.threshold_scale or ():
            if not 0 <= scale < math.inf:
                raise ArgumentError(f"--threshold-scale: {scale} is not a number of at least 0")

    @property
    def targets(self) -> list[dict[str, float]]:
        """What is asked for, one after the other, as the arguments of `choose_scale`."""
        names = ("speedup", "max_drop", "milliseconds")
        return [{name: value} for name in names for value in getattr(self, name) or ()]


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings(Batched):
    """`adapler calibrate`."""

    model: str
    """folder of an AdapLeR model; a hub name needs --output"""

    split: RecordedSplit = "validation"
    """which rows are measured; test with --output only"""

    output: Path | None = None
    """write the curve to this JSON file (default: calibration.json in the model's folder)"""

    most_speedup: float = 12.0
    """the curve ends with the first threshold scale at this FLOPs speedup or above"""

    most_drop: float = 0.15
    """or with the first one whose score is so much below the score without removal, from 0 to 1"""

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
        check_drop("--most-drop", self.most_drop)
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

    threshold_scale: float = 1.0
    """multiply every eta by this, so that the copy has the speed at scale 1 that the model has at this scale, such as
    one that validation chose"""

    def __post_init__(self) -> None:
        if self.int8 and not self.onnx:
            raise ArgumentError("--int8: only with --onnx")
        check_numbers(self, ("threshold_scale",), low=0, strict=True)
        # Not of a hub name, which is no folder; `os.path` takes names of any length.
        real = Path(os.path.realpath(self.model)) if os.path.exists(self.model) else None
        if real is not None and real.is_relative_to(os.path.realpath(self.output)):
            raise ArgumentError(
                f"--output: {self.output} holds the model itself and would be replaced whole, choose another folder"
            )


@dataclass(frozen=True, kw_only=True)
class CardSettings:
    """`adapler card`."""

    model: Path
    """folder of an AdapLeR model; the card is its README.md"""

    base_model: str | None = None
    """the pre-trained encoder's name on the hub (default: what the records say)"""

    license: str | None = None
    """of the weights, as the hub spells it, such as apache-2.0"""

    language: tuple[str, ...] | None = None
    """of the texts, such as en"""

    name: str | None = None
    """the title (default: the folder's name)"""

    overwrite: bool = False
    """replace a README.md that is there"""

    def __post_init__(self) -> None:
        if self.name is not None and not (self.name.strip() and self.name.isprintable()):
            raise ArgumentError(f"--name: {self.name!r} must be one line of text")


@dataclass(frozen=True, kw_only=True)
class TradeoffSettings:
    """`adapler tradeoff`."""

    runs: tuple[Path, ...] = field(metadata={"positional": "RUN"})
    """what `adapler train` or `adapler run` wrote"""

    split: RecordedSplit = "validation"
    """which split's scores"""

    output: Path
    """the table, a .csv"""
