"""From settings to transformers' TrainingArguments, which do the rest: steps, saving, mixed precision, processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from adapler.devices import choose_device, choose_dtype
from adapler.distributed import GROUP_TIMEOUT, is_main
from adapler.errors import ArgumentError
from adapler.training.settings import Objectives, Settings


def use_bfloat16(precision: str) -> bool:
    """Whether to run under bfloat16 autocast; "auto" asks the device that trains."""
    return choose_dtype(precision, choose_device()) == "bfloat16"


def precision_name(precision: str) -> str:
    """What a setting of precision means on this machine: "bfloat16" or "float32"."""
    return "bfloat16" if use_bfloat16(precision) else "float32"


@dataclass
class OneDeviceArguments(TrainingArguments):  # type: ignore[misc]
    """TrainingArguments of a process that trains on one device.

    transformers would wrap the model in `nn.DataParallel` when a process without a launcher sees several GPUs. That
    splits AdapLeR's per-layer tensors over the GPUs as if they were batches, so one GPU is used, and a note says how
    to use all of them.

    Raises:
        ArgumentError: fp16 is asked for. Its loss scaling would scale the gradient of eta, which is taken apart from
            the others, in another way than theirs.
    """

    def __post_init__(self) -> None:
        if self.fp16:
            raise ArgumentError("fp16: not supported; bf16=True (precision bfloat16) and float32 are")
        super().__post_init__()

    @property
    def n_gpu(self) -> int:
        """The number of GPUs that this process uses, 1 at most."""
        found: int = super().n_gpu
        if found > 1:
            if is_main():
                print(
                    f"note: one of {found} GPUs is used; "
                    f"`torchrun --nproc-per-node {found} -m adapler ...` uses all of them"
                )
            self._n_gpu = found = 1
        return found


@dataclass
class AdapLeRTrainingArguments(OneDeviceArguments):
    """transformers' TrainingArguments (its learning_rate is the backbone's) and what AdapLeR adds.

    Attributes:
        objectives: weights, learning rates and bounds of AdapLeR's losses; or a mapping of their names to values.
        reference_score: the fine-tuned model's best validation score, for the selection rule; None: no epoch qualifies.
        metric: "accuracy" or "f1".

    Raises:
        ArgumentError: see OneDeviceArguments; or label smoothing, which AdapLeR's own step would leave out.
    """

    objectives: Objectives = field(default_factory=Objectives)
    reference_score: float | None = None
    metric: str = "accuracy"
    remove_unused_columns: bool = field(default=False)
    ddp_find_unused_parameters: bool | None = field(default=False)  # every parameter that trains is used

    def __post_init__(self) -> None:
        if isinstance(self.objectives, Mapping):
            self.objectives = Objectives(**self.objectives)
        if self.label_smoothing_factor:
            raise ArgumentError(
                f"label_smoothing_factor: {self.label_smoothing_factor}, but the cross-entropy of AdapLeR's training "
                "is of the labels as they are; 0 is allowed"
            )
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**super().to_dict(), "objectives": asdict(self.objectives)}


def training_arguments(settings: Settings, folder: Path, *, kind: Any = OneDeviceArguments, **extra: Any) -> Any:
    """Settings -> transformers' TrainingArguments of a `kind`.

    It evaluates and keeps a checkpoint after every epoch, or after every `eval_steps` steps and at the end.

    Raises:
        ArgumentError: a device that cannot be had, or `report_to` without its package.
    """
    check_report(settings.report_to)
    if ":" in settings.device:
        number = settings.device.partition(":")[2]
        raise ArgumentError(
            f"--device: {settings.device} cannot be chosen for training; set CUDA_VISIBLE_DEVICES={number}"
        )
    if settings.eval_steps is None:
        when: dict[str, Any] = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    else:
        when = {"eval_strategy": "steps", "save_strategy": "steps"}
        when |= {"eval_steps": settings.eval_steps, "save_steps": settings.eval_steps}
    if settings.gradient_checkpointing:
        # transformers has given the option a new name. The reentrant kind gives a frozen backbone no gradient.
        known = {one.name for one in fields(TrainingArguments)}
        name = next(name for name in ("activation_checkpointing", "gradient_checkpointing") if name in known)
        when |= {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    return kind(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=32,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        bf16=use_bfloat16(settings.precision),
        seed=settings.seed,
        use_cpu=choose_device(settings.device).type == "cpu",
        dataloader_num_workers=settings.workers,
        # With the sampler of SamplesByLength: transformers' own would shuffle the evaluation set as well.
        train_sampling_strategy="group_by_length" if settings.group_by_length else "random",
        load_best_model_at_end=True,
        greater_is_better=True,
        logging_strategy="steps",
        logging_steps=0.02,
        logging_nan_inf_filter=False,  # a loss that is not finite is an error here, not something to smooth over
        ddp_timeout=int(GROUP_TIMEOUT.total_seconds()),
        report_to=["wandb"] if settings.report_to == "wandb" else [],  # tensorboard: see report_callbacks
        **{**when, **extra},
    )


def check_report(report_to: str) -> None:
    """Raises ArgumentError when the package that `report_to` names is not installed."""
    if report_to != "none" and find_spec(report_to) is None:
        raise ArgumentError(f"--report-to: {report_to} is not installed; `pip install {report_to}`")


def check_gradient_checkpointing(model: Any, settings: Settings, *, otherwise: str) -> None:
    """Raises ArgumentError where it is asked for and the model has none; `otherwise`: what to do instead."""
    if settings.gradient_checkpointing and not model.supports_gradient_checkpointing:
        kind = model.config.model_type
        raise ArgumentError(f"--gradient-checkpointing: transformers' {kind} has none; {otherwise}")


def report_callbacks(settings: Settings, output: Path, *, stage: str = "") -> list[TrainerCallback]:
    """What sends the log to TensorBoard: its files lie in `output`/tensorboard, where a finished run keeps them, those
    of a stage in a folder of its name there."""
    if settings.report_to != "tensorboard" or not is_main():
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return [TensorBoardCallback(SummaryWriter(log_dir=str(output / "tensorboard" / stage)))]
