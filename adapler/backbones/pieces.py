"""Work on a CPU a thousand tokens at a time, so that intermediate results stay in its cache; and dtypes of a layer.

Dimensions: T packed tokens, t tokens of a piece, B batch, H heads, N length, E head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

HALF = (torch.bfloat16, torch.float16)
# Tokens of a piece: without pieces a batch of long texts takes 6 to 18 % longer.
ROWS = 1024
# In half precision a CPU's matrix products are compiled for every new number of rows (.6 to .9 MB each), so they are
# multiples of this.
GRAIN = 16
# The gradient of SDPA on a CPU is slow in half precision where sequences are shorter than this: float32 takes a fifth
# to a half of the time at 16 to 64 tokens, both conversions included.
SHORT = 160


def narrowed(states: Tensor, dense: Any) -> Tensor:
    """States as a dense layer reads them: in its dtype where that is half precision, else as they are."""
    weight = dense.weight  # of an int8 layer a method
    return states.to(weight.dtype) if isinstance(weight, Tensor) and weight.dtype in HALF else states


def states_dtype(layer: nn.Module) -> torch.dtype:
    """Dtype of the states between layers: the widest of a layer's parameters."""
    return reduce(torch.promote_types, {parameter.dtype for parameter in layer.parameters()})


def products_dtype(layer: nn.Module) -> torch.dtype:
    """Dtype of a layer's matrix products; float32 for int8 layers, which are no nn.Linear."""
    return next((part.weight.dtype for part in layer.modules() if isinstance(part, nn.Linear)), torch.float32)


def own_formats(layer: nn.Module, states: Tensor) -> AbstractContextManager[Any]:
    """Context in which transformers' own code runs a layer with products in half precision and states in float32."""
    products = products_dtype(layer)
    mixed = products in HALF and states.dtype not in HALF
    return torch.autocast(states.device.type, products) if mixed else nullcontext()


def computes_in_pieces(tensor: Tensor) -> bool:
    """Whether work on this tensor is done in pieces: on a CPU, without gradients."""
    return tensor.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_exporting()


def pieces(rows: Tensor) -> Sequence[Tensor]:
    """(T, ...) as pieces of `ROWS` tokens, each (t, ...); a single one where work is not done in pieces."""
    # In this order: the exporter to ONNX cannot compare a number of tokens that depends on the data.
    return torch.split(rows, ROWS) if computes_in_pieces(rows) and len(rows) > ROWS else (rows,)


def joined(parts: Sequence[Tensor], *, dim: int = 0) -> Tensor:
    """Pieces as one tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def in_pieces(
    function: Callable[..., tuple[Tensor, ...]], *rows: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """A function that treats every token alone, on `ROWS` tokens at a time where work is done in pieces.

    Args:
        function: tensors (1, t, ...) -> tensors (1, t, ...), for any t.
        rows: its arguments, each (1, T, ...).
        dtype: dtype of its products; default: that of the first argument. Autocast comes before both.

    Returns:
        Its results for all tokens, each (1, T, ...).
    """
    if not computes_in_pieces(rows[0]):
        return function(*rows)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype or rows[0].dtype
    results = []
    whole = rows[0].shape[1] <= ROWS  # as a text alone is; a split into one takes its time too
    for parts in (rows,) if whole else zip(*(torch.split(row, ROWS, dim=1) for row in rows), strict=True):
        size = parts[0].shape[1]
        if missing := -size % GRAIN if dtype in HALF else 0:
            longer = (torch.cat([part, part.new_zeros(1, missing, *part.shape[2:])], dim=1) for part in parts)
            results.append(tuple(out[:, :size] for out in function(*longer)))
        else:
            results.append(function(*parts))
    return results[0] if len(results) == 1 else tuple(joined(parts, dim=1) for parts in zip(*results, strict=True))


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """SDPA of sequences of one length, (B, H, N, E), in the dtype whose gradient is fast (see `SHORT`)."""
    slow = query.device.type == "cpu" and query.dtype in HALF and query.shape[-2] < SHORT
    if not (slow and (query.requires_grad or key.requires_grad or value.requires_grad)):
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    mask = mask.float() if mask is not None and mask.is_floating_point() else mask
    with torch.autocast("cpu", enabled=False):
        found = scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask, scale=scale)
    return found.to(query.dtype)
