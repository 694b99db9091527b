"""What a Contribution Predictor may see of a packed row beside the tokens' states.

Dimensions: B sequences, T tokens of the row, K distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapler.backbones.packing import Segments, segment_sum

# Sequences are this far apart when places are compared: no batch has so many cells.
_APART = 1 << 32


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

    @classmethod
    def of_one_text(cls, states: Tensor) -> PackedRow:
        """The row of a single text with all of its tokens, whose states are (T, D)."""
        place = torch.arange(len(states), device=states.device)
        return cls(Segments(torch.full_like(place[:1], states.shape[0])), place)

    def weighted(self, values: Tensor) -> Tensor:
        """(T, ...) values times each token's presence."""
        if self.presence is None:
            return values
        return values * self.presence.to(values.dtype).view(-1, *(1,) * (values.dim() - 1))

    def mean(self, values: Tensor) -> Tensor:
        """(T, W) -> (B, W): the mean over the present tokens of each sequence, each weighted by its presence."""
        total = segment_sum(self.weighted(values), self.segments)  # (B, W)
        lengths = self.segments.lengths if self.presence is None else segment_sum(self.presence, self.segments)
        return total / lengths.to(values.dtype)[:, None]

    def neighbours(self, distances: Sequence[int]) -> Tensor:
        """Which token stood so many places further on in the same sequence of the input.

        A token at distance d of another is at most d tokens from it in the row, so few need to be looked at.

        Args:
            distances: K places; below 0: before the token.

        Returns:
            (T, K) long, the number of a token of the row; T where there is none, or where it was dropped.
        """
        count = self.place.shape[0]
        tokens = torch.arange(count, device=self.place.device)
        key = self.place + self.segments.owner * _APART  # (T,) equal differences within a sequence, large ones between
        found = []
        for distance in distances:
            index = torch.full_like(tokens, 1) * count
            for step in range(1, abs(distance) + 1):
                there = (tokens + (step if distance > 0 else -step)).clamp(min=0, max=count - 1)
                index = torch.where(key[there] - key == distance, there, index)
            found.append(index)
        return torch.stack(found, dim=1)
