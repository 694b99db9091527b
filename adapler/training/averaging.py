"""A running average of the weights, which is what is evaluated, selected and kept.

Gradients through soft removal are noisy, and accuracy jumps by points from one epoch to the next. The exponential
moving average of the weights (Polyak and Juditsky, 1992) takes that noise out and costs one copy of what trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

LIVE_WEIGHTS = "live.safetensors"  # in a checkpoint, whose model.safetensors holds the average


class WeightAverage(TrainerCallback):  # type: ignore[misc]
    """mean <- d mean + (1 - d) weights after every optimiser step, d = min(decay, t / (t + 9)).

    The ramp keeps the first weights from counting for hundreds of steps: step 1 weighs .9, step 100 .08.

    Args:
        model: its parameters that train are averaged; frozen ones are left alone, bit for bit.
        decay: below 1; the average looks back over about 1 / (1 - decay) steps.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.live = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.mean = {name: parameter.detach().clone() for name, parameter in self.live.items()}

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        for name, parameter in self.live.items():  # the trainer may have moved the model to a device
            self.mean[name] = self.mean[name].to(parameter.device)

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step  # counts on where an interrupted training was
        decay = min(self.decay, step / (step + 9))
        for name, parameter in self.live.items():
            self.mean[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def save_live(self, folder: Path) -> None:
        """Write the weights that training goes on from."""
        save_file({name: parameter.detach() for name, parameter in self.live.items()}, folder / LIVE_WEIGHTS)

    def load_live(self, folder: Path) -> None:
        """Go on from a checkpoint: the model, which has its average, gets its live weights."""
        saved: Mapping[str, Tensor] = load_file(folder / LIVE_WEIGHTS)
        with torch.no_grad():
            for name, parameter in self.live.items():
                self.mean[name] = parameter.detach().clone()
                parameter.copy_(saved[name])

    def _swap(self) -> None:
        for name, parameter in self.live.items():
            parameter.data, self.mean[name] = self.mean[name], parameter.data
