"""Small differences and long products are computed in float32, whatever the precision of the run.

bfloat16 has eight bits: the distance between two nearly equal vectors, or a product of six attention maps, would be
mostly rounding. The model's own pass keeps the run's precision.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from analysis.scores.base import Batch


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
