"""AdapLeR's own policy: Contribution Predictors and learned thresholds eta / n (Modarressi et al., ACL 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapler.backbones.packing import segment_softmax
from adapler.contribution import threshold
from adapler.errors import ArgumentError, is_number
from adapler.policies.base import LayerView, Policy, policy
from adapler.predictors import Cost, predictor_class


@dataclass(frozen=True)
class FirstLayer:
    """Which layers may drop tokens.

    Attributes:
        first_layer: the first that does, counted from 0. The layers before it score their tokens and read them all.
            Ours: in the paper every layer drops, layer 0 by a token's embedding, before it has seen its context.
    """

    first_layer: int = 0

    def __post_init__(self) -> None:
        if not (is_number(self.first_layer, whole=True) and self.first_layer >= 0):
            raise ArgumentError(f"first_layer: {self.first_layer!r} is not a whole number of at least 0")


@policy("adapler")
class ContributionPolicy(Policy):
    """Before each layer: the softmax of its Contribution Predictor, against eta / n.

    The model holds the parameters, under the names that its checkpoints have always had; this only reads them. Its soft
    removal is in `adapler.passes`.

    Args:
        predictors: one for each layer.
        eta: (L,) threshold factors.
        options: see FirstLayer.
    """

    Options = FirstLayer

    def __init__(self, predictors: Sequence[nn.Module], eta: Tensor, options: FirstLayer) -> None:
        nn.Module.__init__(self)
        self._parts = (predictors, eta)  # in a tuple: not registered a second time
        self.options = options

    @property
    def factors(self) -> Tensor:
        """(L,) eta, and 0 in the layers that drop nothing."""
        eta = self._parts[1]
        return eta.masked_fill(torch.arange(len(eta), device=eta.device) < self.options.first_layer, 0.0)

    def score(self, view: LayerView) -> Tensor:
        """Contribution scores: they sum to 1 in each sequence."""
        return segment_softmax(self._parts[0][view.index](view.hidden, view.row), view.row.segments)

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """delta = scale * eta / n; 0 before the first layer that drops tokens."""
        if view.index < self.options.first_layer:
            return scores.new_zeros(len(view.row.segments.lengths))
        eta = self._parts[1][view.index].to(scores.dtype)
        return threshold(eta, view.row.segments.lengths, scale=scale)

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        """Of the layer's predictor."""
        return predictor_class(config.predictor).cost(config.hidden_size, config.contribution_hidden_size)
