"""What a Contribution Predictor may see of a packed row beside the tokens' states.

Dimensions: B sequences, T tokens of the row, K distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapler.backbones.packing import Segments, segment_sum
from adapler.backbones.pieces import pieces

# Sequences are this far apart when places are compared: no batch has so many cells.
_APART = 1 << 32


def exact_dtype(values: Tensor) -> torch.dtype:
    """The precision that predictors compute in: float32, or the values' own if that is better."""
    return torch.promote_types(values.dtype, torch.float32)


@dataclass(frozen=True, eq=False)
class PackedRow:
    """The tokens that are present when a layer's predictor runs.

    Attributes:
        segments: where the sequences begin and end.
        place: (T,) long, where each token stood in the padded input, counted over the whole batch. In a sequence
            these grow, and their differences are distances in the input, whatever was dropped in between.
        presence: (T,) weight of each token in soft removal, above 0 and at most 1, 1 for [CLS]. None: all tokens are
            there in full, as in hard removal.
    """

    segments: Segments
    place: Tensor
    presence: Tensor | None = None
    _found: dict[tuple[int, ...], Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of_one_text(cls, states: Tensor) -> PackedRow:
        """The row of a single text with all of its tokens, whose states are (T, D)."""
        place = torch.arange(len(states), device=states.device)
        return cls(Segments(torch.full_like(place[:1], states.shape[0])), place)

    def select(self, kept: Tensor, segments: Segments) -> PackedRow:
        """The row of the tokens at `kept`, (n,) long, which lie in `segments`; it knows the same neighbours."""
        presence = None if self.presence is None else self.presence.index_select(0, kept)
        row = PackedRow(segments, self.place.index_select(0, kept), presence)
        if self._found:
            left = kept.shape[0]
            number = kept.new_full((self.place.shape[0] + 1,), left)  # of each token in the new row; of none: n
            number.index_copy_(0, kept, torch.arange(left, device=kept.device))
            for distances, found in self._found.items():
                row._found[distances] = number[found.index_select(0, kept)]  # (n, K); MPS has no take
        return row

    def weighted(self, values: Tensor) -> Tensor:
        """(T, ...) values times each token's presence."""
        if self.presence is None:
            return values
        return values * self.presence.to(values.dtype).view(-1, *(1,) * (values.dim() - 1))

    def means(self, values: Tensor) -> Means:
        """Takes the means of values like these, (T, W), over each sequence, from pieces of them."""
        return Means(self, like=values)

    def neighbours(self, distances: Sequence[int]) -> Tensor:
        """Which token stood so many places further on in the same sequence of the input.

        A token at distance d of another is at most d tokens from it in the row, so few need to be looked at.

        Args:
            distances: K places; below 0: before the token.

        Returns:
            (T, K) long, the number of a token of the row; T where there is none, or where it was dropped.
        """
        if tuple(distances) not in self._found:
            self._found[tuple(distances)] = self._search(distances)
        return self._found[tuple(distances)]

    def _search(self, distances: Sequence[int]) -> Tensor:
        count, reach = self.place.shape[0], max(abs(distance) for distance in distances)
        tokens = torch.arange(count, device=self.place.device)
        key = self.place + self.segments.owner * _APART  # (T,) equal differences within a sequence, large ones between
        steps = torch.arange(-reach, reach + 1, device=self.place.device)
        there = (tokens[:, None] + steps).clamp(min=0, max=count - 1)  # (T, 2 reach + 1) the tokens around each one
        # Column `middle + d` is for the token at distance d, and the outermost two for all that are too far.
        middle = reach + 1
        column = (key[there] - key[:, None]).clamp(min=-middle, max=middle) + middle  # (T, 2 reach + 1)
        nobody = torch.ones(count, 2 * middle + 1, dtype=there.dtype, device=there.device) * count
        found = nobody.scatter(1, column, there)  # (T, 2 reach + 3)
        return torch.stack([found[:, middle + distance] for distance in distances], dim=1)


def members(owner: Tensor, sequences: int) -> Tensor:
    """(B, T) bool: which tokens are a sequence's, from (T,) the sequence of each.

    For sums in an exported graph: onnxruntime adds to one place from several threads at a time (its ScatterND with a
    reduction), and some of what they add is lost.
    """
    return owner == torch.arange(sequences, device=owner.device)[:, None]


class Means:
    """The mean over each sequence's tokens, weighted by their presence, of values that come a piece at a time."""

    def __init__(self, row: PackedRow, *, like: Tensor) -> None:
        segments, exact = row.segments, exact_dtype(like)
        self._total = like.new_zeros(segments.lengths.shape[0], like.shape[1], dtype=exact)  # (B, W)
        self._owners = iter(pieces(segments.owner))
        self._presences = None if row.presence is None else iter(pieces(row.presence))
        self._count = segments.lengths if row.presence is None else segment_sum(row.presence, segments)  # (B,)

    def add(self, values: Tensor) -> None:
        """Take the next of the `pieces` of the values, (t, W)."""
        if self._presences is not None:
            values = values * next(self._presences).to(values.dtype)[:, None]
        owner = next(self._owners)
        if torch.compiler.is_exporting():
            self._total = self._total + members(owner, self._total.shape[0]).to(values.dtype) @ values
        else:
            self._total.index_add_(0, owner, values)

    def mean(self) -> Tensor:
        """(B, W), at least float32, when all pieces are there."""
        return self._total / self._count[:, None]
