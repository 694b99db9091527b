"""What a model can do that has a calibration: pick a threshold scale for a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from adapler.backbones import max_positions
from adapler.budgets.attached import Attached
from adapler.budgets.curve import Calibration, Choice
from adapler.budgets.machine import machine_of
from adapler.text import Encoding, reading


class Calibrated:
    """A base class of AdapLeRForSequenceClassification."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._attached = Attached()

    @property
    def calibration(self) -> Calibration:
        """What `adapler calibrate` measured of this model; it can be set.

        Raises:
            ArgumentError: none is stored with the model, or it was measured with other weights.
            CheckpointError: the stored one is damaged.
        """
        return self._attached.of(self)

    @calibration.setter
    def calibration(self, calibration: Calibration) -> None:
        self._attached = Attached(calibration)

    def choose_scale(
        self, *, speedup: float | None = None, max_drop: float | None = None, milliseconds: float | None = None
    ) -> Choice:
        """The threshold scale for one target, by the stored calibration; printed, it says what to expect.

        Args:
            speedup: FLOPs of the backbone / FLOPs of AdapLeR.
            max_drop: how far the score may lie below the score without removal; the fastest such scale is chosen.
            milliseconds: of one text, in batches, on the machine of the calibration.

        Raises:
            ArgumentError: no target or several, one outside the measured curve, or no calibration of these weights.
        """
        return self.calibration.choose(speedup=speedup, max_drop=max_drop, milliseconds=milliseconds)

    def announce_scale(self, *, encoding: Encoding, runs: Any = None, **target: float) -> float:
        """The scale of `choose_scale`; what is to be expected of it goes to stderr, once for the same target.

        `encoding` is how texts will be read, `runs` what will compute, where that is a copy in another number format.
        """
        choice, runs = self.choose_scale(**target), self if runs is None else runs
        limit = max_positions(runs.backbone.config)
        read = reading(replace(encoding, max_length=encoding.length_within(limit)))
        return self._attached.announce(choice, machine_of(runs), read=read)

    def look_for_calibration(self, name_or_path: str | Path, **arguments: Any) -> None:
        """Remember where the model comes from; the calibration there is read when a target is asked for."""
        self._attached = Attached.beside(name_or_path, **arguments)

    def save_calibration(self, folder: Path) -> None:
        """Write the calibration beside a saved model, if it has one and the weights have not changed since."""
        self._attached.save(self, folder)
