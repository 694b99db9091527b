"""AdapLeR's own policy: Contribution Predictors and learned thresholds eta / n (Modarressi et al., ACL 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from adapler.backbones.packing import segment_softmax
from adapler.model.contribution import threshold
from adapler.model.predictors.registry import Cost, predictor_class
from adapler.policies.base import LayerView, Policy, policy


@policy("adapler")
class ContributionPolicy(Policy):
    """Before each layer: the softmax of its Contribution Predictor, against eta / n.

    The model holds the parameters, under the names that its checkpoints have always had; this only reads them. Its soft
    removal is in `adapler.model.passes.soft`.

    Args:
        predictors: one for each layer.
        eta: (L,) threshold factors.
    """

    def __init__(self, predictors: Sequence[nn.Module], eta: Tensor) -> None:
        nn.Module.__init__(self)
        self._parts = (predictors, eta)  # in a tuple: not registered a second time

    def score(self, view: LayerView) -> Tensor:
        """Contribution scores: they sum to 1 in each sequence."""
        return segment_softmax(self._parts[0][view.index](view.hidden, view.row), view.row.segments)

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """delta = scale * eta / n."""
        eta = self._parts[1][view.index].to(scores.dtype)
        return threshold(eta, view.row.segments.lengths, scale=scale)

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        """Of the layer's predictor."""
        return predictor_class(config.predictor).cost(config.hidden_size, config.contribution_hidden_size)
