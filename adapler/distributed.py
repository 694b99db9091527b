"""One job in several processes (`torchrun`, `accelerate launch`): who writes, and waiting for it; and the device.

Only the standard library is imported at once, so that a command can ask who it is before it loads torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# How long a process waits for another. While the main process computes saliency or evaluates, the others wait: hours,
# for a large training set. The default of 10 or 30 minutes would end such a run. When a process fails, the launcher
# ends the others at once, so nobody waits this long for a dead one.
GROUP_TIMEOUT = timedelta(days=7)


def is_main() -> bool:
    """Whether this process is the one that prints and writes; the only one there is, without a launcher."""
    return int(os.environ.get("RANK", "0")) == 0


def processes() -> int:
    """Number of processes that a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(device: torch.device) -> None:
    """Open the group of processes, for models on a kind of device; does nothing without a launcher."""
    if processes() > 1:
        _state(cpu=device.type == "cpu")


def wait_for_everyone() -> None:
    """Returns when every process is here; at once, without a launcher."""
    if processes() > 1:
        import torch

        _state(cpu=not torch.cuda.is_available()).wait_for_everyone()


def from_main(compute: Callable[[], T]) -> T:
    """Result of `compute`, called in the main process only, in every process."""
    if processes() == 1:
        return compute()
    from accelerate.utils import broadcast_object_list

    wait_for_everyone()
    values: list[Any] = [compute() if is_main() else None]
    broadcast_object_list(values)
    result: T = values[0]
    return result


def _state(*, cpu: bool) -> Any:
    from accelerate import PartialState

    # A group that is open already stays as it is.
    return PartialState(cpu=cpu, timeout=GROUP_TIMEOUT)
