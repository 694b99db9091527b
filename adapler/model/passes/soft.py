"""Soft removal: tokens fade by a bias on their attention logits, and leave the packed row when they have faded.

Dimensions: B batch, N padded length of the input, T packed tokens that are still there, L layers, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.packing import Segments, real_lengths, segment_log_softmax, segment_sum
from adapler.model.contribution import MASKED, retention, soft_removal, threshold
from adapler.model.outputs import AdapLeROutput
from adapler.model.predictors import PackedRow

# exp(-15) of an attention weight: a token below this presence cannot matter any more in soft mode.
GONE = -15.0
# Tokens that have faded leave the row only when at least a fiftieth of it has: the copy is not free.
WORTH_GATHERING = 0.98


def soft_pass(
    backbone: PreTrainedModel,
    predictors: Sequence[nn.Module],
    eta: Tensor,
    *,
    input_ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    token_type_ids: Tensor | None,
    scale: float,
    beta: float,
    slope: float,
    gradient_slope: float,
    probe: Tensor | None,
) -> AdapLeROutput:
    """Tokens fade by an accumulating bias on their attention logits, differentiable in scores and thresholds.

    Real tokens are one packed row, so padding costs nothing. Scores are softmax(predictor + log presence), which is the
    softmax times the presence, renormalised, kept in logarithms. Tokens whose presence has fallen below exp(-15) are
    physically removed from the row, each sequence by itself. The last layer runs for [CLS] only.

    Args:
        backbone, predictors, eta, input_ids, mask, positions, token_type_ids, scale: see hard_pass.
        beta, slope, gradient_slope: see soft_removal.
        probe: (L,) factors on the score of [CLS], or None.

    Raises:
        ArgumentError: a row without a real token.
    """
    real = mask.bool()  # (B, N)
    lengths = real_lengths(real)
    width = input_ids.shape[1]
    place = real.flatten().nonzero()[:, 0]  # (T,) position of each packed token in the padded batch
    segments = Segments(lengths, owners=place // width, bound=width)
    positions = positions.expand_as(input_ids).flatten()[place][None]  # (1, T)
    hidden = families.embed(
        backbone,
        input_ids[real][None],
        positions=positions,
        token_type_ids=None if token_type_ids is None else token_type_ids[real][None],
    )  # (1, T, D)
    exact = torch.promote_types(hidden.dtype, torch.float32)
    presence = torch.zeros_like(place, dtype=exact)  # (T,) logarithm; 0 for [CLS] always
    kept = torch.ones_like(place, dtype=torch.bool)  # (T,)
    all_scores, all_presence, all_lengths, all_kept = [], [], [], []
    for index in range(len(eta)):
        is_cls = torch.zeros_like(kept).index_fill(0, segments.first, True)
        seen = PackedRow(segments, place, presence.exp())
        logits = predictors[index](hidden[0], seen) + presence  # (T,)
        if probe is not None:
            logits = logits.index_add(0, segments.first, probe[index].log().to(exact).expand(len(segments.first)))
        log_scores = segment_log_softmax(logits, segments)
        scores = log_scores.exp()
        present = segment_sum(presence.exp(), segments)  # (B,) soft length that CP_l sees; [CLS] counts 1
        delta = threshold(eta[index], present, scale=scale)[segments.owner]  # (T,)
        kept = kept & retention(scores, delta, is_cls=is_cls)
        all_scores.append(_spread(log_scores, place, like=mask, fill=MASKED))
        all_presence.append(_spread(presence, place, like=mask, fill=MASKED))
        all_kept.append(_spread(kept, place, like=mask, fill=False))

        faded = soft_removal(scores, delta, slope=slope, beta=beta, gradient_slope=gradient_slope)
        presence = (presence + faded.masked_fill(is_cls, 0.0)).clamp(min=MASKED)  # (T,) now with layer l's own mask
        all_lengths.append(segment_sum(presence.exp(), segments))
        alive = ((presence > GONE) | is_cls).nonzero()[:, 0]  # (T',)
        if len(alive) <= WORTH_GATHERING * len(place):
            segments = segments.select(alive)
            hidden, positions = hidden.index_select(1, alive), positions[:, alive]
            presence, place, kept = presence[alive], place[alive], kept[alive]
        run = families.run_last_layer if index == len(eta) - 1 else partial(families.run_layer, index=index)
        hidden = run(
            backbone, hidden=hidden, positions=positions, segments=segments, key_bias=presence[None]
        )  # (1, T, D); (1, B, D) in the last
    return AdapLeROutput(
        logits=families.head(backbone, hidden[0]),
        lengths=torch.stack(all_lengths, dim=1),
        contribution_scores=torch.stack(all_scores, dim=1).exp(),
        retention_mask=torch.stack(all_kept, dim=1),
        log_scores=torch.stack(all_scores, dim=1),
        log_presence=torch.stack(all_presence, dim=1),
        head_states=hidden[0],
    )


def _spread(values: Tensor, place: Tensor, *, like: Tensor, fill: float) -> Tensor:
    """(T,) packed values back to the places that they have in the padded input, (B, N); `fill` elsewhere."""
    return values.new_full((like.numel(),), fill).index_copy(0, place, values).view(like.shape)
