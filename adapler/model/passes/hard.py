"""Hard removal: real tokens as one packed row, which dropped tokens leave for good.

Dimensions: B batch, N padded length of the input, T packed tokens, L layers, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.packing import Segments, segment_softmax
from adapler.errors import ArgumentError
from adapler.model.contribution import retention, threshold
from adapler.model.outputs import AdapLeROutput


def hard_pass(
    backbone: PreTrainedModel,
    predictors: Sequence[nn.Module],
    eta: Tensor,
    *,
    input_ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    token_type_ids: Tensor | None,
    scale: float,
    remove: bool,
) -> AdapLeROutput:
    """Real tokens as one packed row; dropped tokens leave it for good. See AdapLeRForSequenceClassification.forward.

    Nothing in it depends on padding or on the other sequences of the batch. On a GPU the sums of `segment_softmax`
    have no fixed order, so a score that lies on its threshold to the last bit may fall either way from run to run.

    Args:
        backbone: the plain classifier.
        predictors: a Contribution Predictor a layer.
        eta: (L,) threshold factors.
        input_ids, mask: (B, N) ids, and 1 for real tokens.
        positions: (B, N) position of each token.
        token_type_ids: (B, N), for backbones that have them.
        scale: factor on eta.
        remove: False runs all layers on all tokens, without predictors.
    """
    real = mask.bool()  # (B, N)
    lengths = real.sum(-1)
    if bool((lengths == 0).any()):
        raise ArgumentError(f"attention_mask: row {int((lengths == 0).nonzero()[0])} has no real token")
    batch, width = input_ids.shape
    segments = Segments(lengths)
    place = real.flatten().nonzero()[:, 0]  # (T,) position of each packed token in the padded batch
    positions = positions[real][None]  # (1, T)
    hidden = families.embed(
        backbone,
        input_ids[real][None],
        positions=positions,
        token_type_ids=None if token_type_ids is None else token_type_ids[real][None],
    )  # (1, T, D)

    exact = torch.promote_types(hidden.dtype, torch.float32)  # the predictors' precision
    scores = hidden.new_zeros(len(eta), batch * width, dtype=exact)
    entered = torch.zeros_like(scores, dtype=torch.bool)
    all_lengths = []
    for index in range(len(eta)):
        if remove:
            score = segment_softmax(predictors[index](hidden[0]), segments)  # (T,)
            scores[index] = scores[index].index_put((place,), score)
            delta = threshold(eta[index].to(exact), segments.lengths, scale=scale)[segments.owner]  # (T,)
            is_cls = torch.zeros_like(place, dtype=torch.bool).index_fill_(0, segments.first, True)
            keep = retention(score, delta, is_cls=is_cls)  # (T,)
            place, hidden, segments = place[keep], hidden[:, keep], segments.select(keep)
            positions = positions[:, keep]
        entered[index, place] = True
        all_lengths.append(segments.lengths)
        if index == len(eta) - 1:
            hidden = families.run_last_layer(backbone, hidden, positions=positions, segments=segments)  # (1, B, D)
        else:
            hidden = families.run_layer(backbone, index, hidden, positions=positions, segments=segments)  # (1, T, D)
    return AdapLeROutput(
        logits=families.head(backbone, hidden[0]),
        lengths=torch.stack(all_lengths, dim=1),
        contribution_scores=scores.view(-1, batch, width).transpose(0, 1) if remove else None,
        retention_mask=entered.view(-1, batch, width).transpose(0, 1),
    )
