"""Attention that is looked at: what the heads give, and how much attention each token received.

Fused kernels never hold the attention weights, so here they are computed explicitly, which is slower.

Dimensions: B sequences, H heads, T packed tokens, n tokens of one sequence, E head size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapler.backbones.packing import Segments

# Attention weights that are held at once where no gradient is asked for (64 MB in float32).
MOST_WEIGHTS = 1 << 24


@dataclass(frozen=True)
class Received:
    """Attention weights of a layer, the mean of its heads. They depend on a sequence's own tokens only.

    Attributes:
        total: (T,) the sum over all queries of the token's sequence; sums to n in each sequence.
        own: (T,) what a token gives to itself.
        from_cls: (T,) what [CLS] gives; sums to 1 in each sequence.
    """

    total: Tensor
    own: Tensor
    from_cls: Tensor


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
    """`packed_attention`, and what each token received. Differentiable in everything.

    Args:
        query, key, value: (1, H, T, E).
        segments: where the sequences begin and end.
        scale: factor on q . k.
        term: for each pair of tokens, see `positional.pairwise`; needs positions.
        positions: (1, T), the tokens' positions in the input.

    Returns:
        (1, H, T, E), and the attention received, in float32 or better.
    """
    contexts, parts, begin = [], [], 0
    for count, size in _groups(segments, heads=query.shape[1]):
        end = begin + count * size
        q, k, v = (
            torch.unflatten(x[0, :, begin:end], 1, (count, size)).transpose(0, 1) for x in (query, key, value)
        )  # (b, H, n, E)
        logits = (q * scale) @ k.mT  # (b, H, n, n)
        if term is not None and positions is not None:
            at = positions[0, begin:end].view(count, size)
            logits = logits + term(at[:, None, :] - at[:, :, None]).to(logits.dtype)
        weights = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
        contexts.append((weights.to(v.dtype) @ v).transpose(1, 2).flatten(0, 1))  # (t, H, E)
        mean = weights.mean(1)  # (b, n, n)
        parts.append(
            torch.stack([mean.sum(1), mean.diagonal(dim1=1, dim2=2), mean[:, 0]], dim=-1).flatten(0, 1)
        )  # (t, 3)
        begin = end
    total, own, from_cls = torch.cat(parts).unbind(-1)
    return torch.cat(contexts).transpose(0, 1)[None], Received(total, own, from_cls)


def _groups(segments: Segments, *, heads: int) -> list[tuple[int, int]]:
    """(sequences, tokens of each) of neighbours that are equally long, few enough for MOST_WEIGHTS."""
    found = []
    for count, size in segments.runs:
        most = max(1, MOST_WEIGHTS // (heads * size * size))
        found += [(min(most, count - start), size) for start in range(0, count, most)]
    return found
