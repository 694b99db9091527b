"""Device and dtype of a model, the processes of one job, and the machine of time measurements.

bfloat16 has the range of float32 and three digits. Where a processor has instructions for it, a model runs two to three
times faster than in float32; where it has none, every product is emulated and the model is slower.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from adapler.errors import ArgumentError

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES: tuple[str, ...] = get_args(Dtype)
T = TypeVar("T")
AMPERE = (8, 0)  # the first CUDA compute capability with bfloat16 units
# How long a process waits for another. While the main process computes saliency or evaluates, the others wait: hours,
# for a large training set. The default of 10 or 30 minutes would end such a run. When a process fails, the launcher
# ends the others at once, so nobody waits this long for a dead one.
GROUP_TIMEOUT = timedelta(days=7)


def choose_device(name: str = "auto") -> torch.device:
    """The device of a command's model.

    Args:
        name: "auto" (this process's own GPU if there is one, as in training; the CPU otherwise), "cpu", "cuda",
            "cuda:1", "mps".

    Raises:
        ArgumentError: no such device on this machine.
    """
    import torch

    if name == "auto" or (name == "cuda" and torch.cuda.is_available()):
        own = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", own) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f"--device: {name!r} is not one of auto, cpu, cuda, cuda:N, mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        there = ", ".join(["auto", "cpu", *(kind for kind in ("cuda", "mps") if count[kind])])
        raise ArgumentError(f"--device: {name} is not on this machine, which has {there}")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes bfloat16 in hardware: AVX512-BF16 or AMX on a CPU, Ampere and above on CUDA."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def choose_dtype(name: str, device: torch.device) -> str:
    """ "float32" or "bfloat16"; "auto" is bfloat16 where the device computes it in hardware.

    Raises:
        ArgumentError: another name.
    """
    if name not in DTYPES:
        raise ArgumentError(f"dtype: {name!r} is not one of {', '.join(DTYPES)}")
    if name != "auto":
        return name
    return "bfloat16" if has_bfloat16(device) else "float32"


def describe_dtype(name: str, device: torch.device) -> str:
    """One line on the dtype that `choose_dtype` chose, and the reason."""
    chosen = choose_dtype(name, device)
    can = "computes" if has_bfloat16(device) else "does not compute"
    if name == "auto":
        return f"dtype {chosen} (auto: this {device.type} {can} bfloat16 in hardware)"
    if chosen == "bfloat16" and not has_bfloat16(device):
        return f"dtype bfloat16 (slow: this {device.type} does not compute it in hardware)"
    return f"dtype {chosen} (as requested)"


def device_name(device: torch.device) -> str:
    """The name of a GPU or of the processor; of another kind of device, the kind."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return _processor() if device.type == "cpu" else device.type


def _processor() -> str:
    """The name of the processor, which `platform` does not know on Linux and on a Mac."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return output.strip() or platform.machine()
    table = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", table.read_text(), re.MULTILINE) if table.is_file() else None
    return " ".join(match[1].split()) if match else platform.processor() or platform.machine()


# ---- one job in several processes (`torchrun`, `accelerate launch`): who writes, and waiting for it


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
