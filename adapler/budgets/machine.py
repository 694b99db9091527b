"""What a model runs on: times hold for one kind of machine."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from adapler.backbones import view
from adapler.budgets.curve import Machine


def device_name(device: torch.device) -> str:
    """The name of a GPU or of the processor; of another kind of device, the kind."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return _processor() if device.type == "cpu" else device.type


def machine_of(model: Any) -> Machine:
    """The machine, the precision and the threads that a model would run with here and now (autocast counts)."""
    kind = model.device.type
    layer = next(view(model.backbone).layers.parameters())
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else layer.dtype
    return Machine(
        device=device_name(model.device), dtype=str(dtype).removeprefix("torch."), threads=torch.get_num_threads()
    )


def _processor() -> str:
    """The name of the processor, which `platform` does not know on Linux and on a Mac."""
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or platform.machine()
    table = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", table.read_text(), re.MULTILINE) if table.is_file() else None
    return " ".join(found[1].split()) if found else platform.processor() or platform.machine()
