"""calibration.json beside a model: written whole, read with every value checked, and tied to the weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

import torch

from adapler.budgets.curve import Baseline, Calibration, Machine, Point
from adapler.errors import CheckpointError
from adapler.files import replacing

CALIBRATION = "calibration.json"
OURS = "adapler"  # AdapLeR's own policy, which is part of no checksum


def weights_checksum(model: Any, *, backbone: bool = True) -> str:
    """sha256 over a model's weights as they are now, or over all but the backbone's: names, shapes and values. A plain
    classifier has one, too.

    The name of another policy than AdapLeR's, and the numbers of a policy that the configuration holds (such as the
    share that a control keeps), count too.
    Two things do not count: how the weights are stored, and theta, which has no effect at inference. The backbone's are
    rounded to bfloat16 first, so that the same model in bfloat16 has the same checksum.
    """
    digest = hashlib.sha256()
    policy, options = (getattr(model.config, name, None) for name in ("policy", "policy_options"))
    if options or policy not in (None, OURS):
        digest.update(json.dumps([policy, options], sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        if name == "theta" or (not backbone and name.startswith("backbone.")):
            continue
        dtype = torch.bfloat16 if name.startswith("backbone.") else torch.float32
        values = parameter.detach().to(dtype).cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(asdict(calibration), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_calibration(path: Path) -> Calibration:
    """Read what `write_calibration` wrote.

    Raises:
        CheckpointError: not there, not JSON, or a value that is missing or of the wrong kind; it is named.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({' '.join(str(error).split()):.100})") from error
    curve: Calibration = _made(Calibration, content, where=path)
    scales = [point.threshold_scale for point in curve.points]
    if len(scales) < 2 or scales[0] != 0 or sorted(set(scales)) != scales:
        raise CheckpointError(f"{path}: 'points' are not two or more by growing threshold_scale, the first at 0")
    if any(min(point.speedup, *point.speedup_interval) <= 0 for point in curve.points):
        raise CheckpointError(f"{path}: a speedup is not above 0")
    return curve


def _made(cls: Any, values: Any, *, where: Path, at: str = "") -> Any:
    """An object of a dataclass from JSON."""
    if not isinstance(values, dict):
        raise CheckpointError(f"{where}: {at.rstrip('.') or 'the file'!r} is not an object")
    hints, parts = get_type_hints(cls), {}
    for one in fields(cls):
        if one.name not in values:
            raise CheckpointError(f"{where}: no {at + one.name!r}; another version of this package wrote it")
        parts[one.name] = _value(hints[one.name], values[one.name], where=where, at=at + one.name)
    return cls(**parts)


def _value(kind: Any, value: Any, *, where: Path, at: str) -> Any:
    def numbers(found: Any) -> Iterator[bool]:
        yield from (isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in found)

    if kind in (Machine, Baseline):
        return _made(kind, value, where=where, at=at + ".")
    if kind == tuple[Point, ...]:
        if isinstance(value, list):
            return tuple(_made(Point, one, where=where, at=f"{at}[{i}].") for i, one in enumerate(value))
    elif kind is float:
        if all(numbers([value])):
            return float(value)
    elif kind == tuple[float, float]:
        if isinstance(value, list) and len(value) == 2 and all(numbers(value)):
            return float(value[0]), float(value[1])
    elif kind in (str, int):
        if type(value) is kind:
            return value
    elif isinstance(value, dict):
        return value
    raise CheckpointError(f"{where}: {at!r} is {repr(value)[:60]}, not what a calibration has there")
