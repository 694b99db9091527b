"""Hard removal: real tokens as one packed row, which dropped tokens leave for good.

Dimensions: B batch, N padded length of the input, T packed tokens, L layers, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.packing import Segments, segment_softmax
from adapler.errors import ArgumentError
from adapler.model.contribution import retention, threshold
from adapler.model.outputs import AdapLeROutput
from adapler.model.predictors import PackedRow


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
    fate: Tensor | None = None,
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
        fate: (B, N), 1 for tokens that stay whatever they score, -1 for those that go before layer 0, else 0.
    """
    real = mask.bool()  # (B, N)
    lengths = real.sum(-1)
    if bool((lengths == 0).any()):
        raise ArgumentError(f"attention_mask: row {int((lengths == 0).nonzero()[0])} has no real token")
    batch, width = input_ids.shape
    layers, flat = len(eta), batch * width
    place = real.flatten().nonzero()[:, 0]  # (T,) position of each packed token in the padded batch
    segments = Segments(lengths, owners=place // width, bound=width)
    sequence = torch.arange(batch, device=mask.device)  # (B,) the row of the batch that each segment is
    segments, sequence, moved = _grouped(segments, sequence)
    place = place if moved is None else place[moved]
    hidden = families.embed(
        backbone,
        input_ids.flatten()[place][None],
        positions=positions.expand_as(input_ids).flatten()[place][None],
        token_type_ids=None if token_type_ids is None else token_type_ids.flatten()[place][None],
    )  # (1, T, D)

    exact = torch.promote_types(hidden.dtype, torch.float32)  # the predictors' precision
    all_scores, all_read, all_entered, all_lengths, all_sequences = [], [], [], [], []
    for index in range(layers):
        if remove:
            score = segment_softmax(predictors[index](hidden[0], PackedRow(segments, place)), segments)  # (T,)
            all_scores.append(score)
            all_read.append(place + index * flat)
            forced = None if fate is None else fate.flatten()[place]  # (T,)
            kept = _kept(score, eta[index].to(exact), segments, scale=scale, fate=forced)
            if kept is not None:
                segments, sequence, moved = _grouped(segments.select(kept), sequence)
                kept = kept if moved is None else kept[moved]  # (n,)
                hidden, place = hidden.index_select(1, kept), place[kept]
        all_entered.append(place + index * flat)
        all_lengths.append(segments.lengths)
        all_sequences.append(sequence)
        run = families.run_last_layer if index == layers - 1 else partial(families.run_layer, index=index)
        at = positions.expand_as(input_ids).flatten()[place][None]  # (1, T)
        hidden = run(backbone, hidden=hidden, positions=at, segments=segments)  # (1, T, D); (1, B, D) in the last
    logits = families.head(backbone, hidden[0])  # (B, C), in the order of the segments
    scores = None
    if remove:
        scores = torch.zeros(layers * flat, dtype=exact, device=mask.device)
        scores = scores.index_copy(0, torch.cat(all_read), torch.cat(all_scores))
    entered = torch.zeros(layers * flat, dtype=torch.bool, device=mask.device)
    entered[torch.cat(all_entered)] = True
    return AdapLeROutput(
        logits=logits[sequence.argsort()],
        lengths=lengths.new_zeros(layers, batch).scatter(1, torch.stack(all_sequences), torch.stack(all_lengths)).T,
        contribution_scores=None if scores is None else scores.view(layers, batch, width).transpose(0, 1),
        retention_mask=entered.view(layers, batch, width).transpose(0, 1),
    )


def _kept(score: Tensor, eta: Tensor, segments: Segments, *, scale: float, fate: Tensor | None = None) -> Tensor | None:
    """(n,) positions of the tokens of a packed row that stay; None when all do. On a GPU the layer's only wait."""
    if scale == 0 and fate is None:  # no score is below a threshold of 0
        return None
    delta = threshold(eta, segments.lengths, scale=scale)[segments.owner]  # (T,)
    is_cls = torch.zeros_like(score, dtype=torch.bool).index_fill_(0, segments.first, True)
    stays = retention(score, delta, is_cls=is_cls)
    if fate is not None:
        stays = (stays & (fate >= 0)) | (fate > 0) | is_cls
    kept = stays.nonzero()[:, 0]
    return kept if len(kept) < len(score) else None


def _grouped(segments: Segments, sequence: Tensor) -> tuple[Segments, Tensor, Tensor | None]:
    """The segments with equally long ones as neighbours, where that saves attention calls (on a CPU).

    Returns:
        The segments; (B,) the batch's row of each; (T,) where each token was before, None where nothing has moved.
    """
    if segments.lengths.is_cuda or len(segments.runs) == len(set(segments.sizes)):
        return segments, sequence, None
    grouped, order, moved = segments.by_length()
    return grouped, sequence[order], moved
