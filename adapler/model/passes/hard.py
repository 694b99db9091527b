"""Hard removal: real tokens as one packed row, which dropped tokens leave for good.

Dimensions: B batch, N padded length of the input, T packed tokens, L layers, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.packing import Segments, real_lengths
from adapler.model.outputs import AdapLeROutput
from adapler.model.predictors.row import PackedRow, exact_dtype
from adapler.policies import LayerView, Policy, stays


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
    layers = len(families.layers_of(backbone))
    row = _Row(input_ids, real, lengths, positions=positions)
    hidden = families.embed(
        backbone,
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
            run = families.run_last_layer
            hidden = run(backbone, hidden=hidden, positions=row.positions, segments=row.segments)  # (1, B, D)
        elif decides and policy.place == "between":
            states, received = families.run_attention_half(
                backbone, index, hidden, positions=row.positions, segments=row.segments, reads=policy.reads
            )  # (1, T, D)
            view = LayerView(index, states[0], row.packed, received)
            states = _drop(policy, view, row, found, scale=scale, fate=fate)
            hidden = families.run_feed_forward_half(backbone, index, states)
        else:
            hidden = families.run_layer(backbone, index, hidden, positions=row.positions, segments=row.segments)
    logits = families.head(backbone, hidden[0])  # (B, C), in the order of the segments
    return found.output(logits[row.sequence.argsort()], removed=remove)
