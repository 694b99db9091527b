"""The options of `adapler predict` that ask for a speed, a score or a time instead of a threshold scale."""

from __future__ import annotations

import argparse
from typing import Any

from adapler.errors import ArgumentError
from adapler.training.settings import Execution, option_name

__all__ = ["TARGETS", "add_targets", "check_target", "scale_of"]

TARGETS = ("speedup", "max_drop", "milliseconds")


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Adds --speedup, --max-drop and --milliseconds."""
    group = parser.add_argument_group(
        "instead of --threshold-scale", "By the curve that `adapler calibrate` stored with the model."
    )
    group.add_argument("--speedup", type=float, help="so many times fewer FLOPs")
    group.add_argument("--max-drop", type=float, help="as fast as a score so much below the one without removal allows")
    group.add_argument("--milliseconds", type=float, help="of one text, in batches, on the calibration's machine")


def check_target(args: argparse.Namespace) -> None:
    """Check the options before the model is loaded.

    Raises:
        ArgumentError: several targets, one beside --threshold-scale or --removal none, or a value that no curve has.
    """
    given = [name for name in (*TARGETS, "threshold_scale") if getattr(args, name) is not None]
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(map(option_name, given))}: only one of them can be given")
    if given and given != ["threshold_scale"]:
        (name,) = given
        value = getattr(args, name)
        if args.removal != "hard":
            raise ArgumentError(f"{option_name(name)}: --removal {args.removal} drops no tokens")
        if not (0 <= value < float("inf") and (value > 0 or name == "max_drop")):
            least = "of at least 0" if name == "max_drop" else "above 0"
            raise ArgumentError(f"{option_name(name)}: {value} is not a number {least}")


def scale_of(model: Any, args: argparse.Namespace, execution: Execution) -> float:
    """The threshold scale that the options mean for a loaded model; of a target, what is expected goes to stderr."""
    targets = {name: getattr(args, name) for name in TARGETS if getattr(args, name) is not None}
    if not targets:
        return 1.0 if args.threshold_scale is None else float(args.threshold_scale)
    from adapler.training.stages.evaluate import autocast

    with autocast(model, execution):
        return float(model.announce_scale(**targets))
