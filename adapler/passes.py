"""The loop over the layers: without removal, with hard removal (inference), soft removal (AdapLeR's), and gates.

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
from transformers.utils import ModelOutput

from adapler.backbones.attention import Reads, Segments, real_lengths, segment_log_softmax, segment_sum
from adapler.backbones.families import position_ids, view
from adapler.contribution import MASKED, PackedRow, exact_dtype, retention, soft_removal, threshold
from adapler.errors import ArgumentError
from adapler.policies import LayerView, Policy, stays


@dataclass
class AdapLeROutput(ModelOutput):  # type: ignore[misc]
    """Output of AdapLeR. B batch, L layers (from 0), N padded length of the input, C labels.

    Attributes:
        loss: cross-entropy with the labels, scalar; only when labels are given.
        logits: (B, C).
        lengths: (B, L) tokens that enter each layer, [CLS] included; long, or float (soft lengths) in soft mode,
            where a policy that decides inside a layer has the length after its decision.
        contribution_scores: (B, L, N) softmax of layer l's Contribution Predictor over the tokens present when it
            runs, so each row sums to 1; 0 where a token was dropped before or is padding. A token that layer l's
            own predictor drops has its score in row l. None with removal="none", where no predictor runs. Of another
            policy its scores, which need not sum to 1; in hard mode only.
        retention_mask: (B, L, N) bool, True when the token enters layer l. In soft mode: what hard removal
            would keep of the same scores, None of another policy than AdapLeR's.
        bars: (B, L) the score from which on a token stays in each layer, AdapLeR's threshold; minus infinity where the
            policy does not decide, 0 with threshold_scale 0, where all stay. Hard mode only.
        log_scores: (B, L, N) logarithm of contribution_scores; soft mode only.
        log_presence: (B, L, N) accumulated soft mask (sum of M) of the layers before l, 0 for [CLS]; -1e4
            for padding and for tokens physically removed; soft mode only.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    lengths: Tensor | None = None
    contribution_scores: Tensor | None = None
    retention_mask: Tensor | None = None
    bars: Tensor | None = None
    log_scores: Tensor | None = None
    log_presence: Tensor | None = None


def check_finite(logits: Tensor) -> None:
    """Raises ArgumentError for logits that are not finite, from which no label follows."""
    if not bool(logits.isfinite().all()):
        raise ArgumentError("model: its logits are NaN or infinite, so that no label follows; are its weights finite?")


class Row:
    """The tokens that are left of a batch, one sequence after the other, and their states.

    Args:
        input_ids, mask: (B, N) ids, and 1 for real tokens; ArgumentError for a row without one.
        positions: (B, N) or (1, N) position of each token.
        grouped: whether equally long sequences become neighbours, which saves attention calls on a CPU.

    Attributes:
        packed: where each sequence lies, and where each token stood in the padded batch: what a policy sees.
        sequence: (B,) the batch's row of each sequence.
        positions: (1, T) each token's position in the input.
        hidden: (1, T, D) the states; at first the embeddings, after the last layer (1, B, D), what the head reads.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        *,
        input_ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        token_type_ids: Tensor | None,
        grouped: bool = False,
    ) -> None:
        real, (batch, width) = mask.bool(), input_ids.shape  # (B, N)
        self.family, self.shape, self.grouped = view(backbone), input_ids.shape, grouped
        self.layers = len(self.family.layers)
        place = real.flatten().nonzero()[:, 0]  # (T,)
        self.sequence = torch.arange(batch, device=real.device)
        segments, moved = self._group(Segments(real_lengths(real), owners=place // width, bound=width))
        self.packed = PackedRow(segments, place if moved is None else place[moved])
        self.positions = positions.expand_as(input_ids).flatten()[self.place][None]
        types = None if token_type_ids is None else token_type_ids.flatten()[self.place][None]
        ids = input_ids.flatten()[self.place][None]
        self.hidden = self.family.embed(ids, positions=self.positions, token_type_ids=types)

    @property
    def segments(self) -> Segments:
        return self.packed.segments

    @property
    def place(self) -> Tensor:
        return self.packed.place

    def _group(self, segments: Segments) -> tuple[Segments, Tensor | None]:
        """The segments in the order that the row has, and (T,) where each token was before; None: nothing has moved."""
        if not self.grouped or segments.lengths.is_cuda or len(segments.runs) == len(set(segments.sizes)):
            return segments, None
        segments, order, moved = segments.by_length()
        self.sequence = self.sequence[order]
        return segments, moved

    def select(self, kept: Tensor, states: Tensor) -> Tensor:
        """Leave only the tokens at `kept`, (n,) long; gives their states, of (T, D) ones of all tokens."""
        segments, moved = self._group(self.segments.select(kept))
        kept = kept if moved is None else kept[moved]
        self.packed, self.positions = self.packed.select(kept, segments), self.positions.index_select(1, kept)
        return states.index_select(0, kept)

    def view(self, index: int, *, presence: Tensor | None = None) -> LayerView:
        """A layer's input as a policy sees it; `presence` (T,) in soft removal."""
        row = self.packed if presence is None else PackedRow(self.segments, self.place, presence)
        return LayerView(index, self.hidden[0], row)

    def attend(self, index: int, *, reads: Reads) -> LayerView:
        """A layer's tokens after its attention, as a policy sees them that decides there."""
        where: dict[str, Any] = {"positions": self.positions, "segments": self.segments}
        states, received = self.family.attention_half(index, self.hidden, **where, reads=reads)  # (1, T, D)
        return LayerView(index, states[0], self.packed, received)

    def run(self, index: int, *, key_bias: Tensor | None = None) -> Tensor:
        """The states after a layer, (1, T, D); `key_bias` (1, T) is added to each key's logits. The last layer runs for
        what the head reads only, (1, B, D)."""
        given: dict[str, Any] = {"positions": self.positions, "segments": self.segments}
        if key_bias is not None:
            given["key_bias"] = key_bias
        last = index == self.layers - 1
        return self.family.last_layer(self.hidden, **given) if last else self.family.layer(index, self.hidden, **given)

    def spread(self, values: Tensor, *, fill: float) -> Tensor:
        """(T,) values at the places that the tokens have in the padded input, (B, N); `fill` elsewhere."""
        return values.new_full((self.shape.numel(),), fill).index_copy(0, self.place, values).view(self.shape)


def plain_pass(backbone: PreTrainedModel, batch: Mapping[str, Any]) -> Tensor:
    """Logits (B, C) of a batch as a collator makes it: all layers on all tokens, packed, of a `ready` classifier."""
    ids, mask, types = batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")  # (B, N) each
    positions = position_ids(backbone.config, mask)  # (B, N)
    row = Row(backbone, input_ids=ids, mask=mask, positions=positions, token_type_ids=types)
    for index in range(row.layers):
        row.hidden = row.run(index)
    return row.family.head(row.hidden[0])


class _Found:
    """Per-layer results, gathered into the output at the end of the pass."""

    def __init__(self, row: Row) -> None:
        self._row, self._dtype = row, exact_dtype(row.hidden)
        self._entered: list[tuple[Tensor, Tensor, Tensor]] = []  # by layer: cells, lengths (B,), sequences (B,)
        self._scored: dict[int, tuple[Tensor, ...]] = {}  # cells, scores (T,), bars and sequences (B,)

    def enter(self, index: int) -> None:
        cells = self._row.place + index * self._row.shape.numel()
        self._entered.append((cells, self._row.segments.lengths, self._row.sequence))

    def score(self, index: int, scores: Tensor, bar: Tensor) -> None:
        cells = self._row.place + index * self._row.shape.numel()
        self._scored[index] = (cells, scores.to(self._dtype), bar.to(self._dtype), self._row.sequence)

    def output(self, *, removed: bool) -> AdapLeROutput:
        """The output of the row's last states, in the batch's order."""
        row, shape = self._row, (self._row.layers, *self._row.shape)
        logits = row.family.head(row.hidden[0])[row.sequence.argsort()]  # (B, C)
        cells, lengths, sequences = zip(*self._entered, strict=True)
        entered = torch.zeros(shape, dtype=torch.bool, device=logits.device)
        entered.view(-1)[torch.cat(cells)] = True
        length, sequence = torch.stack(lengths), torch.stack(sequences)  # (L, B) each
        scores: Tensor | None = None
        bars: Tensor | None = None
        if removed:
            scores = logits.new_zeros(shape, dtype=self._dtype)
            if self._scored:
                scored = (torch.cat(each) for each in list(zip(*self._scored.values(), strict=True))[:2])
                scores = scores.view(-1).index_copy(0, *scored).view(shape)
            never = torch.full_like(length[0], -torch.inf, dtype=self._dtype)
            found = [self._scored[i][2:] if i in self._scored else (never, sequence[i]) for i in range(row.layers)]
            bar, owner = (torch.stack(each).detach() for each in zip(*found, strict=True))  # (L, B) each
            scores, bars = scores.transpose(0, 1), torch.zeros_like(bar).scatter(1, owner, bar).T
        return AdapLeROutput(
            logits=logits,
            lengths=torch.zeros_like(length).scatter(1, sequence, length).T,
            contribution_scores=scores,
            retention_mask=entered.transpose(0, 1),
            bars=bars,
        )


def _drop(policy: Policy, view: LayerView, row: Row, found: _Found, *, scale: float, fate: Tensor | None) -> Tensor:
    """The states of the tokens that stay, (1, n, D); `row` becomes theirs. On a GPU the layer's only wait."""
    scores = policy.score(view)  # (T,)
    bar = scores.new_zeros(len(row.sequence)) if scale == 0 else policy.bar(view, scores, scale=scale)  # (B,)
    found.score(view.index, scores, bar)
    if scale == 0 and fate is None:  # no score is below the bar
        return view.hidden[None]
    # At scale 0 the bar is 0, and some policies' scores are negative.
    kept = torch.ones_like(scores, dtype=torch.bool) if scale == 0 else stays(scores, bar, row=row.packed)
    if fate is not None:
        forced = fate.flatten()[row.place]  # (T,)
        kept = ((kept & (forced >= 0)) | (forced > 0)).index_fill(0, row.segments.first, True)
    chosen = kept.nonzero()[:, 0]
    hidden = view.hidden if len(chosen) == len(kept) else row.select(chosen, view.hidden)  # (n, D)
    return hidden[None]


def hard_pass(
    backbone: PreTrainedModel, policy: Policy, *, scale: float, remove: bool, fate: Tensor | None = None, **inputs: Any
) -> AdapLeROutput:
    """Dropped tokens leave the row for good. See AdapLeRForSequenceClassification.forward.

    Nothing in it depends on padding or on the other sequences of the batch. `scale` is a factor on the policy's bars;
    `remove=False` runs all layers on all tokens, without the policy. Inputs: see Row.
    """
    row = Row(backbone, **inputs, grouped=True)
    found = _Found(row)
    for index in range(row.layers):
        decides = remove and policy.decides(index, layers=row.layers)
        if decides and policy.place == "before":
            row.hidden = _drop(policy, row.view(index), row, found, scale=scale, fate=fate)
        found.enter(index)
        if decides and policy.place == "between" and index < row.layers - 1:
            view = row.attend(index, reads=policy.reads)
            row.hidden = row.family.feed_forward_half(index, _drop(policy, view, row, found, scale=scale, fate=fate))
        else:
            row.hidden = row.run(index)
    return found.output(removed=remove)


# exp(-15) of an attention weight: a token below this presence cannot matter any more in soft mode.
GONE = -15.0
# Tokens that have faded leave the row only when at least a fiftieth of it has: the copy is not free.
WORTH_GATHERING = 0.98


class _Presence:
    """Log-presence of each token of a row, (T,), and its soft removal: `removal` of (scores, thresholds) is added."""

    def __init__(self, row: Row, *, removal: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.log = torch.zeros_like(row.place, dtype=exact_dtype(row.hidden))  # (T,); 0 for [CLS] always
        self.lengths: list[Tensor] = []  # (B,) of each layer, after its own removal
        self._removal = removal

    def scores(self, logits: Tensor, segments: Segments, *, factor: Tensor | None) -> Tensor:
        """(T,) logarithm of the contribution scores, of what a predictor says (T,): softmax times presence,
        renormalised; `factor` is a scalar on [CLS]'s score."""
        logits = logits + self.log
        if factor is not None:
            logits = logits.index_add(0, segments.first, factor.log().to(logits.dtype).expand(len(segments.first)))
        return segment_log_softmax(logits, segments)

    def fade(self, log_scores: Tensor, segments: Segments, *, eta: Tensor | None, is_cls: Tensor) -> Tensor:
        """Let the tokens fade by a layer's scores and its factor eta, scaled (None: nothing fades); gives the
        thresholds (T,)."""
        present = segment_sum(self.log.exp(), segments)  # (B,) soft length that CP_l sees; [CLS] counts 1
        if eta is None:
            self.lengths.append(present)
            return torch.zeros_like(log_scores)
        delta = threshold(eta, present)[segments.owner]  # (T,)
        faded = self._removal(log_scores.exp(), delta)
        self.log = (self.log + faded.masked_fill(is_cls, 0.0)).clamp(min=MASKED)  # now with layer l's own mask
        self.lengths.append(segment_sum(self.log.exp(), segments))
        return delta


def soft_pass(
    backbone: PreTrainedModel,
    predictors: Sequence[nn.Module],
    eta: Tensor,
    *,
    scale: float,
    beta: float,
    slope: float,
    gradient_slope: float,
    probe: Tensor | None,
    first_layer: int = 0,
    local_losses: bool = False,
    **inputs: Any,
) -> AdapLeROutput:
    """Tokens fade by an accumulating bias on their attention logits, differentiable in scores and thresholds.

    Scores are softmax(predictor + log presence), which is the softmax times the presence, renormalised, kept in
    logarithms. Tokens whose presence has fallen below exp(-15) are physically removed from the row.

    With `local_losses` the logits have the same gradient, but that of `log_scores` ends in the predictor of its own
    layer, and that of `lengths` in the thresholds and the probe: a predictor's logits are constants for it. Then one
    backward pass of a sum of losses trains each group by its own ones; see AdapLeRTrainer.

    Args:
        probe: (L,) factors on the score of [CLS], or None.
        first_layer: the first before which tokens fade; the layers before it only score them.
        beta, slope, gradient_slope, inputs: see soft_removal and Row.
    """
    row = Row(backbone, **inputs)
    removal = partial(soft_removal, slope=slope, beta=beta, gradient_slope=gradient_slope)
    presence = _Presence(row, removal=removal)
    counted = _Presence(row, removal=removal) if local_losses else presence  # what the lengths count
    kept = torch.ones_like(row.place, dtype=torch.bool)  # (T,)
    all_scores, all_presence, all_kept = [], [], []
    for index in range(row.layers):
        segments, before = row.segments, presence.log
        is_cls = torch.zeros_like(kept).index_fill(0, segments.first, True)
        factor = None if probe is None else probe[index]
        own_eta = None if index < first_layer else scale * eta[index]
        logits = predictors[index](row.hidden[0], row.view(index, presence=before.exp()).row)  # (T,)
        log_scores = learned = presence.scores(logits, segments, factor=factor)
        if local_losses:
            alone = row.view(index, presence=before.detach().exp())
            said = predictors[index](alone.hidden.detach(), alone.row)
            learned = segment_log_softmax(said + before.detach(), segments)
            constant = counted.scores(logits.detach(), segments, factor=factor)
            counted.fade(constant, segments, eta=own_eta, is_cls=is_cls)
        delta = presence.fade(log_scores, segments, eta=own_eta, is_cls=is_cls)
        if own_eta is not None:
            kept = kept & retention(log_scores.exp(), delta, is_cls=is_cls)
        all_scores.append(row.spread(learned, fill=MASKED))
        all_presence.append(row.spread(before, fill=MASKED))
        all_kept.append(row.spread(kept, fill=False))

        alive = ((presence.log > GONE) | is_cls).nonzero()[:, 0]  # (T',)
        if len(alive) <= WORTH_GATHERING * len(kept):
            row.hidden, kept = row.select(alive, row.hidden[0])[None], kept[alive]
            for one in {presence, counted}:
                one.log = one.log[alive]
        row.hidden = row.run(index, key_bias=presence.log[None])
    return AdapLeROutput(
        logits=row.family.head(row.hidden[0]),
        lengths=torch.stack(counted.lengths, dim=1),
        contribution_scores=torch.stack(all_scores, dim=1).exp(),
        retention_mask=torch.stack(all_kept, dim=1),
        log_scores=torch.stack(all_scores, dim=1),
        log_presence=torch.stack(all_presence, dim=1),
    )


# The attention weight that a closed gate leaves, as a share. Not 0, and no bound either: log m has no derivative at 0,
# and a bound has 0 there, so that a token once skimmed would never hear from the classifier again.
CLOSED = 1e-6


def gated_pass(backbone: PreTrainedModel, policy: Policy, **inputs: Any) -> AdapLeROutput:
    """Each layer's tokens are multiplied by their gates (see `Policy.fades`), 1 for [CLS].

    A policy that decides before a layer ("attention"): the gates of all layers so far are multiplied to a presence m.
    Attention weights are m_j exp(logit_j), renormalised, and a token that is not there is carried past the layer:
    h <- m layer(h) + (1 - m) h. Between a layer's halves, and never in the last layer: the gate multiplies the input of
    the feed-forward network ("feed_forward") or the layer's output ("output"), in this layer alone.

    The output's lengths (B, L) are the sums of the presences, or of the gates, after each layer's decision.
    """

    def gates(view: LayerView) -> Tensor:
        return policy.gate(view, policy.score(view)).index_fill(0, row.segments.first, 1.0)  # (T,)

    row = Row(backbone, **inputs)
    presence = whole = torch.ones_like(row.place, dtype=exact_dtype(row.hidden))  # (T,)
    left, soft_lengths = segment_sum(presence, row.segments), []  # (B,)
    for index in range(row.layers):
        last, decides = index == row.layers - 1, policy.decides(index, layers=row.layers)
        if policy.place == "before":
            presence = presence * gates(row.view(index)) if decides else presence
            left = segment_sum(presence, row.segments)
            new = row.run(index, key_bias=(CLOSED + (1 - CLOSED) * presence).log()[None])
            there = presence[None, :, None].to(new.dtype)
            row.hidden = new if last else there * new + (1 - there) * row.hidden
        elif last:
            row.hidden = row.run(index)
        else:
            view = row.attend(index, reads=policy.reads if decides else "nothing")
            presence = gates(view) if decides else whole
            left = segment_sum(presence, row.segments)
            states, there = view.hidden[None], presence[None, :, None].to(view.hidden.dtype)
            states = row.family.feed_forward_half(index, states * there if policy.fades == "feed_forward" else states)
            row.hidden = states * there if policy.fades == "output" else states
        soft_lengths.append(left)
    logits = row.family.head(row.hidden[0])
    return AdapLeROutput(logits=logits, lengths=torch.stack(soft_lengths, dim=1))
