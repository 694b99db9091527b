"""LTP, learned token pruning (Kim et al., KDD 2022): a learned threshold on the attention that a token receives.

Written from the paper's equations. Different from the public code: the mean is over the text's own queries and not over
the padded length, so the threshold means the same in every batch; [CLS] is spared; in hard removal the token leaves the
row after the attention of its layer.

Dimensions: B sequences, T tokens of a packed row, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import initialization as init

from adapler.errors import ArgumentError, is_number
from adapler.policies.base import Fades, LayerView, Place, Policy, policy

LOWEST = 1e-5  # of a threshold


@dataclass(frozen=True, kw_only=True)
class LtpOptions:
    """Where the thresholds start, and how soft they are in training."""

    theta_final: float = 0.01
    """the last layer's threshold at the start; layer l (from 0) of L has l/L of it"""

    temperature: float = 1e-3
    """width of the soft threshold; no effect in inference"""

    def __post_init__(self) -> None:
        for name in ("theta_final", "temperature"):
            value = getattr(self, name)
            if not is_number(value) or not value > 0:
                raise ArgumentError(f"{name}: {value!r} is not a number above 0")


@policy("ltp")
class LearnedThresholds(Policy):
    """After a layer's attention a token stays where the attention that it received is at least a learned threshold.

    s_i = mean over heads and over the text's queries that are left of the attention on i
    theta^l = max(1e-5, theta_final * l / L + delta^l), delta learned; a token stays where s >= theta^l
    gate = sigmoid((s - theta^l) / T), a factor on the layer's output
    """

    place: ClassVar[Place] = "between"
    fades: ClassVar[Fades] = "output"
    Options: ClassVar[type] = LtpOptions

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.layers = int(config.num_hidden_layers)
        self.delta = nn.Parameter(torch.zeros(self.layers))  # the last layer's has no use

    def reset_parameters(self) -> None:
        """The thresholds rise from layer to layer."""
        init.zeros_(self.delta)

    def threshold(self, index: int) -> Tensor:
        """theta of a layer, scalar."""
        rising = self.options.theta_final * index / self.layers
        theta: Tensor = (rising + self.delta[index]).clamp(min=LOWEST)
        return theta

    def score(self, view: LayerView) -> Tensor:
        """(T,) mean attention received; sums to 1 in each sequence."""
        segments = view.row.segments
        return view.attention.total / segments.lengths[segments.owner]

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """(B,) the layer's threshold times the scale, for every sequence."""
        return (scale * self.threshold(view.index)).to(scores.dtype).expand(len(view.row.segments.lengths))

    def gate(self, view: LayerView, scores: Tensor) -> Tensor:
        """(T,) the soft threshold."""
        gate: Tensor = ((scores - self.threshold(view.index)) / self.options.temperature).sigmoid()
        return gate
