"""Checkpoints of a training whose weights are averaged, or whose phi is controlled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from adapler.distributed import is_main
from adapler.errors import ArgumentError
from adapler.training.arguments import AdapLeRTrainingArguments
from adapler.training.averaging import LIVE_WEIGHTS, WeightAverage
from adapler.training.schedule import SpeedController
from adapler.training.trainer.base import StageTrainer


class CheckpointTrainer(StageTrainer):
    """A trainer that evaluates and saves the average of the weights, where there is one.

    A checkpoint holds the average as its model, and beside it what training goes on from: the live weights and the
    state of the speed controller.
    """

    args: AdapLeRTrainingArguments
    average: WeightAverage | None
    controller: SpeedController | None

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' evaluation, of the average while training."""
        with self._averaged():
            return super().evaluate(*args, **kwargs)

    def _averaged(self) -> AbstractContextManager[None]:
        # A model that has been trained holds the selected epoch's average itself.
        return nullcontext() if self.average is None or not self.is_in_train else self.average.applied()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        with self._averaged():
            super()._save(output_dir, None if self.average is not None else state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if not is_main():  # transformers calls this in every process
            return
        if self.average is not None and self.is_in_train:
            self.average.save_live(folder)
        if self.controller is not None and self.is_in_train:
            self.controller.save(folder)

    def _is_done(self, checkpoint: Path) -> bool:
        if (self.average is not None) != (checkpoint / LIVE_WEIGHTS).is_file():
            decay, held = self.args.objectives.average_decay, "no average" if self.average is not None else "an average"
            raise ArgumentError(f"average_decay: {decay}, but {checkpoint} was written with {held}")
        return super()._is_done(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load_live(folder)
        if self.controller is not None:
            self.controller.load(folder)
