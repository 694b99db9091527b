"""What every training command shares: its settings, the arguments they become, and the record it leaves."""

from __future__ import annotations

import json
import math
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from adapler.distributed import is_main
from adapler.errors import ArgumentError, TrainingError
from adapler.files import replacing

PRECISIONS = ("auto", "float32", "bfloat16")
EPOCHS = "epochs"  # sub-folder of a run with a checkpoint for each epoch


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
        if not 0 < self.learning_rate < math.inf:
            raise ArgumentError(f"--learning-rate: {self.learning_rate} is not a number above 0")
        if not 0 <= self.warmup < 1:
            raise ArgumentError(f"--warmup: {self.warmup} is not in [0, 1)")
        if not 0 <= self.weight_decay < math.inf:
            raise ArgumentError(f"--weight-decay: {self.weight_decay} is not a number of at least 0")
        if not 0 <= self.seed < 2**32:
            raise ArgumentError(f"--seed: {self.seed} is not between 0 and {2**32 - 1}")
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
    """The newest whole checkpoint of an interrupted training in this folder.

    The trainer's state is what a checkpoint gets last: one that was being written when the process was killed
    has none, or half of it, and is passed over.
    """
    steps = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*[0-9]") if path.is_dir()}
    for _, path in sorted(steps.items(), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(path)
    return None


@contextmanager
def epochs_folder(output: Path) -> Iterator[Path]:
    """The folder for checkpoints in a run's folder.

    When training fails before there is a whole checkpoint, nothing of it is left behind.

    Raises:
        ArgumentError: the run's folder is a file, or lies in one.
    """
    check_output_folder(output)
    folder = output / EPOCHS
    existed = output.exists()
    try:
        yield folder
    except BaseException:
        if is_main() and last_checkpoint(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            if not existed and output.is_dir() and not any(output.iterdir()):
                output.rmdir()
        raise


def check_output_folder(path: Path) -> None:
    """ArgumentError when nothing can be written into a folder of this name, since it or a part of it is a file."""
    for part in (path, *path.absolute().parents):
        if part.exists():
            if not part.is_dir():
                raise ArgumentError(f"--output: {path} cannot be a folder, {part} is a file")
            return


def check_output_file(path: Path | None) -> None:
    """ArgumentError when a file of this name cannot be written, since it is a folder or lies in a file."""
    if path is not None:
        if path.is_dir():
            raise ArgumentError(f"--output: {path} is a folder, a file is to be written there")
        check_output_folder(path.absolute().parent)


def what_is_kept(folder: str | Path) -> str:
    """The end of an error message of a training that stopped."""
    last = last_checkpoint(Path(folder))
    return "no checkpoint was written yet" if last is None else f"the last good checkpoint is {last}"


class StopWhenNotFinite(TrainerCallback):  # type: ignore[misc]
    """Ends training when the loss on the validation split is not finite, before that epoch is saved.

    The trainers look at every step's loss; this catches what the last update of an epoch did.
    """

    def on_evaluate(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        loss = (metrics or {}).get("eval_loss", 0.0)
        if not math.isfinite(loss):
            names = [] if model is None else [n for n, p in model.named_parameters() if not p.isfinite().all()]
            where = f"parameter {names[0]} is not finite" if names else "all parameters are finite"
            raise TrainingError(
                f"training stopped after step {state.global_step}: the validation loss is {loss}; {where} "
                f"(group {group_of(names[0]) if names else 'none'!r}); {what_is_kept(args.output_dir)}"
            )


def group_of(parameter: str) -> str:
    """The name of a parameter's group, as error messages and the optimiser call it."""
    name = parameter.removeprefix("module.")
    if name in ("eta", "theta"):
        return "eta and theta"
    return "predictors" if name.startswith("contribution_predictors.") else "backbone"


def versions() -> dict[str, str]:
    names = ("adapler", "torch", "transformers", "accelerate", "datasets", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON record, whole or not at all; numbers that are not finite as text: JSON has none."""
    text = json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def model_name(name_or_path: str | Path) -> str:
    """What a record calls a model: the hub's name, or of a folder its last part."""
    return Path(name_or_path).resolve().name if Path(name_or_path).is_dir() else str(name_or_path)


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
