"""Attention with a term for each pair of tokens: relative positions (MPNet) and sliding windows (ModernBERT).

The term depends on how far apart two tokens were in the input, before any token was removed. So it is made anew from
the positions of the tokens that are left.

Dimensions: B batch, H heads, N padded length, n tokens of one sequence, T packed tokens, E head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from adapler.backbones.packing import Segments
from adapler.backbones.pieces import sdpa

Term = Callable[[Tensor], Tensor]
"""Distances (B, N, N), key's position minus query's -> what the logits get, (B, H, N, N) or (B, 1, N, N)."""


def window(distance: Tensor, *, reach: int, dtype: torch.dtype) -> Tensor:
    """A sliding window as a `Term`: 0 for tokens at most `reach` positions apart, minus infinity for others."""
    return torch.zeros_like(distance, dtype=dtype).masked_fill(distance.abs() > reach, -torch.inf)[:, None]


def pairwise_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    term: Term,
    positions: Tensor,
    scale: float,
    segments: Segments | None = None,
    key_bias: Tensor | None = None,
    one_term: bool = False,
) -> Tensor:
    """Attention within sequences, with a term for each pair of tokens. Differentiable in everything, the term included.

    On a CPU a packed row is one SDPA call for each sequence; on CUDA it is padded, because the kernels for packed rows
    take no mask.

    Args:
        query, key, value: (1, H, T, E) of a packed row, or (B, H, N, E) of a padded batch.
        term: see Term.
        positions: (1, T) or (B, N), the tokens' positions in the input.
        scale: factor on q . k.
        segments: where the sequences of a packed row begin and end; None for a padded batch.
        key_bias: (1, T) or (B, N), at most 0, added to the logits of each key.
        one_term: all layers have this term. On a CPU it is then computed once for all that run on these segments, and
            for all sequences with the same positions, unless it learns.

    Returns:
        The shape of query.
    """
    if segments is None:
        mask = _mask(term, positions, dtype=query.dtype)
        return _attend(query, key, value, mask=mask, scale=scale, key_bias=key_bias)
    bias = None if key_bias is None else key_bias.reshape(1, -1)  # (1, T)
    if query.is_cuda and len(segments.sizes) > 1:
        return _padded(query, key, value, term=term, positions=positions, scale=scale, segments=segments, key_bias=bias)
    sizes = segments.sizes
    parts = zip(
        *(torch.split(x, sizes, dim=2) for x in (query, key, value)),
        torch.split(positions, sizes, dim=1),
        [None] * len(sizes) if bias is None else torch.split(bias, sizes, dim=1),
        strict=True,
    )
    made = segments.terms if one_term else None
    pieces = [
        _attend(q, k, v, mask=_mask(term, at, dtype=q.dtype, made=made), scale=scale, key_bias=b)
        for q, k, v, at, b in parts
    ]
    return torch.cat(pieces, dim=2)


def _mask(
    term: Term, positions: Tensor, *, dtype: torch.dtype, made: list[tuple[Tensor, Tensor, bool]] | None = None
) -> Tensor:
    """A term at positions (B, N): (B, H or 1, N, N). `made` are those of the same term before, and gets this one.

    What learns is made anew for each layer: its gradient may be asked for layer by layer (gradient checkpointing).
    """
    learning = torch.is_grad_enabled()
    for at, mask, learnt in made or ():
        if learnt == learning and mask.dtype == dtype and torch.equal(at, positions):
            return mask
    mask = term(positions[:, None, :] - positions[:, :, None]).to(dtype)
    if made is not None and not mask.requires_grad:
        made.append((positions, mask, learning))
    return mask


def _attend(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor, scale: float, key_bias: Tensor | None
) -> Tensor:
    """Sequences of one length: (B, H, N, E) -> (B, H, N, E), with a mask (B, H or 1, N, N)."""
    if key_bias is None:
        return sdpa(query, key, value, mask=mask, scale=scale)
    key_bias = key_bias.clamp(min=torch.finfo(query.dtype).min / 2)
    if mask.requires_grad:
        mask = mask + key_bias[:, None, None, :].to(query.dtype)
        return sdpa(query, key, value, mask=mask, scale=scale)
    # A mask without a gradient leaves SDPA on its fast path; the bias goes into one more feature, see biased_attention.
    column = (key_bias / scale).clamp(min=torch.finfo(query.dtype).min / 2).to(query.dtype)
    column = column[:, None, :, None].expand(*key.shape[:-1], 1)  # (B, H, N, 1)
    query, key = torch.cat([query, torch.ones_like(column)], dim=-1), torch.cat([key, column], dim=-1)
    wider = sdpa(query, key, pad(value, (0, 1)), mask=mask, scale=scale)
    return wider[..., :-1]


def _padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    term: Term,
    positions: Tensor,
    scale: float,
    segments: Segments,
    key_bias: Tensor | None,
) -> Tensor:
    """A packed row, computed as a padded batch."""
    sizes = segments.sizes
    q, k, v = (
        pad_sequence(list(torch.split(x[0].transpose(0, 1), sizes)), batch_first=True).transpose(1, 2)
        for x in (query, key, value)
    )  # (B, H, N, E)
    # A finite number at padding: a row of nothing but minus infinity would be NaN.
    nothing = torch.finfo(query.dtype).min / 2
    bias = positions.new_zeros(positions.shape, dtype=query.dtype) if key_bias is None else key_bias.to(query.dtype)
    bias = pad_sequence(list(torch.split(bias[0], sizes)), batch_first=True, padding_value=nothing)  # (B, N)
    at = pad_sequence(list(torch.split(positions[0], sizes)), batch_first=True)  # (B, N)
    out = _attend(q, k, v, mask=_mask(term, at, dtype=q.dtype), scale=scale, key_bias=bias)
    rows = [row[:, :n] for row, n in zip(out, sizes, strict=True)]
    return torch.cat(rows, dim=1)[None]  # (1, H, T, E)
