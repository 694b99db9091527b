"""Soft removal: tokens fade by a bias on their attention logits, and leave the batch when they have faded.

Dimensions: B batch, N padded length of the input, n tokens of a row that are still there, L layers, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.errors import ArgumentError
from adapler.model.contribution import MASKED, retention, soft_removal, threshold
from adapler.model.outputs import AdapLeROutput

# exp(-15) of an attention weight: a token below this presence cannot matter any more in soft mode.
GONE = -15.0
# Soft mode gathers the tokens that are left only when it saves at least a tenth: the copy is not free.
WORTH_GATHERING = 0.9


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

    Scores are softmax(predictor + log presence), which is the softmax times the presence, renormalised, kept in
    logarithms. Tokens whose presence has fallen below exp(-15) are physically removed from the batch.

    Args:
        backbone, predictors, eta, input_ids, mask, positions, token_type_ids, scale: see hard_pass.
        beta, slope, gradient_slope: see soft_removal.
        probe: (L,) factors on the score of [CLS], or None.

    Raises:
        ArgumentError: a row that does not begin with a real token.
    """
    if not bool(mask[:, 0].all()):
        raise ArgumentError("attention_mask: soft removal needs [CLS] in the first column (padding on the right)")
    batch, width = input_ids.shape
    hidden = families.embed(
        backbone,
        input_ids,
        positions=positions,
        token_type_ids=token_type_ids,
    )  # (B, N, D)
    place = torch.arange(width, device=mask.device).expand(batch, width)  # (B, n) column of each token in the input
    exact = torch.promote_types(hidden.dtype, torch.float32)
    presence = torch.where(mask.bool(), 0.0, MASKED).to(exact)  # (B, n) logarithm; 0 for [CLS] always
    kept = mask.bool()
    all_scores, all_presence, all_lengths, all_kept = [], [], [], []
    for index in range(len(eta)):
        logits = predictors[index](hidden) + presence  # (B, n)
        if probe is not None:
            logits = torch.cat([logits[:, :1] + probe[index].log(), logits[:, 1:]], dim=1)
        log_scores = logits.log_softmax(-1)
        scores = log_scores.exp()
        present = 1 + presence[:, 1:].exp().sum(-1, keepdim=True)  # (B, 1) soft length that CP_l sees
        delta = threshold(eta[index], present, scale=scale)
        is_cls = torch.zeros_like(kept)
        is_cls[:, 0] = True
        kept = kept & retention(scores, delta, is_cls=is_cls)
        all_scores.append(_spread(log_scores, place, width=width))
        all_presence.append(_spread(presence, place, width=width))
        all_kept.append(torch.zeros_like(mask, dtype=torch.bool).scatter(1, place, kept))

        faded = soft_removal(scores, delta, slope=slope, beta=beta, gradient_slope=gradient_slope)
        faded = faded.masked_fill(is_cls, 0.0)
        presence = (presence + faded).clamp(min=MASKED)  # (B, n) now with layer l's own mask
        all_lengths.append(1 + presence[:, 1:].exp().sum(-1))
        alive = (presence > GONE) | is_cls
        most = int(alive.sum(-1).max())
        if most <= WORTH_GATHERING * alive.shape[1]:
            # Living tokens first, in order; shorter rows fill up with faded ones, which stay faded.
            order = (~alive).to(torch.int8).argsort(dim=1, stable=True)[:, :most].sort(dim=1).values  # (B, most)
            hidden = hidden.gather(1, order[..., None].expand(-1, -1, hidden.shape[-1]))  # (B, most, D)
            presence, place, kept, positions = (x.gather(1, order) for x in (presence, place, kept, positions))
        if index == len(eta) - 1:
            hidden = families.run_last_layer(backbone, hidden, positions=positions, key_bias=presence)  # (1, B, D)
        else:
            hidden = families.run_layer(backbone, index, hidden, positions=positions, key_bias=presence)  # (B, n, D)
    return AdapLeROutput(
        logits=families.head(backbone, hidden[0]),
        lengths=torch.stack(all_lengths, dim=1),
        contribution_scores=torch.stack(all_scores, dim=1).exp(),
        retention_mask=torch.stack(all_kept, dim=1),
        log_scores=torch.stack(all_scores, dim=1),
        log_presence=torch.stack(all_presence, dim=1),
    )


def _spread(values: Tensor, place: Tensor, *, width: int) -> Tensor:
    """(B, n) back to the input's columns, (B, N); removed tokens get the masked value."""
    return values.new_full((len(values), width), MASKED).scatter(1, place, values)
