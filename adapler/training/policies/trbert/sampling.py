"""Drawn decisions: TR-BERT's policy as it is while it trains, for the same pass that really drops tokens.

Dimensions: B rows of the padded batch (each sample of a text is one), N its width, T packed tokens, P points.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapler.backbones.packing import segment_sum
from adapler.policies import LayerView, Policy, TRBert
from adapler.policies.base import Place
from adapler.policies.top_k import kth_highest
from adapler.policies.trbert import KEEPS, points
from adapler.predictors import PackedRow


class SampledPolicy(Policy):
    """Decides by the coin: a token stays with its probability p. Used for one pass of `hard_pass`, then read.

    The draws are made when it is built, one for each cell of the batch, so they do not depend on how the pass orders
    its tokens. Rows that imitate keep instead the m tokens with the highest guide score, m = the rounded sum of p.

    Args:
        policy: whose probabilities count.
        shape: (B, N) of the padded batch.
        layers: of the backbone.
        generator: of the draws, on the CPU.
        guide: (B, P, N) scores for the rows that imitate; None: no row does.
        imitates: (B,) bool, which rows do.
        attached: whether the gradient of the decisions' likelihood reaches the backbone, and not the policy alone.
    """

    place: ClassVar[Place] = "before"

    def __init__(
        self,
        policy: TRBert,
        *,
        shape: torch.Size,
        layers: int,
        generator: torch.Generator,
        guide: Tensor | None = None,
        imitates: Tensor | None = None,
        attached: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        self._policy = (policy,)  # in a tuple: its parameters are not this module's
        self.points, self.width, self.attached = points(layers), shape[1], attached
        self.draws = torch.rand(len(self.points), *shape, generator=generator)  # (P, B, N)
        self.guide, self.imitates = guide, imitates
        self._nll: list[Tensor] = []
        self._kept: list[Tensor] = []

    @classmethod
    def decides(cls, index: int, *, layers: int) -> bool:
        """Where TR-BERT does."""
        return TRBert.decides(index, layers=layers)

    def score(self, view: LayerView) -> Tensor:
        """(T,) 1 for tokens that stay, 0 for the others; their likelihood is noted."""
        hidden = view.hidden if self.attached else view.hidden.detach()
        logits = self._policy[0].logits(LayerView(view.index, hidden, view.row))  # (T,)
        stays = self._decisions(view, logits.detach().sigmoid()).index_fill(0, view.row.segments.first, True)
        rows = self._rows(view.row)
        self._nll.append(torch.zeros_like(logits[: len(rows)]).index_copy(0, rows, mean_nll(logits, stays, view.row)))
        kept = segment_sum(stays.to(logits.dtype), view.row.segments)
        self._kept.append(torch.zeros_like(kept).index_copy(0, rows, kept))
        return stays.to(logits.dtype)

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """(B,) between the two."""
        return scores.new_full((len(view.row.segments.lengths),), KEEPS)

    def _rows(self, row: PackedRow) -> Tensor:
        """(B,) the row of the batch that each sequence is."""
        return row.place[row.segments.first] // self.width

    def _decisions(self, view: LayerView, keep: Tensor) -> Tensor:
        """(T,) bool, drawn or imitated, from the probabilities (T,)."""
        row, at = view.row, self.points.index(view.index)
        stays = self.draws[at].to(keep).flatten()[row.place] < keep
        if self.guide is None or self.imitates is None:
            return stays
        guide = self.guide[:, at].to(keep).flatten()[row.place]  # (T,)
        imitates = self.imitates.to(keep.device)[self._rows(row)]  # (B,) by sequence
        return torch.where(imitates[row.segments.owner], best_by_guide(guide, keep, row), stays)

    @property
    def nll(self) -> Tensor:
        """(B,) NLL = sum over the points of the mean over the tokens there, in the order of the batch."""
        return torch.stack(self._nll).sum(0)

    def kept(self, lengths: Tensor) -> Tensor:
        """(P, B) shares of the text's tokens, whose numbers are `lengths` (B,), that stayed at each point."""
        return torch.stack(self._kept) / lengths


def mean_nll(logits: Tensor, stays: Tensor, row: PackedRow) -> Tensor:
    """The mean over the tokens present of -a log p - (1 - a) log(1 - p), (B,) by sequence.

    [CLS] stays whatever p is, so its decision counts 0.

    Args:
        logits: (T,) log odds of staying.
        stays: (T,) bool, a.
        row: of the tokens.
    """
    each = functional.binary_cross_entropy_with_logits(logits, stays.to(logits.dtype), reduction="none")  # (T,)
    each = each.index_fill(0, row.segments.first, 0.0)
    return segment_sum(each, row.segments) / row.segments.lengths


def best_by_guide(guide: Tensor, keep: Tensor, row: PackedRow) -> Tensor:
    """The m tokens with the highest guide score in each sequence, m = round(sum p) with p = 1 for [CLS]; (T,) bool.

    Of tokens with equal scores all stay or none.

    Args:
        guide: (T,) scores.
        keep: (T,) p.
        row: of the tokens.
    """
    segments = row.segments
    wanted = segment_sum(keep.index_fill(0, segments.first, 1.0), segments).round().long()  # (B,), at least 1
    bar = kth_highest(guide, segments, count=wanted.clamp(min=1).minimum(segments.lengths))
    return (guide >= bar[segments.owner]).index_fill(0, segments.first, True)
