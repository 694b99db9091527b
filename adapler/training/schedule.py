"""What changes while AdapLeR trains: the slope of soft removal, and phi when there is a target speedup.

Dimensions: B batch, L layers.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapler.errors import ArgumentError, CheckpointError
from adapler.flops import adapler_flops, backbone_flops

CONTROLLER_STATE = "controller.json"  # in a checkpoint of a training with a target speedup

_FIRST_SLOPE, _LAST_SLOPE = 10.0, 1e5


def slope_at(epoch: int, epochs: int) -> float:
    """Soft removal's lambda in an epoch (0-based): 50*50^e for 3 epochs, 10*10^e for 5, 10*3^e for 10.

    Other counts go geometrically from 10 to 1e5 (our choice; the paper names three counts only).

    Raises:
        ArgumentError: epoch is outside [0, epochs).
    """
    if not 0 <= epoch < epochs:
        raise ArgumentError(f"epoch: {epoch} is not in [0, {epochs})")
    published = {3: (50.0, 50.0), 5: (10.0, 10.0), 10: (10.0, 3.0)}
    if epochs in published:
        first, ratio = published[epochs]
    elif epochs == 1:
        first, ratio = _LAST_SLOPE, 1.0  # one epoch only: at once close to hard removal, which is what will be used
    else:
        first, ratio = _FIRST_SLOPE, (_LAST_SLOPE / _FIRST_SLOPE) ** (1 / (epochs - 1))
    return first * ratio**epoch


def slope_at_step(step: int, steps: int) -> float:
    """Soft removal's lambda in an optimiser step (0-based) of a schedule by steps: geometrically from 10 to 1e5.

    The slope grows a little in every step, so one long epoch begins as gently as many short ones.

    Raises:
        ArgumentError: step is outside [0, steps).
    """
    if not 0 <= step < steps:
        raise ArgumentError(f"step: {step} is not in [0, {steps})")
    return float(_FIRST_SLOPE * (_LAST_SLOPE / _FIRST_SLOPE) ** (step / max(1, steps - 1)))


@dataclass
class _State:
    """What a controller knows; a checkpoint holds it.

    `full` and `reduced` are running means of FLOPs in a training batch, of the backbone and of AdapLeR. `measured` is
    log(hard speedup on validation / soft speedup in training) at the last evaluation, `offset` follows it smoothly.
    """

    phi: float
    full: float = 0.0
    reduced: float = 0.0
    integral: float = 0.0
    measured: float = 0.0
    offset: float = 0.0


class SpeedController:
    """Changes phi, the weight of the length loss, so that training ends at a target speedup.

        e_t   = log(wanted speedup at t) - log(measured speedup at t)
        I_t   = I_(t-1) + 100 * e_t / steps
        x_t   = 6 * e_t + I_t, within +-log(1e4)
        phi_t = phi_0 * (exp(x_t) - exp(-x_t) / 1000)

    The wanted speedup grows geometrically from 1 to the target over the first 40 % of training, so that the
    Contribution Predictors learn something before much is dropped. The measured speedup is that of the soft lengths in
    training batches, as a running mean, times what the last evaluation found between it and hard removal on validation.

    A controller of this kind (proportional and integral, on the weight of a loss) is in MrT5 (Kallini et al., 2025).
    Here it acts on logarithms: a speedup of 2x is as far from 4x as 8x is. Near the start phi_t is phi_0 * exp(x_t).
    Below a thirtieth of phi_0 it crosses 0, as the multiplier of an equality may (ours, not MrT5's). Tokens that a
    steep slope has removed have no gradient of the cross-entropy, so without a loss that asks for more tokens a
    training that is too fast stays so, and gets faster while the contribution scores sharpen.

    Args:
        phi: the start, above 0.
        target: speedup in FLOPs, above 1.
        config: the model's AdapLeRConfig, for FLOPs.
    """

    PROPORTIONAL, INTEGRAL, MOST_FACTOR, MIRROR = 6.0, 100.0, 1e4, 1e-3
    RAMP = 0.4  # share of training in which the wanted speedup grows
    MEMORY = 0.01  # share of training over which measurements are averaged, but at least 10 steps

    def __init__(self, *, phi: float, target: float, config: Any) -> None:
        self.start, self.target, self.config = phi, target, config
        self._state = _State(phi)

    @property
    def phi(self) -> float:
        """Weight of the length loss now; below 0 it asks for more tokens."""
        return self._state.phi

    @property
    def speedup(self) -> float:
        """Estimate of the hard speedup now; 1 before the first batch."""
        state = self._state
        return state.full / state.reduced * math.exp(state.offset) if state.reduced else 1.0

    def flops(self, lengths_in: Tensor, lengths: Tensor) -> Tensor:
        """FLOPs of a batch, (2,): the backbone's and AdapLeR's.

        Args:
            lengths_in: (B,) true lengths.
            lengths: (B, L) soft lengths.
        """
        # In soft mode a length may exceed the one before by a rounding error, which the count refuses.
        shrinking = torch.minimum(lengths.detach().cpu().double().cummin(1).values, lengths_in[:, None].cpu().double())
        full = backbone_flops(self.config, lengths_in).sum()
        return torch.stack([full, adapler_flops(self.config, lengths_in, shrinking).sum()])

    def observe(self, flops: Tensor, *, progress: float, share: float) -> None:
        """Take in a training batch, and set phi for it.

        Args:
            flops: (2,), see `flops`, summed over processes.
            progress: share of training that is done, 0 to 1.
            share: share of training that this batch is.
        """
        state = self._state
        full, reduced = flops.tolist()
        rate = min(1.0, share / self.MEMORY, 0.1) if state.reduced else 1.0
        state.full += rate * (full - state.full)
        state.reduced += rate * (reduced - state.reduced)
        state.offset += min(rate, 0.1) * (state.measured - state.offset)
        error = math.log(self.target) * min(1.0, progress / self.RAMP) - math.log(self.speedup)
        most = math.log(self.MOST_FACTOR)
        state.integral = max(-most, min(most, state.integral + self.INTEGRAL * error * share))
        exponent = max(-most, min(most, self.PROPORTIONAL * error + state.integral))
        state.phi = self.start * (math.exp(exponent) - self.MIRROR * math.exp(-exponent))

    def calibrate(self, speedup: float) -> None:
        """Take in the hard speedup on validation: from now on, training aims at it."""
        state = self._state
        if state.reduced:
            state.measured = math.log(speedup) - math.log(state.full / state.reduced)

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint."""
        (folder / CONTROLLER_STATE).write_text(json.dumps(asdict(self._state)), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: it was written without a target speedup, or is damaged.
        """
        path = folder / CONTROLLER_STATE
        try:
            self._state = _State(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise CheckpointError(f"{folder}: was written without --target-speedup; go on without it too") from error
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: damaged, not the state of a speed controller") from error
