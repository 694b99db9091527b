"""Work on a CPU a thousand tokens at a time, so that what lies between two steps stays in the processor's cache.

And number formats: which products of a layer are computed in which.

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

# Tokens that a CPU computes at once where no token looks at another: what lies between two steps stays in its cache.
ROWS = 1024
# In half precision a CPU's matrix products are compiled for every new number of rows (.5 to 1 ms and .6 to .9 MB each,
# and the number of tokens that stay is always a new one). So numbers of rows are multiples of GRAIN; up to FEW rows,
# where one product more or less shows, of FINE_GRAIN: 48 numbers in all.
GRAIN, FINE_GRAIN = 32, 16
FEW = 512
# The gradient of SDPA on a CPU is much slower in half precision than in float32 where sequences are short: with both
# conversions, float32 takes a fifth to a half of the time at 16 to 64 tokens, and as long at about 160.
SHORT = 160
# SDPA in half precision on a CPU takes keys in vectors of VECTOR, and those left over one by one: 31 keys take twice as
# long as 32. From TAIL left over, a longer sequence with masked keys is faster (1.1 to 2.7 times).
VECTOR, TAIL = 16, 8
HALF = (torch.bfloat16, torch.float16)


def narrowed(states: Tensor, dense: Any) -> Tensor:
    """States as a dense layer reads them: in its format where that is half precision, else as they are.

    In an inference copy on a CPU the products are in half precision and all else, the states too, in float32.
    """
    weight = dense.weight  # of an int8 layer a method
    return states.to(weight.dtype) if isinstance(weight, Tensor) and weight.dtype in HALF else states


def states_dtype(layer: nn.Module) -> torch.dtype:
    """The number format of what goes from layer to layer: the widest of a layer's parameters."""
    return reduce(torch.promote_types, {parameter.dtype for parameter in layer.parameters()})


def products_dtype(layer: nn.Module) -> torch.dtype:
    """The number format of a layer's matrix products."""
    found = (part.weight.dtype for part in layer.modules() if isinstance(part, nn.Linear))
    return next(found, torch.float32)  # int8 layers are no nn.Linear


def own_formats(layer: nn.Module, states: Tensor) -> AbstractContextManager[Any]:
    """Within it transformers' own code runs a layer whose products are in half precision and its states are not."""
    products = products_dtype(layer)
    mixed = products in HALF and states.dtype not in HALF
    return torch.autocast(states.device.type, products) if mixed else nullcontext()


def computes_in_pieces(tensor: Tensor) -> bool:
    """Whether work on this tensor is done in pieces (see `in_pieces`): on a CPU, where no gradient is asked for."""
    return tensor.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_exporting()


def pieces(rows: Tensor) -> Sequence[Tensor]:
    """(T, ...) as pieces of `ROWS` tokens, each (t, ...); a single one where work is not done in pieces."""
    # In this order: the exporter to ONNX cannot compare a number of tokens that depends on the data.
    return torch.split(rows, ROWS) if computes_in_pieces(rows) and len(rows) > ROWS else (rows,)


def joined(parts: Sequence[Tensor], *, dim: int = 0) -> Tensor:
    """What a function gave for each of the pieces, as one tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def in_pieces(
    function: Callable[..., tuple[Tensor, ...]], *rows: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """A function that treats every token alone, on `ROWS` tokens at a time.

    Args:
        function: tensors (1, t, ...) -> tensors (1, t, ...), for any t.
        rows: its arguments, each (1, T, ...).
        dtype: the format of its products; default: that of the first argument. Autocast comes before both.

    Returns:
        What it gives for all tokens, each (1, T, ...).
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype or rows[0].dtype
    half = dtype in HALF
    whole = rows[0].shape[1] <= ROWS  # as a text alone is; a slice that is everything takes its time too
    found = []
    for parts in (rows,) if whole else zip(*(torch.split(row, ROWS, dim=1) for row in rows), strict=True):
        size = parts[0].shape[1]
        zeros = -size % (FINE_GRAIN if size <= FEW else GRAIN) if half else 0
        if not zeros:
            found.append(function(*parts))
            continue
        longer = (torch.cat([part, part.new_zeros(1, zeros, *part.shape[2:])], dim=1) for part in parts)
        found.append(tuple(out[:, :size] for out in function(*longer)))
    return found[0] if whole else tuple(joined(parts, dim=1) for parts in zip(*found, strict=True))


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """SDPA of sequences of one length, in the number format whose gradient is fast (see `SHORT`).

    Args:
        query, key, value: (B, H, N, E).
        mask: added to the logits, or where True is seen; broadcasts to (B, H, N, N).
        scale: factor on q . k; default: 1 / sqrt(E).

    Returns:
        (B, H, N, E), in the query's format.
    """
    if not computes_in_float32(query, key, value):
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    with torch.autocast("cpu", enabled=False):
        found = scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask, scale=scale)
    return found.to(query.dtype)


def stretched(size: int, query: Tensor) -> int:
    """The length at which attention of a sequence is computed: its own, or a faster one, on a CPU in half precision.

    Only where no gradient is asked for. It depends on nothing but the sequence, and so does the result.
    """
    half = query.dtype in HALF
    return size + -size % VECTOR if half and computes_in_pieces(query) and size % VECTOR >= TAIL else size


def computes_in_float32(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether attention of these, each (B, H, N, E), is computed in float32 although they are in half precision."""
    if query.device.type != "cpu" or query.dtype not in HALF or query.shape[-2] >= SHORT:
        return False
    return query.requires_grad or key.requires_grad or value.requires_grad
