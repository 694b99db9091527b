"""Soft removal: tokens fade by a bias on their attention logits, and leave the packed row when they have faded.

Dimensions: B batch, N padded length of the input, T packed tokens that are still there, L layers, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.packing import Segments, segment_log_softmax, segment_sum
from adapler.model.contribution import MASKED, retention, soft_removal, threshold
from adapler.model.outputs import AdapLeROutput
from adapler.model.passes.packed import embedded
from adapler.model.predictors.row import PackedRow, exact_dtype

# exp(-15) of an attention weight: a token below this presence cannot matter any more in soft mode.
GONE = -15.0
# Tokens that have faded leave the row only when at least a fiftieth of it has: the copy is not free.
WORTH_GATHERING = 0.98


class _Presence:
    """How much of each token of a packed row is there, as a logarithm (T,), and how thresholds make it fade.

    Args:
        tokens: (T,) any tensor of the row, for its size and device.
        dtype: number format of the presence.
        removal: soft removal, (scores, thresholds) -> what is added to the logarithm.
    """

    def __init__(self, tokens: Tensor, *, dtype: torch.dtype, removal: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.log = torch.zeros_like(tokens, dtype=dtype)  # (T,); 0 for [CLS] always
        self.lengths: list[Tensor] = []  # (B,) of each layer, after its own removal
        self._removal = removal

    def scores(self, logits: Tensor, segments: Segments, *, factor: Tensor | None) -> Tensor:
        """(T,) logarithm of the contribution scores: softmax times presence, renormalised.

        Args:
            logits: (T,) what a predictor says.
            segments: of the row.
            factor: scalar on [CLS]'s score, or None.
        """
        logits = logits + self.log
        if factor is not None:
            logits = logits.index_add(0, segments.first, factor.log().to(logits.dtype).expand(len(segments.first)))
        return segment_log_softmax(logits, segments)

    def fade(self, log_scores: Tensor, segments: Segments, *, eta: Tensor, is_cls: Tensor) -> Tensor:
        """Let the tokens fade by a layer's scores; gives the thresholds that they had, (T,).

        Args:
            log_scores: (T,) of `scores`.
            segments: of the row.
            eta: scalar, the layer's threshold factor, scaled.
            is_cls: (T,) bool.
        """
        present = segment_sum(self.log.exp(), segments)  # (B,) soft length that CP_l sees; [CLS] counts 1
        delta = threshold(eta, present)[segments.owner]  # (T,)
        faded = self._removal(log_scores.exp(), delta)
        self.log = (self.log + faded.masked_fill(is_cls, 0.0)).clamp(min=MASKED)  # now with layer l's own mask
        self.lengths.append(segment_sum(self.log.exp(), segments))
        return delta

    def stay(self, segments: Segments) -> None:
        """A layer before which nothing fades."""
        self.lengths.append(segment_sum(self.log.exp(), segments))

    def select(self, index: Tensor) -> None:
        """Leave only the tokens at `index`."""
        self.log = self.log[index]


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
    first_layer: int = 0,
    local_losses: bool = False,
) -> AdapLeROutput:
    """Tokens fade by an accumulating bias on their attention logits, differentiable in scores and thresholds.

    Real tokens are one packed row, so padding costs nothing. Scores are softmax(predictor + log presence), which is the
    softmax times the presence, renormalised, kept in logarithms. Tokens whose presence has fallen below exp(-15) are
    physically removed from the row, each sequence by itself. The last layer runs for [CLS] only.

    With `local_losses` the logits have the same gradient, but that of `log_scores` ends in the predictor of its own
    layer, and that of `lengths` in the thresholds and the probe: a predictor's logits are constants for it. Then one
    backward pass of a sum of losses trains each group by its own ones; see AdapLeRTrainer.

    Args:
        backbone, predictors, eta, input_ids, mask, positions, token_type_ids, scale: see hard_pass.
        beta, slope, gradient_slope: see soft_removal.
        probe: (L,) factors on the score of [CLS], or None.
        first_layer: the first before which tokens fade; the layers before it only score them.
        local_losses: see above.

    Raises:
        ArgumentError: a row without a real token.
    """
    batch = embedded(backbone, input_ids=input_ids, mask=mask, positions=positions, token_type_ids=token_type_ids)
    segments, place, positions, hidden = batch.segments, batch.place, batch.positions, batch.hidden
    exact = exact_dtype(hidden)
    removal = partial(soft_removal, slope=slope, beta=beta, gradient_slope=gradient_slope)
    presence = _Presence(place, dtype=exact, removal=removal)
    counted = _Presence(place, dtype=exact, removal=removal) if local_losses else presence  # what the lengths count
    kept = torch.ones_like(place, dtype=torch.bool)  # (T,)
    all_scores, all_presence, all_kept = [], [], []
    for index in range(len(eta)):
        is_cls = torch.zeros_like(kept).index_fill(0, segments.first, True)
        factor = None if probe is None else probe[index]
        before = presence.log
        logits = predictors[index](hidden[0], PackedRow(segments, place, before.exp()))  # (T,)
        log_scores = learned = presence.scores(logits, segments, factor=factor)
        if local_losses:
            row = PackedRow(segments, place, before.detach().exp())
            learned = segment_log_softmax(predictors[index](hidden[0].detach(), row) + before.detach(), segments)
        if index < first_layer:
            for one in {presence, counted}:
                one.stay(segments)
        else:
            if local_losses:
                constant = counted.scores(logits.detach(), segments, factor=factor)
                counted.fade(constant, segments, eta=scale * eta[index], is_cls=is_cls)
            delta = presence.fade(log_scores, segments, eta=scale * eta[index], is_cls=is_cls)
            kept = kept & retention(log_scores.exp(), delta, is_cls=is_cls)
        all_scores.append(_spread(learned, place, like=mask, fill=MASKED))
        all_presence.append(_spread(before, place, like=mask, fill=MASKED))
        all_kept.append(_spread(kept, place, like=mask, fill=False))

        alive = ((presence.log > GONE) | is_cls).nonzero()[:, 0]  # (T',)
        if len(alive) <= WORTH_GATHERING * len(place):
            segments = segments.select(alive)
            hidden, positions = hidden.index_select(1, alive), positions[:, alive]
            place, kept = place[alive], kept[alive]
            for one in {presence, counted}:
                one.select(alive)
        run = families.run_last_layer if index == len(eta) - 1 else partial(families.run_layer, index=index)
        hidden = run(
            backbone, hidden=hidden, positions=positions, segments=segments, key_bias=presence.log[None]
        )  # (1, T, D); (1, B, D) in the last
    return AdapLeROutput(
        logits=families.head(backbone, hidden[0]),
        lengths=torch.stack(counted.lengths, dim=1),
        contribution_scores=torch.stack(all_scores, dim=1).exp(),
        retention_mask=torch.stack(all_kept, dim=1),
        log_scores=torch.stack(all_scores, dim=1),
        log_presence=torch.stack(all_presence, dim=1),
        head_states=hidden[0],
    )


def _spread(values: Tensor, place: Tensor, *, like: Tensor, fill: float) -> Tensor:
    """(T,) packed values back to the places that they have in the padded input, (B, N); `fill` elsewhere."""
    return values.new_full((like.numel(),), fill).index_copy(0, place, values).view(like.shape)
