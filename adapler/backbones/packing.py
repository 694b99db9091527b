"""Packing: a padded batch as one row of real tokens, and back.

Dimensions: B sequences, N padded length, T = sum of true lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Where the sequences of a packed row begin and end.

    Attributes:
        lengths: (B,) long, each at least 1.
    """

    lengths: Tensor

    @cached_property
    def sizes(self) -> list[int]:
        """The lengths as Python numbers (on a GPU this waits for the device, once)."""
        return [int(n) for n in self.lengths.tolist()]

    @cached_property
    def longest(self) -> int:
        return max(self.sizes)

    @cached_property
    def bounds(self) -> Tensor:
        """(B + 1,) long: sequence b is the tokens bounds[b]:bounds[b + 1]."""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @cached_property
    def first(self) -> Tensor:
        """(B,) long: position of each sequence's first token, [CLS]."""
        return self.bounds[:-1]

    @cached_property
    def owner(self) -> Tensor:
        """(T,) long: the sequence that each token belongs to."""
        index = torch.arange(len(self.lengths), device=self.lengths.device)
        return index.repeat_interleave(self.lengths)

    @cached_property
    def mask(self) -> Tensor:
        """(B, N) bool: real tokens of the padded form."""
        columns = torch.arange(self.longest, device=self.lengths.device)
        return columns < self.lengths[:, None]

    def select(self, keep: Tensor) -> Segments:
        """The segments that are left when only the tokens in `keep` (T,) bool stay."""
        return Segments(torch.zeros_like(self.lengths).index_add_(0, self.owner, keep.long()))


def to_padded(packed: Tensor, segments: Segments) -> Tensor:
    """(T, ...) -> (B, N, ...), zeros at padding."""
    padded = packed.new_zeros(len(segments.sizes), segments.longest, *packed.shape[1:])
    return padded.masked_scatter(segments.mask.view(*segments.mask.shape, *[1] * (packed.dim() - 1)), packed)


def from_padded(padded: Tensor, segments: Segments) -> Tensor:
    """(B, N, ...) -> (T, ...)."""
    return padded[segments.mask]


def segment_softmax(scores: Tensor, segments: Segments) -> Tensor:
    """Softmax of (T,) scores within each sequence."""
    top = scores.new_full((len(segments.lengths),), float("-inf"))
    top = top.scatter_reduce(0, segments.owner, scores.detach(), "amax")
    weights = (scores - top[segments.owner]).exp()
    total = torch.zeros_like(top).index_add(0, segments.owner, weights)
    return weights / total[segments.owner]


def segment_sum(values: Tensor, segments: Segments) -> Tensor:
    """(T,) -> (B,): the sum over each sequence."""
    return values.new_zeros(len(segments.lengths)).index_add(0, segments.owner, values)


def segment_log_softmax(scores: Tensor, segments: Segments) -> Tensor:
    """Logarithm of the softmax of (T,) scores within each sequence; finite where the softmax itself is 0."""
    top = scores.new_full((len(segments.lengths),), float("-inf"))
    top = top.scatter_reduce(0, segments.owner, scores.detach(), "amax")
    shifted = scores - top[segments.owner]  # (T,)
    return shifted - segment_sum(shifted.exp(), segments).log()[segments.owner]
