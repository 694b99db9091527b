"""The groups of settings that several commands share; every setting is declared once.

A class holds plain values, a docstring under each field, and checks that name the option. The options of the command
line and their help, the keys of a recipe (`--config`) and the settings in `run.json` are made from these fields, see
`adapler.training.recipes`. What only one command takes is in `adapler.training.stages.settings`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from adapler.devices import Dtype
from adapler.errors import ArgumentError, check_drop
from adapler.text import Truncation

# Between the 2e-3 and 5e-3 of results/movies-minilm: the backbone's rate is for trained weights, predictors are new.
POST_HOC_LEARNING_RATE = 3e-3

# A larger target is a typing error: on texts of 500 tokens all but [CLS] would have to go in the first layers.
MOST_SPEEDUP = 100.0

Routing = Literal["exact", "local"]
SlopeSchedule = Literal["epochs", "steps"]
ReportTo = Literal["none", "tensorboard", "wandb"]
OUR_PREDICTORS = ("mlp", "contextual")  # known without loading torch


def check_numbers(
    values: Any, names: Iterable[str], *, low: float, strict: bool = False, below: float = math.inf
) -> None:
    """Raises ArgumentError for the first of the named values that is out of [low, below); None is allowed."""
    for name in names:
        value = getattr(values, name)
        if value is None or ((value > low if strict else value >= low) and value < below):
            continue
        if below < math.inf:
            allowed = f"in {'(' if strict else '['}{low:g}, {below:g})"
        elif isinstance(value, int) and not strict:
            allowed = f"at least {low:g}"
        else:
            allowed = f"a number {'above' if strict else 'of at least'} {low:g}"
        raise ArgumentError(f"{option_name(name)}: {value} is not {allowed}")


def check_choices(values: Any, **choices: Any) -> None:
    """Raises ArgumentError for the first value that is not one of its choices, a Literal; None is allowed."""
    for name, allowed in choices.items():
        value = getattr(values, name)
        if value is not None and value not in allowed.__args__:
            raise ArgumentError(f"{option_name(name)}: {value!r} is not one of {', '.join(allowed.__args__)}")


def option_name(name: str) -> str:
    """How a field is called on the command line: `max_length` is `--max-length`."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """What every command that runs a model takes."""

    device: str = "auto"
    """where the model runs: auto (a GPU where there is one), cpu, cuda, or mps; cuda:N where nothing is trained, else
    CUDA_VISIBLE_DEVICES chooses among several GPUs"""

    seed: int = 42
    """of everything random: new weights, the order of rows, dropout, the rows of --limit"""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ArgumentError(f"--device: {self.device!r} is not one of auto, cpu, cuda, cuda:N, mps")
        if not 0 <= self.seed < 2**32:
            raise ArgumentError(f"--seed: {self.seed} is not between 0 and {2**32 - 1}")


@dataclass(frozen=True, kw_only=True)
class Execution(OnDevice):
    """How a command computes that trains, or reads gradients."""

    precision: Dtype = "auto"
    """bfloat16 (autocast; weights stay float32), float32, or auto: bfloat16 where the machine has units for it"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, precision=Dtype)


@dataclass(frozen=True, kw_only=True)
class Inference(OnDevice):
    """How a command computes that only predicts."""

    dtype: Dtype = "auto"
    """number format of the layers' weights: bfloat16, float32, or auto: bfloat16 where the device computes it in
    hardware; predictors, thresholds and the head are in float32 always"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, dtype=Dtype)


@dataclass(frozen=True, kw_only=True)
class Settings(Execution):
    """Optimisation; the defaults are the paper's of fine-tuning (it trains AdapLeR at a learning rate of 3e-5)."""

    epochs: int = 5
    """passes over the training set"""

    max_steps: int | None = None
    """train for this many optimiser steps, instead of --epochs"""

    eval_steps: int | None = None
    """evaluate and write a checkpoint after every so many optimiser steps and at the end (default: after every epoch).
    Fine-tuning keeps all epochs' weights, but of points by steps those of the best three, or --saliency-epochs, only"""

    batch_size: int = 32
    """rows of one forward pass"""

    accumulation: int = 1
    """forward passes of one optimiser step"""

    learning_rate: float = 2e-5
    """of the backbone"""

    warmup: float = 0.06
    """share of the steps in which the learning rate grows from 0"""

    weight_decay: float = 0.01
    """of the backbone's and the predictors' matrices"""

    workers: int = 0
    """processes that prepare batches beside the one that trains, and that tokenise a large data set (0: none)"""

    group_by_length: bool = False
    """batches of about equally long rows, in an order that the seed and the epoch decide: less padding to compute in
    fine-tuning, but the texts of a batch are less mixed. The evaluation keeps the order of its rows"""

    gradient_checkpointing: bool = False
    """compute the layers' inner values again in the backward pass instead of keeping them: less memory, more time"""

    report_to: ReportTo = "none"
    """also send the log to tensorboard (files in the output folder) or wandb; the package must be installed"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, ("epochs", "batch_size", "accumulation", "max_steps", "eval_steps"), low=1)
        check_numbers(self, ("workers",), low=0)
        check_choices(self, report_to=ReportTo)
        check_numbers(self, ("learning_rate",), low=0, strict=True)
        check_numbers(self, ("warmup",), low=0, below=1)
        check_numbers(self, ("weight_decay",), low=0)


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """AdapLeR's two objectives (paper, eq. 4 and 7), and the rule that selects an epoch."""

    gamma: float = 0.02
    """weight of the contribution loss, which trains backbone and Contribution Predictors"""

    phi: float = field(default=2e-4, metadata={"several": True})
    """weight of the length loss, which trains the thresholds: the speed budget"""

    predictor_learning_rate: float | None = None
    """of the Contribution Predictors (default: the backbone's, or 3e-3 with --freeze-backbone)"""

    eta_learning_rate: float = 5e-3
    """of the thresholds' factors eta, and of theta"""

    gradient_slope: float = 50.0
    """bound on the slope whose gradient soft removal has; inf is the paper's"""

    max_slope: float | None = None
    """bound on the slope of soft removal itself: a steep slope leaves no gradient to the tokens just below a threshold,
    which could bring them back (default: none, the paper's schedule)"""

    slope_schedule: SlopeSchedule | None = None
    """when the slope of soft removal grows: from one epoch to the next, as in the paper, or a little in every step
    (default: steps with --max-steps or --eval-steps, otherwise epochs)"""

    routing: Routing = "exact"
    """how far contribution and length loss reach: exact, through the hidden states to all parameters of their groups,
    which takes two backward passes; local (ours), to the predictors and the thresholds alone, which takes one"""

    average_decay: float = 0.0
    """decay of a running average of the weights, such as .99; the average is then what is evaluated and kept, and
    it needs as many more bytes as what trains (0: no average)"""

    freeze_backbone: bool = False
    """post-hoc mode: train predictors and thresholds only; the fine-tuned classifier below them stays as it is, bit for
    bit"""

    max_drop: float = 0.01
    """how far below the fine-tuned classifier's validation score an epoch may be and still qualify, from 0 to 1: one
    point is 0.01"""

    target_speedup: float | None = field(default=None, metadata={"several": True})
    """train to this speedup in FLOPs, such as 4: phi is the start only and is changed in every step. Of the evaluated
    points within 10 % of the target, the one with the best validation score is kept"""

    logit_distillation: float = 0.0
    """weight of the divergence of the logits from the fine-tuned classifier's, added to cross-entropy (ours; 0: none);
    with --freeze-backbone that classifier is the model itself without removal"""

    distillation_temperature: float = 2.0
    """temperature of both distributions in --logit-distillation"""

    state_distillation: float = 0.0
    """weight of the mean squared distance of [CLS]'s last hidden state from the fine-tuned classifier's, added to
    cross-entropy (ours; 0: none)"""

    predictor: str | None = None
    """what scores the tokens: mlp (the paper's, sees each token alone), contextual (ours, sees their mean and the near
    neighbours too), or one's own by its registered name (default: mlp, of an AdapLeR model its own)"""

    contribution_hidden_size: int | None = None
    """width of the hidden layer of the Contribution Predictors (default: 32; of an AdapLeR model its own)"""

    first_layer: int | None = None
    """the first layer that drops tokens, counted from 0; earlier ones read every token (default: 0, all layers drop, as
    in the paper; of an AdapLeR model its own)"""

    def __post_init__(self) -> None:
        check_numbers(self, ("gamma", "phi", "eta_learning_rate", "predictor_learning_rate"), low=0)
        check_drop("--max-drop", self.max_drop)
        check_numbers(self, ("logit_distillation", "state_distillation"), low=0)
        check_numbers(self, ("distillation_temperature",), low=0, strict=True)
        if self.distillation_temperature != type(self).distillation_temperature and not self.logit_distillation:
            raise ArgumentError("--distillation-temperature: has no effect without --logit-distillation")
        for name in ("gradient_slope", "max_slope"):
            if (bound := getattr(self, name)) is not None and not bound > 0:
                raise ArgumentError(f"{option_name(name)}: {bound} is not above 0")
        if self.target_speedup is not None:
            if not 1 < self.target_speedup <= MOST_SPEEDUP:
                raise ArgumentError(
                    f"--target-speedup: {self.target_speedup:g} is not above 1 and at most {MOST_SPEEDUP:g}"
                )
            if self.phi == 0:
                raise ArgumentError("--phi: 0 is no start for --target-speedup, which multiplies it")
            if self.max_drop != type(self).max_drop:
                raise ArgumentError("--max-drop: has no effect with --target-speedup, whose points qualify by speedup")
        check_choices(self, slope_schedule=SlopeSchedule, routing=Routing)
        if self.predictor is not None and self.predictor not in OUR_PREDICTORS:
            from adapler.predictors import predictor_class
            from adapler.registry import load_plugins

            load_plugins()
            try:
                predictor_class(self.predictor)
            except ArgumentError as error:
                raise ArgumentError(f"--{error}") from None
        check_numbers(self, ("contribution_hidden_size",), low=1)
        check_numbers(self, ("first_layer",), low=0)
        check_numbers(self, ("average_decay",), low=0, below=1)

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return self.logit_distillation > 0 or self.state_distillation > 0

    def resolved(self) -> Objectives:
        """The same with the default learning rate of post-hoc predictors filled in."""
        if self.freeze_backbone and self.predictor_learning_rate is None:
            return replace(self, predictor_learning_rate=POST_HOC_LEARNING_RATE)
        return self


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """A task, and how its texts become token ids."""

    task: str
    """a task's name (sst2, mrpc, imdb, ag_news, dbpedia14, qnli, mnli, hatexplain, movies), a folder with
    {train,validation,test}.jsonl (.csv, .tsv, .parquet), such a file, or a folder or .tar.gz in ERASER layout"""

    data_dir: Path | None = None
    """of a task with a name: the folder that holds DATA_DIR/NAME (default: data/eraser for movies, else the hub)"""

    max_length: int | None = None
    """longest input in wordpieces (default: the task's; `evaluate` and `calibrate`: as in training, see run.json)"""

    long_documents: Truncation | None = None
    """what becomes of longer texts: their first wordpieces (truncate), their last ones, or overlapping windows, whose
    logits are averaged (default: truncate; `evaluate` and `calibrate`: as in training, see run.json)"""

    train_documents: Truncation | None = None
    """the same for the training split alone; `last` trains on text that fine-tuning on the first wordpieces has not
    seen, which is what post-hoc thresholds need (default: as --long-documents)"""

    stride: int | None = None
    """overlap of windows in wordpieces (default: 128, or a quarter of a window when that is less)"""

    validation_share: float | None = None
    """draw this share of the training rows, with the seed, as validation split (default: a tenth, at most 2000 rows);
    for a task without one"""

    limit: int | None = None
    """use this many training rows only, the same number of each label, drawn with the seed"""

    def __post_init__(self) -> None:
        check_choices(self, long_documents=Truncation, train_documents=Truncation)
        check_numbers(self, ("limit",), low=1)
        check_numbers(self, ("stride",), low=0)
        check_numbers(self, ("validation_share",), low=0, strict=True, below=1)
