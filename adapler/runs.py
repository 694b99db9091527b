"""What every training command shares: its settings, the arguments they become, and the record it leaves."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from adapler.errors import ArgumentError
from adapler.files import replacing

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Settings:
    """Optimisation settings; the defaults are the paper's, but for the batch of a small machine.

    Attributes:
        epochs: passes over the training set.
        batch_size: rows of one forward pass.
        accumulation: forward passes of one optimiser step.
        learning_rate: of the backbone.
        warmup: share of the steps.
        weight_decay: of the backbone's and predictors' matrices.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the machine has units for it.
        seed: of everything random.
    """

    epochs: int = 5
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 2e-5
    warmup: float = 0.06
    weight_decay: float = 0.01
    precision: str = "auto"
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"--{name.replace('_', '-')}: {getattr(self, name)} is not at least 1")
        if not self.learning_rate > 0:
            raise ArgumentError(f"--learning-rate: {self.learning_rate} is not above 0")
        if not 0 <= self.warmup < 1:
            raise ArgumentError(f"--warmup: {self.warmup} is not in [0, 1)")
        if not self.weight_decay >= 0:
            raise ArgumentError(f"--weight-decay: {self.weight_decay} is not at least 0")
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"--precision: {self.precision!r} is not one of {', '.join(PRECISIONS)}")


def use_bfloat16(precision: str) -> bool:
    """Whether to run under bfloat16 autocast; "auto" asks the machine (about three times faster where it can)."""
    if precision != "auto":
        return precision == "bfloat16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def training_arguments(settings: Settings, folder: Path, *, kind: Any = TrainingArguments, **extra: Any) -> Any:
    """Settings -> transformers' TrainingArguments (or a subclass, `kind`): evaluates and saves every epoch."""
    return kind(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=32,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        bf16=use_bfloat16(settings.precision),
        seed=settings.seed,
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        greater_is_better=True,
        logging_strategy="steps",
        logging_steps=0.02,
        logging_nan_inf_filter=False,  # a loss that is not finite is an error here, not something to smooth over
        report_to=[],
        **extra,
    )


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of an interrupted training in this folder."""
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def versions() -> dict[str, str]:
    names = ("adapler", "torch", "transformers", "accelerate", "datasets", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON record, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def record_of(command: str, settings: Settings, *, started: float, **fields: Any) -> dict[str, Any]:
    """What run.json holds: command line, settings, versions, time, and what the command adds."""
    return {
        "command": command,
        # Absolute paths by their last part: where they lie on this machine says nothing to a reader.
        "arguments": [Path(word).name if Path(word).is_absolute() else word for word in sys.argv],
        "settings": asdict(settings),
        "versions": versions(),
        "machine": {"threads": torch.get_num_threads(), "bfloat16": use_bfloat16(settings.precision)},
        "seconds": round(time.time() - started, 1),
        **fields,
    }


def epochs_of(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluation entries of a Trainer's log, one an epoch, without the `eval_` prefix and timings."""
    rows = []
    for entry in log_history:
        if "eval_loss" in entry:
            row = {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith("eval_")}
            for name in ("runtime", "samples_per_second", "steps_per_second"):
                row.pop(name, None)
            rows.append({"epoch": round(entry["epoch"], 4), "step": entry["step"], **row})
    return rows
