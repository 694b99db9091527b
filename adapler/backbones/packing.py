"""Packing: a padded batch as one row of real tokens, and back.

Dimensions: B sequences, N padded length, T = sum of true lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import pad

from adapler.backbones.pieces import computes_in_pieces, joined
from adapler.errors import ArgumentError


@dataclass(frozen=True)
class Segments:
    """Boundaries of the sequences in a packed row.

    Attributes:
        lengths: (B,) long, each at least 1.
        owners: (T,) long, the sequence of each token, where it is known already.
        bound: no sequence is longer; known without waiting for a GPU.
        terms: what the attention adds to each pair of tokens, where layers share it; see pairwise_attention.
    """

    lengths: Tensor
    owners: Tensor | None = None
    bound: int | None = None
    terms: list[tuple[Tensor, Tensor, bool]] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def sizes(self) -> list[int]:
        """The lengths as Python numbers (on a GPU this waits for the device, once)."""
        return [int(n) for n in self.lengths.tolist()]

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(sequences, tokens of each) of every run of neighbours that are equally long."""
        return [(len(list(run)), size) for size, run in groupby(self.sizes)]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sequence (on a GPU this waits for the device, once)."""
        return max(self.sizes)

    @cached_property
    def bounds(self) -> Tensor:
        """(B + 1,) long: sequence b is the tokens bounds[b]:bounds[b + 1]."""
        return pad(self.lengths.cumsum(0), (1, 0))

    @property
    def single(self) -> bool:
        """Whether the row is known to hold a single sequence, which takes fewer operations.

        Not while a graph is exported, which is for any number of sequences.
        """
        return not torch.compiler.is_exporting() and self.lengths.shape[0] == 1

    @cached_property
    def first(self) -> Tensor:
        """(B,) long: position of each sequence's first token, [CLS]."""
        return torch.zeros_like(self.lengths) if self.single else self.bounds[:-1]

    @cached_property
    def owner(self) -> Tensor:
        """(T,) long: the sequence that each token belongs to."""
        if self.owners is not None:
            return self.owners
        return torch.arange(len(self.lengths), device=self.lengths.device).repeat_interleave(self.lengths)

    @cached_property
    def columns(self) -> Tensor:
        """(T,) long: the place of each token in its own sequence."""
        return torch.arange(len(self.owner), device=self.lengths.device) - self.first[self.owner]

    def mask_of(self, width: int) -> Tensor:
        """(B, width) bool: real tokens of a padded form that is wider than needed."""
        return torch.arange(width, device=self.lengths.device) < self.lengths[:, None]

    def select(self, index: Tensor) -> Segments:
        """The segments that are left when only the tokens at `index`, (n,) long, stay, in their order."""
        if self.single:
            owner = self.owner[: index.shape[0]]  # (n,)
            return Segments(torch.full_like(self.lengths, index.shape[0]), owners=owner, bound=self.bound)
        owner = self.owner.index_select(0, index)  # (n,)
        lengths = torch.zeros_like(self.lengths).index_add_(0, owner, torch.ones_like(owner))
        return Segments(lengths, owners=owner, bound=self.bound)

    def spread(self, values: Tensor) -> Tensor:
        """Repeat a value of each sequence, (B, ...), for its tokens: (T, ...). A single sequence keeps (1, ...)."""
        return values if self.single else values.index_select(0, self.owner)

    def by_length(self) -> tuple[Segments, Tensor, Tensor]:
        """The same sequences, longest first, so that equally long ones are neighbours.

        Returns:
            The segments; (B,) the sequence that each of them was before; (T,) the token that each token was before.
        """
        order = self.lengths.argsort(descending=True, stable=True)  # (B,)
        longest_first = Segments(self.lengths[order], bound=self.bound)
        moved = order[longest_first.owner]  # (T,) each token's sequence before
        return longest_first, order, self.first[moved] + longest_first.columns


def real_lengths(real: Tensor) -> Tensor:
    """(B,) the number of real tokens of each row, from (B, N) bool.

    Raises:
        ArgumentError: a row without one; says which.
    """
    lengths = real.sum(-1)
    if bool((lengths == 0).any()):
        raise ArgumentError(f"attention_mask: row {int((lengths == 0).nonzero()[0])} has no real token")
    return lengths


def to_padded(packed: Tensor, segments: Segments, *, width: int | None = None) -> Tensor:
    """(T, ...) -> (B, width, ...), zeros at padding. No sequence may be longer than width; default: the longest."""
    width = segments.longest if width is None else width
    padded = packed.new_zeros(len(segments.lengths) * width, *packed.shape[1:])
    place = segments.owner * width + segments.columns  # (T,)
    return padded.index_copy(0, place, packed).view(len(segments.lengths), width, *packed.shape[1:])


def from_padded(padded: Tensor, segments: Segments) -> Tensor:
    """(B, N, ...) -> (T, ...)."""
    return padded.flatten(0, 1).index_select(0, segments.owner * padded.shape[1] + segments.columns)


def segment_softmax(scores: Tensor, segments: Segments) -> Tensor:
    """Softmax of (T,) scores within each sequence."""
    if computes_in_pieces(scores):  # a call for each run of equally long sequences takes less than eight for all tokens
        if len(segments.runs) == 1:
            return scores.view(segments.runs[0]).softmax(-1).view(-1)
        runs = torch.split(scores, [count * size for count, size in segments.runs])
        parts = [part.view(run).softmax(-1).view(-1) for part, run in zip(runs, segments.runs, strict=True)]
        return joined(parts)
    top = scores.new_full((len(segments.lengths),), float("-inf"))
    top = top.scatter_reduce(0, segments.owner, scores.detach(), "amax")
    weights = (scores - top[segments.owner]).exp()
    total = torch.zeros_like(top).index_add(0, segments.owner, weights)
    return weights / total[segments.owner]


def segment_sum(values: Tensor, segments: Segments) -> Tensor:
    """(T, ...) -> (B, ...): the sum over each sequence."""
    total = values.new_zeros(segments.lengths.shape[0], *values.shape[1:])
    return total.index_add(0, segments.owner, values)


def segment_log_softmax(scores: Tensor, segments: Segments) -> Tensor:
    """Logarithm of the softmax of (T,) scores within each sequence; finite where the softmax itself is 0."""
    top = scores.new_full((len(segments.lengths),), float("-inf"))
    top = top.scatter_reduce(0, segments.owner, scores.detach(), "amax")
    shifted = scores - top[segments.owner]  # (T,)
    return shifted - segment_sum(shifted.exp(), segments).log()[segments.owner]
