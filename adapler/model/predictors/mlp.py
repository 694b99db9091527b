"""The paper's Contribution Predictor: a token is scored from its own state alone.

Dimensions: T tokens of a packed row, D hidden size, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import initialization as init
from transformers.activations import ACT2FN

from adapler.model.predictors.registry import Cost, Predictor, predictor
from adapler.model.predictors.row import PackedRow, exact_dtype


class ExactLinear(nn.Linear):
    """A dense layer that computes in float32 or better, whatever its weights are stored in and under autocast.

    `torch.ao.quantization.quantize_dynamic` replaces modules whose type is nn.Linear itself, so it leaves this one
    alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the input's precision, at least float32."""
        if not torch.is_autocast_enabled(input.device.type):  # entering a context takes as long as a small product
            return self._exact(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._exact(input)

    def _exact(self, input: Tensor) -> Tensor:
        exact = exact_dtype(input)
        if self.weight.dtype == exact:  # as a rule; a conversion that changes nothing takes its time too
            return linear(input.to(exact), self.weight, self.bias)
        return linear(input.to(exact), self.weight.to(exact), None if self.bias is None else self.bias.to(exact))


@predictor("mlp")
class ContributionPredictor(Predictor):
    """Two-layer perceptron that scores each token from its hidden state (AdapLeR, section 3.1).

        score_i = w . act(W h_i + b) + c

    It starts at equal scores for all tokens (zero output weights), so an untrained model drops nothing. Thresholds
    lie near 1/n and bfloat16 keeps 3 digits, so scores are computed in float32 or better, also in a model in half
    precision, under autocast, or with int8 weights.
    """

    def __init__(self, hidden_size: int, *, contribution_hidden_size: int = 32, activation: str = "gelu") -> None:
        super().__init__(hidden_size)
        self.dense = ExactLinear(hidden_size, contribution_hidden_size)
        self.activation = ACT2FN[activation]
        self.score = ExactLinear(contribution_hidden_size, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first layer's weights, set all others to 0 (transformers' functions spare loaded weights)."""
        init.xavier_uniform_(self.dense.weight)
        for parameter in (self.dense.bias, self.score.weight, self.score.bias):
            init.zeros_(parameter)

    def forward(self, hidden: Tensor, row: PackedRow | None = None) -> Tensor:
        """Scores before the softmax: (..., D) -> (...); nothing else of the row counts."""
        scores: Tensor = self.score(self.activation(self.dense(hidden)))  # (..., D) -> (..., H) -> (..., 1)
        return scores.squeeze(-1)

    @staticmethod
    def cost(hidden_size: int, contribution_hidden_size: int) -> Cost:
        return Cost(token=2 * (hidden_size * contribution_hidden_size + contribution_hidden_size))
