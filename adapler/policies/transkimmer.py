"""Transkimmer (Guan et al., ACL 2022): a perceptron before each layer says of each token whether it is skimmed.

Written from the paper's equations. Different from the public code: no noise in evaluation, attention weights are
renormalised over what is there, and nothing depends on padding.

Dimensions: T tokens of a packed row, D hidden size, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm
from transformers import initialization as init

from adapler.contribution import Cost, ExactLinear, exact_dtype
from adapler.policies.base import LayerView, Policy, Stage, Step, Training, WeightedOptions, policy

# Everything is kept at first: the two outputs start 10 apart, a probability of .99995.
START = 5.0
START_SPREAD = 0.02


class ExactLayerNorm(nn.LayerNorm):
    """A layer norm that computes in float32 or better."""

    def forward(self, input: Tensor) -> Tensor:
        exact = exact_dtype(input)
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = self.weight.to(exact), self.bias.to(exact)
            return layer_norm(input.to(exact), self.normalized_shape, weight, bias, self.eps)


class SkimPredictor(nn.Module):
    """LN -> Linear(D, D) -> LN -> GELU -> Linear(D, 2): the outputs for keeping and for skimming."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.dense = ExactLayerNorm(width), ExactLinear(width, width)
        self.between, self.choice = ExactLayerNorm(width), ExactLinear(width, 2)

    def reset_parameters(self) -> None:
        """Initialise dense layers as transformers does, with a last bias that keeps every token."""
        for norm in (self.before, self.between):
            init.ones_(norm.weight)
            init.zeros_(norm.bias)
        for dense in (self.dense, self.choice):
            init.normal_(dense.weight, std=0.02)
        init.zeros_(self.dense.bias)
        start = torch.tensor([START, -START]) + START_SPREAD * torch.randn(2)
        init.copy_(self.choice.bias, start.to(self.choice.bias.dtype))

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, D) -> (T, 2)."""
        return self.choice(gelu(self.between(self.dense(self.before(hidden)))))


@dataclass(kw_only=True)
class Skimming(Stage):
    """CE + lambda * (mean over layers of the share of the text's tokens that are present)."""

    def losses(self, step: Step) -> dict[str, Tensor]:
        output = step.model(**step.inputs, removal="soft")
        lengths = step.batch["attention_mask"].sum(1, keepdim=True)  # (B, 1)
        return {"cross_entropy": output.loss.float(), "kept_share": (output.lengths / lengths).mean()}


class SkimTraining(Training):
    """One stage of 3 epochs (MRPC: 5), the predictors at the backbone's learning rate."""

    Settings, budget = WeightedOptions, "policy_weight"

    @classmethod
    def defaults(cls, task: str, *, settings: Any, start: Any) -> dict[str, Any]:
        """The paper's defaults: a smaller weight for long texts (20News, Yelp), more epochs for a small task."""
        return {
            "policy_epochs": [5 if task == "mrpc" else 3],
            "policy_weight": [0.2 if task in ("imdb", "movies") else 0.5],
            "policy_learning_rate": settings.learning_rate,
        }

    def stages(self) -> list[Stage]:
        return [
            Skimming(
                epochs=self.options.policy_epochs[0],
                removal="soft",
                rates={"backbone": self.config.optimisation.learning_rate, "policy": self.options.policy_learning_rate},
                weights={"kept_share": self.options.policy_weight[0]},
                selects="budget",
            )
        ]


@policy("transkimmer")
class Transkimmer(Policy):
    """Before each layer, p = softmax(predictor(h)) of keeping; a token stays where p >= 1/2.

    Training draws: keep ~ Gumbel-softmax at temperature 1, hard in the forward pass and soft in the backward pass
    (straight-through). In evaluation mode the gate is p >= 1/2, the same as hard removal.
    """

    last_scale: ClassVar[float] = 2.0
    Training = SkimTraining

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.predictors = nn.ModuleList(SkimPredictor(config.hidden_size) for _ in range(config.num_hidden_layers))

    def reset_parameters(self) -> None:
        for predictor in self.predictors:
            predictor.reset_parameters()  # type: ignore[operator]

    def score(self, view: LayerView) -> Tensor:
        """(T,) the probability that a token is kept."""
        choices: Tensor = self.predictors[view.index](view.hidden)  # (T, 2)
        return choices.softmax(-1)[:, 0]

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        return torch.full_like(view.row.segments.lengths, 0.5 * scale, dtype=scores.dtype)

    def gate(self, view: LayerView, scores: Tensor) -> Tensor:
        """(T,) 0 or 1; in training with the gradient of the drawn probability."""
        if not self.training:
            return (scores >= 0.5).to(scores.dtype)
        edge = torch.finfo(scores.dtype).eps
        # The difference of two Gumbel variables is logistic.
        noise = torch.rand_like(scores).clamp(edge, 1 - edge).logit()
        soft = (scores.clamp(edge, 1 - edge).logit() + noise).sigmoid()
        return (soft >= 0.5).to(soft.dtype) + (soft - soft.detach())

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        return Cost(token=2.0 * config.hidden_size * (config.hidden_size + 2))
