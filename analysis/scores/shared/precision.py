"""The number format of a run, and what is computed in float32 whatever that is.

The format is "float32" or "bfloat16", as `adapler.precision` decides it; float32 is the default of everything here. The
attribution methods read and differentiate the modules of a plain transformers classifier, so in bfloat16 that one runs
under autocast. AdapLeR's own pass runs as `adapler predict --dtype` does.

bfloat16 has eight bits: the distance between two nearly equal vectors, or a product of six attention maps, would be
mostly rounding, and is computed in float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from analysis.scores.base import Batch


def run_format(dtype: str, device: torch.device) -> AbstractContextManager[Any]:
    """What the passes of a classifier run under."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def in_format(adapler: Any, dtype: str) -> Any:
    """An AdapLeR model (or None) whose own pass computes in a format; the model that is given stays as it is."""
    return adapler if adapler is None or dtype == "float32" else adapler.for_inference(dtype=dtype)


def full_precision(where: Tensor | Batch) -> AbstractContextManager[Any]:
    """Autocast off, on the device of a tensor or batch."""
    tensor = where.input_ids if isinstance(where, Batch) else where
    return torch.autocast(tensor.device.type, enabled=False)


def full(tensor: Tensor) -> Tensor:
    """float32 of a half-precision tensor; float32 and float64 as they are."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def run_full(module: nn.Module, *inputs: Tensor) -> Tensor:
    """A module's output in at least float32, with weights of half precision brought there for the call."""
    weights = {name: full(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    with full_precision(inputs[0]):
        dtype = next((tensor.dtype for tensor in weights.values()), full(inputs[0]).dtype)  # an Identity has no weights
        result: Tensor = torch.func.functional_call(module, weights, tuple(one.to(dtype) for one in inputs))
    return result
