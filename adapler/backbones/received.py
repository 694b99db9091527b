"""Attention that is looked at: what the heads give, and how much attention each token received.

Fused kernels never hold the attention weights, so what is read of them is computed explicitly, which is slower.

Dimensions: B sequences, b of a group, H heads, h of a block, T packed tokens, t of a group, n tokens of one sequence,
E head size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from adapler.backbones.packing import Segments
from adapler.backbones.pieces import joined

Reads = Literal["all", "cls", "nothing"]
"""Part of a layer's attention weights to read: all, the row of [CLS], or none."""

# Attention weights that are held at once (4 MB in float32): more of them leave the processor's cache between two steps,
# which takes longer. One head of one sequence is never split.
MOST_WEIGHTS = 1 << 20


class Received(NamedTuple):
    """Attention weights of a layer, the mean of its heads, (T,) each; None where the policy does not read it, see
    `Policy.reads`. They depend on a sequence's own tokens only.

    Attributes:
        total: the sum over all queries of the token's sequence; sums to n in each sequence.
        own: what a token gives to itself.
        from_cls: what [CLS] gives; sums to 1 in each sequence.
    """

    total: Tensor = None  # type: ignore[assignment]
    own: Tensor = None  # type: ignore[assignment]
    from_cls: Tensor = None  # type: ignore[assignment]


def _softmax(logits: Tensor, *, dim: int = -1) -> Tensor:
    """In float32 or better."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim)


def _groups(segments: Segments, *, heads: int) -> Iterator[tuple[int, int]]:
    """(sequences, tokens of each) of neighbours that are equally long, few enough for MOST_WEIGHTS."""
    for count, size in segments.runs:
        most = max(1, MOST_WEIGHTS // (heads * size * size))
        for start in range(0, count, most):
            yield min(most, count - start), size


def _sequences(row: Tensor, groups: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """The row's sequences, a group at a time: (1, H, T, E) -> (b, H, n, E) each.

    One split and not many slices: the gradient of a slice is as large as the row.
    """
    parts = torch.split(row[0], [count * size for count, size in groups], dim=1)
    for part, group in zip(parts, groups, strict=True):
        yield torch.unflatten(part, 1, group).transpose(0, 1)


def _attend(query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """Attention within sequences of one length, a block of heads at a time.

    query, key, value (b, H, n, E), and a bias (b, H or 1, n, n) on the logits -> (b, H, n, E), and `total`, `own` and
    `from_cls`, (b, n) each: what is not read of them costs no gradient.
    """
    batch, heads, size, _ = query.shape
    block = max(1, min(heads, MOST_WEIGHTS // (batch * size * size)))
    contexts, totals, own, from_cls = [], [], [], []
    for start in range(0, heads, block):
        end = min(start + block, heads)
        logits = query[:, start:end] @ key[:, start:end].mT  # (b, h, n, n)
        if bias is not None:
            logits = logits + (bias if bias.shape[1] == 1 else bias[:, start:end]).to(logits.dtype)
        weights = _softmax(logits)
        contexts.append(weights.to(value.dtype) @ value[:, start:end])
        totals.append(weights.sum((1, 2)))  # (b, n) each
        own.append(weights.diagonal(dim1=2, dim2=3).sum(1))
        from_cls.append(weights[:, :, 0].sum(1))
    return joined(contexts, dim=1), [sum(each[1:], each[0]) / heads for each in (totals, own, from_cls)]


def received_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    segments: Segments,
    scale: float,
    term: Callable[[Tensor], Tensor] | None = None,
    positions: Tensor | None = None,
) -> tuple[Tensor, Received]:
    """`packed_attention` and all that each token received, in float32 or better. Differentiable in everything.

    Args:
        query, key, value, segments, scale: see packed_attention.
        term, positions: for each pair of tokens, see pairwise_attention.
    """
    groups = list(_groups(segments, heads=query.shape[1]))
    contexts, parts, begin = [], [], 0
    for (count, size), q, k, v in zip(groups, *(_sequences(x, groups) for x in (query, key, value)), strict=True):
        bias = None
        if term is not None and positions is not None:
            at = positions[0, begin : begin + count * size].view(count, size)
            bias = term(at[:, None, :] - at[:, :, None])  # (b, H or 1, n, n)
        context, part = _attend(q * scale, k, v, bias=bias)  # q, k, v: (b, H, n, E)
        contexts.append(context.transpose(1, 2).flatten(0, 1))  # (t, H, E)
        parts.append([each.flatten() for each in part])  # (t,) each
        begin += count * size
    total, own, from_cls = map(joined, zip(*parts, strict=True))
    return joined(contexts).transpose(0, 1)[None], Received(total=total, own=own, from_cls=from_cls)


def received_from_cls(query: Tensor, key: Tensor, *, segments: Segments, scale: float) -> Received:
    """Attention from [CLS] to each token of its sequence; arguments as for `received_attention`."""
    first = query.index_select(2, segments.first) * scale  # (1, H, B, E)
    of_cls = torch.split(first[0], [count for count, _ in segments.runs], dim=1)
    found = []
    for cls, keys in zip(of_cls, _sequences(key, segments.runs), strict=True):  # (H, b, E), (b, H, n, E)
        found.append(_softmax(keys @ cls.transpose(0, 1)[..., None], dim=2).mean(1).flatten())  # (t,)
    return Received(from_cls=joined(found))
