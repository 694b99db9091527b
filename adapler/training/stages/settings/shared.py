"""What the settings of several commands share beside `adapler.training.settings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from adapler.errors import ArgumentError
from adapler.training.settings import check_numbers, option_name

ReinitHead = Literal["auto", "yes", "no"]
RecordedSplit = Literal["validation", "test"]


def one_of(values: Any, *names: str) -> None:
    """Raises ArgumentError unless exactly one of the named fields of `values` is given."""
    given = [name for name in names if getattr(values, name) is not None]
    if len(given) != 1:
        found = "none is given" if not given else f"{' and '.join(map(option_name, given))} are given"
        raise ArgumentError(f"{' or '.join(map(option_name, names))}: one of them is needed, {found}")


@dataclass(frozen=True, kw_only=True)
class NewHead:
    """Of commands that take an encoder and give a classifier."""

    reinit_head: ReinitHead = "auto"
    """whether an encoder gets a new pooler and classifier; auto: when its pooler was never trained. A fine-tuned
    classifier loses its head with `yes` only, in fine-tuning"""


@dataclass(frozen=True, kw_only=True)
class Resumable:
    """Of commands that train."""

    resume: bool = False
    """go on from the newest checkpoint in the output folder; without it, a folder with one is refused"""


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Of commands that fine-tune."""

    half: bool = False
    """round the fine-tuned weights to float16's grid, so that half the space stores them without a change"""


@dataclass(frozen=True, kw_only=True)
class Batched:
    """Of commands that run a model over a split."""

    token_budget: int | None = None
    """padded tokens in a batch (default: 8192, and on a GPU more, as free memory allows)"""

    def __post_init__(self) -> None:
        check_numbers(self, ("token_budget",), low=1)
