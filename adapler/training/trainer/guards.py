"""What stops a training that broke, before a broken number reaches a weight or a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from adapler.errors import TrainingError
from adapler.training.resume import what_is_kept
from adapler.training.trainer.parameters import group_of


def true_everywhere(accelerator: Any, value: bool) -> bool:
    """Whether `value` is true in every process; then all of them go on, or all of them stop."""
    if accelerator.num_processes == 1:
        return value
    flag = torch.tensor(int(value), device=accelerator.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN)
    return bool(flag.item())


class StopWhenNotFinite(TrainerCallback):  # type: ignore[misc]
    """Ends training when the loss on the validation split is not finite, before that epoch is saved.

    The trainers look at every step's loss; this catches what the last update of an epoch did.
    """

    def on_evaluate(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        loss = (metrics or {}).get("eval_loss", 0.0)
        if not math.isfinite(loss):
            broken = None if model is None else _broken_parameter(model)
            raise TrainingError(
                f"training stopped after step {state.global_step}: the validation loss is {loss}; {_where(broken)} "
                f"(group {group_of(broken) if broken else 'none'!r}); {what_is_kept(args.output_dir)}"
            )


class StepGuard(TrainerCallback):  # type: ignore[misc]
    """Looks at a step's losses and gradients before they reach a weight, and keeps eta within its bounds after."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.check()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.clamp_eta()


class StepNumbers:
    """The losses and gradient norms of the optimiser step in progress, and their means since the last log.

    They stay on the device until `check`, so that a GPU is waited for once a step and not at each number.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._losses: list[Tensor] = []  # (losses,) for each forward pass
        self._norms: dict[str, Tensor] = {}  # by group of parameters
        self._since_log: dict[str, list[float]] = {}

    def add_losses(self, losses: Mapping[str, Tensor]) -> None:
        """Note the losses of one forward pass, scalars; their names are the same in every pass."""
        self._names = tuple(losses)
        self._losses.append(torch.stack([loss.detach() for loss in losses.values()]))

    def set_norms(self, norms: Mapping[str, Tensor]) -> None:
        """Note the gradient norm of each group of parameters, scalars."""
        self._norms = dict(norms)

    def means(self) -> dict[str, float]:
        """The mean of each number since the last call."""
        means = {name: float(np.mean(values)) for name, values in self._since_log.items()}
        self._since_log = {}
        return means

    def check(self, model: nn.Module, accelerator: Any, *, position: Callable[[], str]) -> None:
        """Stop before a loss or a gradient that is not finite reaches a weight; called once in an optimiser step.

        Args:
            model: its first parameter that is not finite is named.
            accelerator: the trainer's; when one process stops, all do.
            position: says which step it is, and what is kept.

        Raises:
            TrainingError: a loss or a gradient's norm is not finite.
        """
        numbers = torch.cat([*self._losses, *(norm[None] for norm in self._norms.values())]).tolist()
        count = len(self._names)
        passes = [numbers[i : i + count] for i in range(0, count * len(self._losses), count)]
        norms = dict(zip(self._norms, numbers[count * len(passes) :], strict=True))
        self._losses, self._norms = [], {}
        for losses in passes:
            for name, value in zip(self._names, losses, strict=True):
                self._since_log.setdefault(name, []).append(value)
        for group, norm in norms.items():
            self._since_log.setdefault(f"grad_norm_{group.split()[0]}", []).append(norm)

        broken = next((losses for losses in passes if not all(map(math.isfinite, losses))), None)
        if not true_everywhere(accelerator, broken is None):
            shown = broken if broken is not None else passes[-1]
            text = ", ".join(f"{name} {value:.4g}" for name, value in zip(self._names, shown, strict=True))
            whose = "" if broken is not None else " in another process; here"
            where = _where(_broken_parameter(model))
            raise TrainingError(f"training stopped at {position()}: loss is not finite{whose} ({text}); {where}")
        for group, norm in norms.items():
            if not math.isfinite(norm):
                raise TrainingError(
                    f"training stopped at {position()}: the gradient of the parameter group {group!r} is {norm}"
                )


def _broken_parameter(model: nn.Module) -> str | None:
    """Name of the first parameter that is not finite."""
    return next((name for name, parameter in model.named_parameters() if not parameter.isfinite().all()), None)


def _where(broken: str | None) -> str:
    return f"parameter {broken} is not finite" if broken else "all parameters are finite"
