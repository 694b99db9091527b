"""One attention function, registered with transformers' AttentionInterface as "adapler".

Which of three things it does depends on the keyword arguments that the encoder passes through its layers:
a bias per key (soft removal), cumulative sequence lengths (packed sequences), or neither (plain SDPA, so that
the backbone also works on its own).

Dimensions: B batch, H heads, N padded length, T packed tokens, E head size.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from adapler.backbones.packing import Segments, from_padded, to_padded
from adapler.errors import ArgumentError

ATTENTION = "adapler"


def biased_attention(query: Tensor, key: Tensor, value: Tensor, *, key_bias: Tensor, scale: float) -> Tensor:
    """Attention whose logits get `key_bias` added per key, differentiable in the bias, on fused kernels.

    A mask that needs a gradient forces SDPA onto its slow path. One more feature carries it instead:
    [q, 1] . [k, bias / scale] * scale = q . k * scale + bias.

    Args:
        query, key, value: (B, H, N, E).
        key_bias: (B, N), <= 0.
        scale: factor on q . k.

    Returns:
        (B, H, N, E).
    """
    # Half of the smallest number, because a head adds q.k to it; its weight is 0 all the same.
    bias = (key_bias / scale).clamp(min=torch.finfo(query.dtype).min / 2).to(query.dtype)
    ones = query.new_ones(*query.shape[:-1], 1)
    query = torch.cat([query, ones], dim=-1)  # (B, H, N, E + 1)
    key = torch.cat([key, bias[:, None, :, None].expand_as(ones)], dim=-1)  # (B, H, N, E + 1)
    value = pad(value, (0, 1))  # (B, H, N, E + 1): fused kernels want one head size
    return scaled_dot_product_attention(query, key, value, scale=scale)[..., :-1]


def packed_attention(query: Tensor, key: Tensor, value: Tensor, *, segments: Segments, scale: float) -> Tensor:
    """Attention within each of several sequences that lie one after the other in a single row.

    On CUDA in half precision `varlen_attn`, on CUDA in float32 padded SDPA; on a CPU one SDPA call for each
    sequence, which is faster than padding at every length (benchmarks/packed_attention.py).

    Args:
        query, key, value: (1, H, T, E).
        segments: where the sequences begin and end.
        scale: factor on q . k.

    Returns:
        (1, H, T, E).
    """
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _varlen_attention(query, key, value, segments=segments, scale=scale)
    if query.is_cuda:
        return _padded_attention(query, key, value, segments=segments, scale=scale)
    parts = (torch.split(x, segments.sizes, dim=2) for x in (query, key, value))
    pieces = [scaled_dot_product_attention(q, k, v, scale=scale) for q, k, v in zip(*parts, strict=True)]
    return torch.cat(pieces, dim=2)


def _padded_attention(query: Tensor, key: Tensor, value: Tensor, *, segments: Segments, scale: float) -> Tensor:
    if len(segments.sizes) == 1:
        return scaled_dot_product_attention(query, key, value, scale=scale)
    q, k, v = (to_padded(x[0].transpose(0, 1), segments).transpose(1, 2) for x in (query, key, value))  # (B, H, N, E)
    mask = segments.mask[:, None, None, :]  # (B, 1, 1, N)
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return from_padded(out.transpose(1, 2), segments).transpose(0, 1)[None]  # (1, H, T, E)


def _varlen_attention(query: Tensor, key: Tensor, value: Tensor, *, segments: Segments, scale: float) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))  # (T, H, E)
    bounds, longest = segments.bounds.to(torch.int32), segments.longest
    out = varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scale)
    return cast(Tensor, out).transpose(0, 1)[None]


def adapler_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    key_bias: Tensor | None = None,
    segments: Segments | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The function that transformers calls in every layer; see the top of this file."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if dropout and (key_bias is not None or segments is not None):
        raise ArgumentError(f"attention dropout: {dropout} is not 0, and only the backbone's own forward pass has it")
    if key_bias is not None:
        out = biased_attention(query, key, value, key_bias=key_bias, scale=scale)
    elif segments is not None:
        out = packed_attention(query, key, value, segments=segments, scale=scale)
    else:
        return cast(
            tuple[Tensor, None],
            sdpa_attention_forward(
                module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
            ),
        )
    return out.transpose(1, 2).contiguous(), None  # (B, N, H, E)


AttentionInterface.register(ATTENTION, adapler_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
