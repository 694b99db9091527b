"""What a record must have before anything is made of it, so that a damaged one is one line and no half table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapler.errors import ArgumentError, DataError
from benchmarks.tradeoff.data import METRICS
from benchmarks.tradeoff.systems import system_of

_TEXTS = ("backbone", "task", "system", "coverage", "metric", "machine.device")
_NUMBERS = (
    *("seed", "max_drop", "reference", "epoch_flops", "rows.train", "machine.load_after"),
    *("cost.epochs", "cost.minutes", "cost.own_epochs", "cost.own_minutes"),
)
SPEEDUPS = ("speedup", "speedup_executed", "speedup_padded")  # see measure.Baseline.speedups
_TIMES = ("milliseconds", "ratio", "backbone")


def check_point(record: Mapping[str, Any], *, path: Path) -> None:
    """Check the fields of a trained point's record that plan and report use.

    Raises:
        DataError: names the file, the field, what was found and what is allowed.
    """
    check = _Fields(record, path)
    for name in _TEXTS:
        check.text(name)
    if record["metric"] not in METRICS:
        check.refuse("metric", f"one of {', '.join(METRICS)}")
    try:
        system_of(record["system"])
    except ArgumentError as error:
        raise DataError(f"{path}: system: {str(error).removeprefix('--systems: ')}") from None
    for name in _NUMBERS:
        check.number(name)
    if type(record["seed"]) is not int:
        check.refuse("seed", "a whole number")
    check.number("budget", optional=True)
    validated, tested = check.scales("validation"), check.scales("test")
    for place, scale in enumerate(tested):
        if scale not in validated:
            check.refuse(f"test.{place}.scale", "a scale of 'validation'")
        if check.found(f"test.{place}.time") is not None:
            for name in (f"test.{place}.time.{how}.{one}" for how in ("batches", "single") for one in _TIMES):
                check.number(name)
    check.number("chosen", optional=True)
    if record["chosen"] not in tested:
        check.refuse("chosen", "a scale of 'test'")
    if record["test"][tested.index(record["chosen"])]["time"] is None:
        check.refuse(f"test.{tested.index(record['chosen'])}.time", "an object at the chosen scale, which is timed")


class _Fields:
    """Looks at fields by their path: `cost.epochs`, `test.0.scale`."""

    def __init__(self, record: Mapping[str, Any], path: Path) -> None:
        self.record, self.path = record, path

    def found(self, name: str) -> Any:
        value: Any = self.record
        for part in name.split("."):
            try:
                value = value[int(part) if isinstance(value, list) else part]
            except (KeyError, IndexError, TypeError, ValueError):
                raise DataError(f"{self.path}: no field {name!r}") from None
        return value

    def refuse(self, name: str, allowed: str) -> None:
        raise DataError(f"{self.path}: {name!r} is {repr(self.found(name))[:60]}, not {allowed}")

    def text(self, name: str) -> None:
        if not isinstance(self.found(name), str):
            self.refuse(name, "text")

    def number(self, name: str, *, optional: bool = False, above: bool = False) -> None:
        """Of at least 0; `above`: more than 0; `optional`: None is allowed too."""
        value = self.found(name)
        if optional and value is None:
            return
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value < 0 or (above and value == 0):
            self.refuse(name, f"a number {'above 0' if above else 'of at least 0'}{' or null' if optional else ''}")

    def scales(self, split: str) -> list[float | None]:
        """The scales of a split, whose scores and speedups are checked."""
        rows = self.found(split)
        if not isinstance(rows, list) or not rows:
            self.refuse(split, "a list of at least one scale's scores")
        for place in range(len(rows)):
            self.number(f"{split}.{place}.scale", optional=True)
            self.number(f"{split}.{place}.score")
            for name in SPEEDUPS:
                self.number(f"{split}.{place}.{name}", above=True)
        return [row["scale"] for row in rows]
