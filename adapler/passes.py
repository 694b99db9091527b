"""The loop over the layers, in four ways: hard removal (inference), AdapLeR's soft removal, gates, and no removal.

Real tokens of a batch are one packed row without padding. Hard removal takes dropped tokens out of it for good; in soft
removal tokens fade by a bias on their attention logits and leave the row when they have faded; gates multiply a token's
weight or state, and all tokens stay.

Dimensions: B batch, N padded length of the input, T packed tokens, L layers, D hidden size, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.backbones import position_ids, view
from adapler.backbones.family import Family
from adapler.backbones.packing import Segments, real_lengths, segment_log_softmax, segment_sum
from adapler.contribution import MASKED, retention, soft_removal, threshold
from adapler.outputs import AdapLeROutput
from adapler.policies import LayerView, Policy, stays
from adapler.predictors import PackedRow, exact_dtype


@dataclass(frozen=True, eq=False)
class Embedded:
    """The real tokens of a batch, one sequence after the other, as the first layer gets them.

    Attributes:
        family: the backbone in view.
        segments: where the sequences begin and end.
        place: (T,) where each token stood in the padded batch, counted over all of it.
        positions: (1, T) its position in the input.
        hidden: (1, T, D) its embedding.
    """

    family: Family
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
    family = view(backbone)
    hidden = family.embed(
        input_ids[real][None],
        positions=packed_positions,
        token_type_ids=None if token_type_ids is None else token_type_ids[real][None],
    )  # (1, T, D)
    return Embedded(family, Segments(lengths, owners=place // width, bound=width), place, packed_positions, hidden)


def plain_pass(
    backbone: PreTrainedModel, *, input_ids: Tensor, mask: Tensor, token_type_ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All layers on all tokens, packed.

    Args:
        backbone: a plain classifier whose attention is that of its family, as in AdapLeRForSequenceClassification.
        input_ids, mask: (B, N) ids, and 1 for real tokens; each row has one at least.
        token_type_ids: (B, N), for backbones that have them.

    Returns:
        Logits (B, C), and the last hidden states that the head reads (B, D): those of [CLS], or their pooled mean.
    """
    positions = position_ids(backbone.config, mask)  # (B, N)
    batch = embedded(backbone, input_ids=input_ids, mask=mask, positions=positions, token_type_ids=token_type_ids)
    family, hidden, at, segments = batch.family, batch.hidden, batch.positions, batch.segments
    for index in range(len(family.layers) - 1):
        hidden = family.layer(index, hidden, positions=at, segments=segments)
    states = family.last_layer(hidden, positions=at, segments=segments)[0]  # (B, D)
    return family.head(states), states


def plain_pass_of(backbone: PreTrainedModel, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """`plain_pass` of a batch as a collator makes it, by its names: input_ids, attention_mask, token_type_ids."""
    return plain_pass(
        backbone,
        input_ids=batch["input_ids"],
        mask=batch["attention_mask"],
        token_type_ids=batch.get("token_type_ids"),
    )


def _grouped(segments: Segments, sequence: Tensor) -> tuple[Segments, Tensor, Tensor | None]:
    """The segments with equally long ones as neighbours, where that saves attention calls (on a CPU).

    Returns:
        The segments; (B,) the batch's row of each; (T,) where each token was before, None where nothing has moved.
    """
    if segments.lengths.is_cuda or len(segments.runs) == len(set(segments.sizes)):
        return segments, sequence, None
    grouped, order, moved = segments.by_length()
    return grouped, sequence[order], moved


class _Row:
    """The packed row of the tokens that are left: where each sequence lies, and where each token stood."""

    def __init__(self, input_ids: Tensor, real: Tensor, lengths: Tensor, *, positions: Tensor) -> None:
        batch, width = input_ids.shape
        place = real.flatten().nonzero()[:, 0]  # (T,) position of each packed token in the padded batch
        segments = Segments(lengths, owners=place // width, bound=width)
        # (B,) the row of the batch that each segment is
        segments, self.sequence, moved = _grouped(segments, torch.arange(batch, device=real.device))
        self.packed = PackedRow(segments, place if moved is None else place[moved])  # what a policy sees
        self.positions = positions.expand_as(input_ids).flatten()[self.place][None]  # (1, T) in the input

    @property
    def segments(self) -> Segments:
        """Where each sequence lies."""
        return self.packed.segments

    @property
    def place(self) -> Tensor:
        """(T,) where each token stood in the padded batch."""
        return self.packed.place

    def select(self, kept: Tensor) -> Tensor:
        """Leave only the tokens at `kept`, (n,); gives them in the order that the row has now."""
        segments, self.sequence, moved = _grouped(self.segments.select(kept), self.sequence)
        kept = kept if moved is None else kept[moved]
        self.packed, self.positions = self.packed.select(kept, segments), self.positions.index_select(1, kept)
        return kept


class _Found:
    """What the layers leave for the output, put in its places once and at the end."""

    def __init__(self, layers: int, *, like: Tensor, dtype: torch.dtype) -> None:
        self.layers, self.shape, self.dtype, self.device = layers, like.shape, dtype, like.device
        self._read: list[Tensor] = []
        self._scores: list[Tensor] = []
        self._bars: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: the sequences, and the bar of each
        self._entered: list[Tensor] = []
        self._lengths: list[Tensor] = []
        self._sequences: list[Tensor] = []

    def enters(self, index: int, row: _Row) -> None:
        """Note the tokens that enter a layer."""
        self._entered.append(row.place + index * self.shape.numel())
        self._lengths.append(row.segments.lengths)
        self._sequences.append(row.sequence)

    def scores(self, index: int, row: _Row, scores: Tensor, bar: Tensor) -> None:
        """Note the scores (T,) that a layer's tokens were judged by, and the bar (B,)."""
        self._read.append(row.place + index * self.shape.numel())
        self._scores.append(scores.to(self.dtype))
        self._bars[index] = (row.sequence, bar.to(self.dtype))

    def _bars_by_row(self, batch: int) -> Tensor:
        """(B, L) the bars; -inf in layers that drop nothing."""
        never = torch.full((batch,), -torch.inf, dtype=self.dtype, device=self.device)
        found = [self._bars.get(index, (self._sequences[index], never)) for index in range(self.layers)]
        sequences, bars = (torch.stack(each).detach() for each in zip(*found, strict=True))  # (L, B) each
        return torch.zeros_like(bars).scatter(1, sequences, bars).T

    def output(self, logits: Tensor, *, removed: bool) -> AdapLeROutput:
        """The output, with logits (B, C) in the batch's order."""
        batch, width = self.shape
        scores: Tensor | None = None
        bars: Tensor | None = None
        if removed:
            scores = logits.new_zeros(self.layers * batch * width, dtype=self.dtype)
            if self._scores:
                scores = scores.index_copy(0, torch.cat(self._read), torch.cat(self._scores))
            scores, bars = scores.view(self.layers, batch, width).transpose(0, 1), self._bars_by_row(batch)
        entered = torch.zeros(self.layers * batch * width, dtype=torch.bool, device=self.device)
        entered[torch.cat(self._entered)] = True
        sequences, lengths = torch.stack(self._sequences), torch.stack(self._lengths)  # (L, B) each
        return AdapLeROutput(
            logits=logits,
            lengths=torch.zeros_like(lengths).scatter(1, sequences, lengths).T,
            contribution_scores=scores,
            retention_mask=entered.view(self.layers, batch, width).transpose(0, 1),
            bars=bars,
        )


def _drop(policy: Policy, view: LayerView, row: _Row, found: _Found, *, scale: float, fate: Tensor | None) -> Tensor:
    """The states of the tokens that stay, (1, n, D); `row` becomes theirs. On a GPU the layer's only wait."""
    scores = policy.score(view)  # (T,)
    bar = scores.new_zeros(len(row.sequence)) if scale == 0 else policy.bar(view, scores, scale=scale)  # (B,)
    found.scores(view.index, row, scores, bar)
    if scale == 0 and fate is None:  # no score is below the bar
        return view.hidden[None]
    # At scale 0 the bar is 0, and some policies' scores are negative.
    kept = torch.ones_like(scores, dtype=torch.bool) if scale == 0 else stays(scores, bar, row=row.packed)
    if fate is not None:
        forced = fate.flatten()[row.place]  # (T,)
        kept = ((kept & (forced >= 0)) | (forced > 0)).index_fill(0, row.segments.first, True)
    chosen = kept.nonzero()[:, 0]
    hidden = view.hidden if len(chosen) == len(kept) else view.hidden.index_select(0, row.select(chosen))  # (n, D)
    return hidden[None]


def hard_pass(
    backbone: PreTrainedModel,
    policy: Policy,
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
        policy: what drops tokens.
        input_ids, mask: (B, N) ids, and 1 for real tokens.
        positions: (B, N) position of each token.
        token_type_ids: (B, N), for backbones that have them.
        scale: factor on the policy's bars.
        remove: False runs all layers on all tokens, without the policy.
        fate: (B, N), 1 for tokens that stay whatever they score, -1 for those that go where the policy first decides,
            else 0.
    """
    real = mask.bool()  # (B, N)
    lengths = real_lengths(real)
    family = view(backbone)
    layers = len(family.layers)
    row = _Row(input_ids, real, lengths, positions=positions)
    hidden = family.embed(
        input_ids.flatten()[row.place][None],
        positions=row.positions,
        token_type_ids=None if token_type_ids is None else token_type_ids.flatten()[row.place][None],
    )  # (1, T, D)
    found = _Found(layers, like=input_ids, dtype=exact_dtype(hidden))

    for index in range(layers):
        decides = remove and policy.decides(index, layers=layers)
        if decides and policy.place == "before":
            hidden = _drop(policy, LayerView(index, hidden[0], row.packed), row, found, scale=scale, fate=fate)
        found.enters(index, row)
        if index == layers - 1:
            hidden = family.last_layer(hidden, positions=row.positions, segments=row.segments)  # (1, B, D)
        elif decides and policy.place == "between":
            states, received = family.attention_half(
                index, hidden, positions=row.positions, segments=row.segments, reads=policy.reads
            )  # (1, T, D)
            states = _drop(
                policy, LayerView(index, states[0], row.packed, received), row, found, scale=scale, fate=fate
            )
            hidden = family.feed_forward_half(index, states)
        else:
            hidden = family.layer(index, hidden, positions=row.positions, segments=row.segments)
    logits = family.head(hidden[0])  # (B, C), in the order of the segments
    return found.output(logits[row.sequence.argsort()], removed=remove)


# exp(-15) of an attention weight: a token below this presence cannot matter any more in soft mode.
GONE = -15.0
# Tokens that have faded leave the row only when at least a fiftieth of it has: the copy is not free.
WORTH_GATHERING = 0.98


class _Presence:
    """How much of each token of a packed row is there, as a logarithm (T,), and how thresholds make it fade.

    Args:
        tokens: (T,) any tensor of the row, for its size and device.
        dtype: dtype of the presence.
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
    family, segments, place, positions = batch.family, batch.segments, batch.place, batch.positions
    hidden = batch.hidden
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
        run = family.last_layer if index == len(eta) - 1 else partial(family.layer, index)
        hidden = run(
            hidden, positions=positions, segments=segments, key_bias=presence.log[None]
        )  # (1, T, D); (1, B, D) in the last
    return AdapLeROutput(
        logits=family.head(hidden[0]),
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


# The attention weight that a closed gate leaves, as a share. Not 0, and no bound either: log m has no derivative at 0,
# and a bound has 0 there, so that a token once skimmed would never hear from the classifier again.
CLOSED = 1e-6


def _gates(policy: Policy, view: LayerView) -> Tensor:
    """(T,) the gates of a layer's tokens, 1 for [CLS]."""
    return policy.gate(view, policy.score(view)).index_fill(0, view.row.segments.first, 1.0)


def _fading_before(policy: Policy, batch: Embedded) -> tuple[Tensor, list[Tensor]]:
    """A policy that decides before a layer: see gated_pass.

    Returns:
        (1, B, D) what the head reads; (B,) soft lengths of each layer.
    """
    family, segments, at, hidden = batch.family, batch.segments, batch.positions, batch.hidden
    row, layers = PackedRow(segments, batch.place), len(family.layers)
    presence = torch.ones_like(batch.place, dtype=exact_dtype(hidden))  # (T,)
    soft_lengths = []
    for index in range(layers):
        if policy.decides(index, layers=layers):
            presence = presence * _gates(policy, LayerView(index, hidden[0], row))
        soft_lengths.append(segment_sum(presence, segments))
        bias = (CLOSED + (1 - CLOSED) * presence).log()[None]  # (1, T)
        if index == layers - 1:
            hidden = family.last_layer(hidden, positions=at, segments=segments, key_bias=bias)
        else:
            new = family.layer(index, hidden, positions=at, segments=segments, key_bias=bias)
            there = presence[None, :, None].to(new.dtype)
            hidden = there * new + (1 - there) * hidden
    return hidden, soft_lengths


def _fading_between(policy: Policy, batch: Embedded) -> tuple[Tensor, list[Tensor]]:
    """A policy that decides between a layer's halves, and never in the last layer: see gated_pass.

    Returns:
        As of `_fading_before`.
    """
    family, segments, at, hidden = batch.family, batch.segments, batch.positions, batch.hidden
    row, layers = PackedRow(segments, batch.place), len(family.layers)
    whole = torch.ones_like(batch.place, dtype=exact_dtype(hidden))  # (T,)
    left, soft_lengths = segments.lengths.to(whole.dtype), []  # (B,)
    for index in range(layers - 1):
        decides = policy.decides(index, layers=layers)
        states, received = family.attention_half(
            index, hidden, positions=at, segments=segments, reads=policy.reads if decides else "nothing"
        )
        gate = _gates(policy, LayerView(index, states[0], row, received)) if decides else whole
        left = segment_sum(gate, segments)
        soft_lengths.append(left)
        there = gate[None, :, None].to(states.dtype)
        states = states * there if policy.fades == "feed_forward" else states
        hidden = family.feed_forward_half(index, states)
        hidden = hidden * there if policy.fades == "output" else hidden
    soft_lengths.append(left)  # the last layer drops nothing
    return family.last_layer(hidden, positions=at, segments=segments), soft_lengths


def gated_pass(
    backbone: PreTrainedModel,
    policy: Policy,
    *,
    input_ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    token_type_ids: Tensor | None,
) -> AdapLeROutput:
    """Each layer's tokens are multiplied by their gates (see `Policy.fades`); the last layer runs for [CLS] only.

    A policy that decides before a layer ("attention"): the gates of all layers so far are multiplied to a presence m.
    Attention weights are m_j exp(logit_j), renormalised, and a token that is not there is carried past the layer:
    h <- m layer(h) + (1 - m) h. Between a layer's halves: the gate multiplies the input of the feed-forward network
    ("feed_forward") or the layer's output ("output"), in this layer alone.

    Args:
        backbone, policy, input_ids, mask, positions, token_type_ids: see hard_pass.

    Returns:
        `lengths` (B, L): the sum of the presences, or of the gates, after each layer's decision.

    Raises:
        ArgumentError: a row without a real token, or a policy without soft removal.
    """
    batch = embedded(backbone, input_ids=input_ids, mask=mask, positions=positions, token_type_ids=token_type_ids)
    fading = _fading_before if policy.place == "before" else _fading_between
    hidden, soft_lengths = fading(policy, batch)  # (1, B, D)
    return AdapLeROutput(
        logits=batch.family.head(hidden[0]), lengths=torch.stack(soft_lengths, dim=1), head_states=hidden[0]
    )
