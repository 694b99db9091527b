"""Options of the commands that train and evaluate; every option is declared once, see `adapler.options`."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from adapler.errors import ArgumentError
from adapler.options import Checked, flag, option
from adapler.system import Dtype, choose_device, choose_dtype
from adapler.text import Truncation

ADAPLER = "adapler"  # the default policy


@dataclass(kw_only=True)
class TaskOptions(Checked):
    """Data and tokenisation."""

    task: str = option(
        "name of a task (sst2, mrpc, imdb, ag_news, dbpedia14, qnli, mnli, hatexplain, movies), folder with "
        "{train,validation,test}.jsonl (.csv, .tsv, .parquet), one file of rows, or a corpus in ERASER layout",
        basic=True,
    )
    data_dir: Path | None = option(
        "folder that holds DATA_DIR/NAME of a named task (default: data/eraser for movies, else the hub)", default=None
    )
    max_length: int | None = option("longest input in wordpieces (default: by task or model)", default=None, basic=True)
    long_documents: Truncation | None = option(
        "part of a longer text that is read: the first wordpieces (truncate), the last ones, or all in overlapping "
        "windows (default: truncate, or as a trained model did)",
        default=None,
    )
    train_documents: Truncation | None = option(
        "the same for the training split alone (default: as --long-documents)", default=None
    )
    stride: int | None = option("overlap of windows (default: 128, or a quarter of a window)", default=None, low=0)
    validation_share: float | None = option(
        "share of train to hold out (default: .1, 2000 rows at most)", default=None, above=0, below=1
    )
    limit: int | None = option(
        "training rows to sample, balanced over labels (default: all)", default=None, basic=True, low=1
    )


@dataclass(kw_only=True)
class OnDevice(Checked):
    """Device and precision."""

    device: str = option("auto (the GPU, if there is one), cpu, cuda or mps; cuda:N for inference only", default="auto")
    seed: int = option("random seed of all that is drawn", default=42, basic=True, low=0, below=2**32)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ArgumentError(f"--device: {self.device!r} is not one of auto, cpu, cuda, cuda:N, mps")


@dataclass(kw_only=True)
class Execution(OnDevice):
    """Device and precision."""

    precision: Dtype = option("bfloat16 (autocast), float32, or auto: bfloat16 if the hardware has it", default="auto")

    @property
    def autocasts(self) -> bool:
        """Whether training computes in bfloat16."""
        return choose_dtype(self.precision, choose_device(self.device)) == "bfloat16"


@dataclass(kw_only=True)
class Inference(OnDevice):
    """Device and precision."""

    dtype: Dtype = option("of the layers: bfloat16, float32, or auto: bfloat16 if the hardware has it", default="auto")


@dataclass(kw_only=True)
class Optimisation(Execution):
    """Optimisation."""

    epochs: int = option("passes over the training set", default=5, basic=True, low=1)
    max_steps: int | None = option("number of optimiser steps, instead of --epochs", default=None, low=1)
    eval_steps: int | None = option("steps between evaluations and checkpoints (default: epochs)", default=None, low=1)
    batch_size: int = option("rows per forward pass", default=32, basic=True, low=1)
    accumulation: int = option("forward passes per optimiser step", default=1, low=1)
    learning_rate: float = option("learning rate of the backbone", default=2e-5, basic=True, above=0)
    warmup: float = option("share of the steps over which the learning rate rises from 0", default=0.06, low=0, below=1)
    weight_decay: float = option("weight decay of the matrices of backbone and predictors", default=0.01, low=0)
    workers: int = option("worker processes that tokenise a large data set and prepare batches", default=0, low=0)
    group_by_length: bool = option("batch rows of similar length: less padding, less shuffling", default=False)
    gradient_checkpointing: bool = option("recompute activations: less memory, more time", default=False)
    report_to: Literal["none", "tensorboard", "wandb"] = option("where else to send the log", default="none")

    def __post_init__(self) -> None:
        super().__post_init__()
        if ":" in self.device:
            raise ArgumentError(f"--device: {self.device} cannot be chosen for training; set CUDA_VISIBLE_DEVICES")


@dataclass(kw_only=True)
class TargetOptions(Checked):
    """Targets of the Contribution Predictors."""

    target_method: list[str] = option(
        "attribution method whose scores the predictors learn: decomposition (DecompX by a detached gradient), "
        "attention_gradient, or saliency (gradient x input, the paper's); several are averaged",
        default=["decomposition"],
        choices=["saliency", "attention_gradient", "decomposition"],
    )
    target_layer: Literal["embeddings", "own"] = option(
        "attribute to the input of each predictor's own layer, or to the embeddings, as the paper does", default="own"
    )
    target_logit: Literal["gold", "predicted", "contrast"] = option(
        "output to attribute: logit of the true or predicted class, or true minus strongest other", default="contrast"
    )
    target_epochs: int = option("number of best fine-tuning epochs to average over", default=3, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.target_method)) < len(self.target_method) or not self.target_method:
            raise ArgumentError(f"--target-method: {' '.join(self.target_method) or 'none'}, each one once at most")

    @property
    def explained(self) -> str:
        """The logit or contrast as `adapler.backbones.families.target_weights` takes it."""
        return "contrast:gold" if self.target_logit == "contrast" else self.target_logit


_PACKED = "fine-tune on packed rows, without padding"
_HALF = "round the fine-tuned weights to float16, so that they can be stored in half the space without loss"


@dataclass(kw_only=True)
class _Stages(Checked):
    """Settings that the training commands share."""

    output: Path = option("output folder; run the same command again to resume", basic=True)
    reinit_head: Literal["auto", "yes", "no"] = option(
        "initialise pooler and classifier anew; auto: if the encoder's pooler was never trained", default="auto"
    )
    task: TaskOptions
    optimisation: Optimisation = field(default_factory=Optimisation)


@dataclass(kw_only=True)
class FinetuneConfig(_Stages):
    """Fine-tune the plain classifier, which is the baseline and the source of the training targets."""

    model: str = option("pre-trained encoder, or a classifier: hub name or folder", basic=True)
    packed: bool = option(_PACKED, default=False)
    half: bool = option(_HALF, default=False)


@dataclass(kw_only=True)
class TargetsConfig(Checked):
    """Compute the training targets of the Contribution Predictors for each token of the training set."""

    finetuned: Path | None = option("output folder of `adapler finetune`", default=None, basic=True)
    model: str | None = option("fine-tuned classifier, instead of --finetuned", default=None, basic=True)
    output: Path = option("output folder; run the same command again to resume", basic=True)
    task: TaskOptions
    targets: TargetOptions = field(default_factory=TargetOptions)
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.finetuned is None) == (self.model is None):
            raise ArgumentError("--finetuned or --model: one of them is needed")


@dataclass(kw_only=True)
class PolicyConfig(_Stages):
    """Settings of a policy's training."""

    policy: str = option(
        "removal policy: adapler, a comparison system (transkimmer, ltp, power, trbert, distilbert), a control "
        "(cls_topk, random_topk), or a registered name; `--policy NAME --help` shows its own options",
        default=ADAPLER,
        basic=True,
    )
    max_drop: float = option("largest drop of the validation score of a selected model", default=0.01, low=0, most=1)
    training: Any = None


@dataclass(kw_only=True)
class TrainConfig(PolicyConfig):
    """Train one model with a removal policy, from a fine-tuned classifier or a pre-trained encoder."""

    finetuned: Path | None = option("folder of `adapler finetune`: start, score and teacher", default=None, basic=True)
    model: str | None = option("encoder, classifier or AdapLeR model to start from", default=None, basic=True)
    targets: Path | None = option("output folder of `adapler targets`, for --policy adapler", default=None, basic=True)
    reference_score: float | None = option(
        "validation score of the classifier (default: measured)", default=None, low=0, most=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is None and self.finetuned is None:
            raise ArgumentError("--model: needed when --finetuned is not given")


@dataclass(kw_only=True)
class RunConfig(PolicyConfig):
    """Run the whole pipeline of a task: fine-tune, compute targets, train, evaluate. A stopped run resumes."""

    model: str | None = option("pre-trained encoder: hub name or folder", default=None, basic=True)
    classifier: str | None = option("fine-tuned classifier, instead of --model", default=None, basic=True)
    start: Literal["pretrained", "finetuned"] = option("weights that the policy starts from", default="finetuned")
    half: bool = option(_HALF, default=False)
    finetune_epochs: int | None = option("of fine-tuning (default: --epochs, or --max-steps)", default=None, low=1)
    finetune_learning_rate: float | None = option("of fine-tuning (default: --learning-rate)", default=None, above=0)
    finetune_packed: bool = option(_PACKED, default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.model is None) == (self.classifier is None):
            raise ArgumentError("--model or --classifier: one of them is needed")

    def finetuning(self) -> FinetuneConfig:
        changes = {"epochs": self.finetune_epochs, "learning_rate": self.finetune_learning_rate}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        if self.finetune_epochs is not None:
            given["max_steps"] = None  # which would take their place
        return FinetuneConfig(
            model=str(self.model),
            output=self.output / "finetuned",
            packed=self.finetune_packed,
            reinit_head=self.reinit_head,
            half=self.half,
            task=self.task,
            optimisation=replace(self.optimisation, **given),
        )


@dataclass(kw_only=True)
class SpeedUpConfig(Checked):
    """Make a fine-tuned classifier faster without changing its weights.

    The output folder holds a model for `pipeline`, calibrated on validation.
    """

    model: str = option("fine-tuned classifier: hub name or folder", basic=True)
    output: Path = option("output folder; run the same command again to resume", basic=True)
    target_speedup: float = option("speedup in FLOPs to train to", default=2.0, basic=True)
    task: TaskOptions
    optimisation: Optimisation = field(default_factory=lambda: Optimisation(epochs=3))


def with_options_of(cls: type, settings: type) -> type:
    """RunConfig or TrainConfig with the options of a policy's training as its last group."""
    return make_dataclass(
        cls.__name__,
        [("training", settings, field(default_factory=settings))],
        bases=(cls,),
        kw_only=True,
        namespace={"__doc__": cls.__doc__},
    )


# Commands of trained models


@dataclass(kw_only=True)
class EvaluateConfig(Checked):
    """Measure score and FLOPs speedup of a trained model on a split."""

    model: str = option("AdapLeR model: folder or hub name", basic=True)
    split: Literal["train", "validation", "test"] = option("split to evaluate", default="test", basic=True)
    threshold_scale: list[float] | None = option(
        "factors on the thresholds, 0 keeps all tokens (default: 1)", default=None, basic=True, low=0, below=math.inf
    )
    speedup: list[float] | None = option("FLOPs speedups, by the model's calibration", default=None, basic=True)
    max_drop: list[float] | None = option("drops of the score, by the calibration", default=None, low=0, most=1)
    milliseconds: list[float] | None = option("time limits per text in batches, by the calibration", default=None)
    output: Path | None = option("write the result to this JSON file", default=None, basic=True)
    token_budget: int | None = option("padded tokens in a batch (default: by the device)", default=None, low=1)
    task: TaskOptions
    execution: Inference = field(default_factory=Inference)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("threshold_scale", "speedup", "max_drop", "milliseconds")
        given = [flag(name) for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ArgumentError(f"{' and '.join(given[:2])}: only one of them can be given")

    @property
    def targets(self) -> list[dict[str, float]]:
        """Each requested budget as the arguments of `choose_scale`."""
        names = ("speedup", "max_drop", "milliseconds")
        return [{name: value} for name in names for value in getattr(self, name) or ()]


@dataclass(kw_only=True)
class CalibrateConfig(Checked):
    """Measure score, FLOPs and time over threshold scales: the curve behind --speedup and --max-drop."""

    model: str = option("folder of an AdapLeR model; a hub name needs --output", basic=True)
    split: Literal["validation", "test"] = option("test requires --output", default="validation", basic=True)
    output: Path | None = option("JSON file of the curve (default: in the model's folder)", default=None, basic=True)
    most_speedup: float = option("FLOPs speedup at which the curve ends", default=12.0, above=1)
    most_drop: float = option("drop of the score at which the curve ends", default=0.15, above=0, most=1)
    points: int = option("maximum number of threshold scales to measure", default=24, low=4)
    timed_single: int = option("number of texts that are also timed one by one", default=20, low=1)
    resamples: int = option("bootstrap resamples of the examples, for the intervals", default=2000, low=1)
    level: float = option("confidence level of the intervals", default=0.95, above=0, below=1)
    token_budget: int | None = option("padded tokens in a batch (default: by the device)", default=None, low=1)
    task: TaskOptions
    execution: Inference = field(default_factory=Inference)


@dataclass(kw_only=True)
class ExportConfig(Checked):
    """Export a model with its backbone in float16, or as ONNX graphs."""

    model: Path = option("folder of an AdapLeR model", basic=True)
    output: Path = option("output folder", basic=True)
    onnx: bool = option("write ONNX graphs, which drop tokens too; needs the extra `onnx`", default=False, basic=True)
    int8: bool = option("with --onnx: quantise the backbone's matrices to int8", default=False, basic=True)
    threshold_scale: float = option("factor on the copy's thresholds", default=1.0, basic=True, above=0, below=math.inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.int8 and not self.onnx:
            raise ArgumentError("--int8: only with --onnx")
        if Path(os.path.realpath(self.model)).is_relative_to(os.path.realpath(self.output)):
            raise ArgumentError(f"--output: {self.output} holds the model itself, choose another folder")


@dataclass(kw_only=True)
class CardConfig(Checked):
    """Write a model card, README.md, from a model's records and evaluations."""

    model: Path = option("folder of an AdapLeR model, where the card is written", basic=True)
    base_model: str | None = option("the encoder on the hub (default: from the records)", default=None, basic=True)
    license: str | None = option("of the weights, in the hub's spelling, as apache-2.0", default=None, basic=True)
    language: list[str] | None = option("languages of the texts, as en", default=None, basic=True)
    name: str | None = option("title (default: the folder's name)", default=None, basic=True)
    overwrite: bool = option("replace an existing README.md", default=False, basic=True)

    def __post_init__(self) -> None:
        if self.name is not None and not (self.name.strip() and self.name.isprintable()):
            raise ArgumentError(f"--name: {self.name!r} must be one line of text")
