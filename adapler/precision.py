"""In which number format a model computes: the one place that decides it.

bfloat16 has the range of float32 and three digits. Where a processor has instructions for it, a model runs two to three
times faster than in float32; where it has none, every product is emulated and the model is slower.

Only the standard library is imported at once, so that a command can name the choices before it loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from adapler.errors import ArgumentError

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES: tuple[str, ...] = get_args(Dtype)
AMPERE = (8, 0)  # the first CUDA compute capability with bfloat16 units


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes bfloat16 in hardware.

    CPU: AVX512-BF16 or AMX. CUDA: compute capability 8.0 (Ampere) and above. Other devices: no.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def choose_dtype(name: str, device: torch.device) -> str:
    """The format that a setting means on a device.

    Args:
        name: "float32", "bfloat16", or "auto": bfloat16 where the device computes it in hardware, else float32.
        device: where the model runs.

    Returns:
        "float32" or "bfloat16".

    Raises:
        ArgumentError: another name.
    """
    if name not in DTYPES:
        raise ArgumentError(f"dtype: {name!r} is not one of {', '.join(DTYPES)}")
    if name != "auto":
        return name
    return "bfloat16" if has_bfloat16(device) else "float32"


def describe_dtype(name: str, device: torch.device) -> str:
    """One line that says what `choose_dtype` chose, and why."""
    chosen = choose_dtype(name, device)
    can = "computes" if has_bfloat16(device) else "does not compute"
    if name == "auto":
        return f"dtype {chosen} (auto: this {device.type} {can} bfloat16 in hardware)"
    if chosen == "bfloat16" and not has_bfloat16(device):
        return f"dtype bfloat16 (slow: this {device.type} does not compute it in hardware)"
    return f"dtype {chosen} (as asked for)"
