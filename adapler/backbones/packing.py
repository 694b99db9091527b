"""Packing: a padded batch as one row of real tokens, and back; a CPU's work on a row a thousand tokens at a time, so
that intermediate results stay in its cache; and the dtypes of a layer.

Dimensions: B sequences, N padded length, T = sum of true lengths, t tokens of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from adapler.errors import ArgumentError

HALF = (torch.bfloat16, torch.float16)
# Tokens of a piece: without pieces a batch of long texts takes 6 to 18 % longer.
ROWS = 1024
# In half precision a CPU's matrix products are compiled for every new number of rows (.6 to .9 MB each), so they are
# multiples of this.
GRAIN = 16


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
