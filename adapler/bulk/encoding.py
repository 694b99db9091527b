"""Which part of a long text is read: what the options say, else what run.json remembers of training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from adapler.bulk.settings import PredictSettings
from adapler.errors import ArgumentError, CheckpointError
from adapler.training.settings import Policy

__all__ = ["Encoding", "encoding_of"]

POLICIES: tuple[str, ...] = Policy.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Encoding:
    """How texts become inputs.

    Attributes:
        max_length: longest input in wordpieces; None: the model's longest.
        long_documents: what becomes of longer texts: truncate, last or windows.
        stride: overlap of windows in wordpieces; None: by the length of a window.
        note: one line that says all of this, and why.
    """

    max_length: int | None = None
    long_documents: str = "truncate"
    stride: int | None = None
    note: str = ""


def encoding_of(settings: PredictSettings) -> Encoding:
    """The options, or what run.json beside the model says of its training.

    Raises:
        ArgumentError: --stride without windows.
        CheckpointError: run.json is damaged.
    """
    recorded = _recorded(Path(settings.model) / "run.json")
    how = recorded or Encoding()
    policy = settings.long_documents or how.long_documents
    if settings.stride is not None and (settings.stride < 0 or policy != "windows"):
        raise ArgumentError(f"--stride: {settings.stride} must be at least 0, and --long-documents windows")
    changed = settings.max_length is not None or policy != how.long_documents
    chosen = Encoding(
        max_length=how.max_length if settings.max_length is None else settings.max_length,
        long_documents=policy,
        stride=settings.stride if settings.stride is not None else None if changed else how.stride,
    )
    length = "the model's longest input" if chosen.max_length is None else f"max_length {chosen.max_length}"
    because = "as in training (run.json)" if recorded is not None else "no run.json beside the model says more"
    if changed or settings.stride is not None:
        because = "as asked for"
    return replace(chosen, note=f"{length}, longer texts: {chosen.long_documents}; {because}")


def _recorded(path: Path) -> Encoding | None:
    """The `encoding` of a run.json; None where there is none. Raises CheckpointError for one that is damaged."""
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({' '.join(str(error).split()):.100})") from error
    encoding = record.get("encoding") if isinstance(record, dict) else None
    if encoding is None:
        return None
    length, policy, stride = (
        (encoding.get(name) for name in ("max_length", "long_documents", "stride"))
        if isinstance(encoding, dict)
        else (None, None, None)
    )
    good = type(length) is int and policy in POLICIES and (stride is None or type(stride) is int)
    if not good:
        raise CheckpointError(
            f"{path}: 'encoding' must have max_length (a whole number), long_documents ({', '.join(POLICIES)}) and "
            f"stride (a whole number or null), found {repr(encoding)[:80]}"
        )
    return Encoding(max_length=length, long_documents=str(policy), stride=stride)
