"""A padded batch as the packed row that soft removal, gates and the plain pass start from.

Dimensions: B batch, N padded length of the input, T packed tokens, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.packing import Segments, real_lengths


@dataclass(frozen=True, eq=False)
class Embedded:
    """The real tokens of a batch, one sequence after the other, as the first layer gets them.

    Attributes:
        segments: where the sequences begin and end.
        place: (T,) where each token stood in the padded batch, counted over all of it.
        positions: (1, T) its position in the input.
        hidden: (1, T, D) its embedding.
    """

    segments: Segments
    place: Tensor
    positions: Tensor
    hidden: Tensor


def embedded(
    backbone: PreTrainedModel, *, input_ids: Tensor, mask: Tensor, positions: Tensor, token_type_ids: Tensor | None
) -> Embedded:
    """Pack a batch and embed its tokens.

    Args:
        backbone, input_ids, mask, token_type_ids: see hard_pass.
        positions: (B, N) or (1, N) position of each token.

    Raises:
        ArgumentError: a row without a real token.
    """
    real, width = mask.bool(), input_ids.shape[1]  # (B, N)
    lengths = real_lengths(real)
    place = real.flatten().nonzero()[:, 0]  # (T,)
    packed_positions = positions.expand_as(input_ids).flatten()[place][None]  # (1, T)
    hidden = families.embed(
        backbone,
        input_ids[real][None],
        positions=packed_positions,
        token_type_ids=None if token_type_ids is None else token_type_ids[real][None],
    )  # (1, T, D)
    return Embedded(Segments(lengths, owners=place // width, bound=width), place, packed_positions, hidden)
