"""The calibration of a loaded model: found beside its weights, and refused when the weights are others by now."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapler.budgets.curve import Calibration, Choice, Machine
from adapler.budgets.stored import CALIBRATION, read_calibration, weights_checksum, write_calibration
from adapler.errors import AdapLeRError, ArgumentError


class Attached:
    """What belongs to a model: nothing, a calibration, or the place where one may be stored.

    A file is read when a target is asked for, so a damaged one is no error before.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        self._calibration = calibration
        self._name: str | Path | None = None
        self._folder: Path | None = None  # of a local model, whatever the working directory is later
        self._hub: dict[str, Any] = {}
        self._checked: tuple[Any, ...] | None = None  # the state of the weights whose checksum was right
        self._told: list[str] = []
        self._read: tuple[Path, int] | None = None  # the file, and when it was written

    @classmethod
    def beside(cls, name_or_path: str | Path, **arguments: Any) -> Attached:
        """Of a model that was loaded from there, with these arguments of `from_pretrained`."""
        found = cls()
        found._name = name_or_path
        if Path(name_or_path).is_dir():
            found._folder = Path(name_or_path).resolve()
        names = ("subfolder", "revision", "token", "cache_dir", "local_files_only")
        found._hub = {name: arguments[name] for name in names if name in arguments}
        return found

    def of(self, model: Any) -> Calibration:
        """The calibration of a model as it is now.

        Raises:
            ArgumentError: there is none, or the model has other weights.
            CheckpointError: it is damaged.
        """
        if self._calibration is None or self._measured_anew():
            path = self._path()
            if path is None:
                command = f"adapler calibrate --model {self._name or 'MODEL'} --task TASK"
                raise ArgumentError(f"no calibration is stored with this model; `{command}` makes one")
            self._calibration, self._checked = read_calibration(path), None
            self._read = (path, path.stat().st_mtime_ns)
        # Writing into a parameter raises its version, and to replace it changes where it lies. What is written through
        # `.data` raises none: the few numbers beside the backbone's, thresholds above all, are looked at themselves.
        # What was made in inference mode has no version, and is looked at every time.
        versions = [None if one.is_inference() else one._version for one in model.parameters()]
        places = tuple(one.data_ptr() for one in model.parameters())
        state = (*places, *versions, weights_checksum(model, backbone=False))
        if None in versions or state != self._checked:
            if weights_checksum(model) != self._calibration.model_checksum:
                raise ArgumentError(
                    "the stored calibration was measured with other weights than this model has; "
                    "`adapler calibrate` measures it again"
                )
            self._checked = state
        return self._calibration

    def save(self, model: Any, folder: Path) -> None:
        """Write it beside a model that was saved; a model without one, or with other weights by now, has none.

        What the folder has of a model that was there before goes.
        """
        calibration = None
        if self._calibration is not None or self._path() is not None:
            with suppress(AdapLeRError):
                calibration = self.of(model)
        if calibration is None:
            (folder / CALIBRATION).unlink(missing_ok=True)
        else:
            write_calibration(folder / CALIBRATION, calibration)

    def announce(self, choice: Choice, here: Machine, *, read: str | None) -> float:
        """The scale of a choice; what is to be expected goes to stderr, once for calls that ask for the same."""
        notes = [note for note in (str(choice), choice.other_machine(here), choice.other_reading(read)) if note]
        if notes != self._told:
            self._told = notes
            for note in notes:
                print(f"note: {note}", file=sys.stderr)
        return choice.threshold_scale

    def _measured_anew(self) -> bool:
        """Whether the file that was read is another one now."""
        if self._read is None or not self._read[0].is_file():
            return False
        return self._read[0].stat().st_mtime_ns != self._read[1]

    def _path(self) -> Path | None:
        if self._name is None:
            return None
        if self._folder is not None:
            path = self._folder / (self._hub.get("subfolder") or "") / CALIBRATION
            return path if path.is_file() else None
        from transformers.utils import cached_file

        quiet = ("gated_repo", "missing_entries", "connection_errors")
        quietly: dict[str, Any] = {f"_raise_exceptions_for_{name}": False for name in quiet}
        found = cached_file(str(self._name), CALIBRATION, **self._hub, **quietly)
        return None if found is None else Path(found)
