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

from adapler.options import Checked, option
from adapler.policies.base import Fades, LayerView, Place, Policy, Stage, Step, Training, WeightedOptions, policy

LOWEST = 1e-5  # of a threshold
TEMPERATURE = 1e-3
START = 0.5  # of the mean score 1 / n of a token, at the mean length n


@dataclass(frozen=True, kw_only=True)
class LtpOptions(Checked):
    """Initial thresholds and their softness in training."""

    theta_final: float = option("last layer's first threshold; layer l of L has l/L of it", default=0.01, above=0)
    temperature: float = option("width of the soft threshold; no effect in inference", default=TEMPERATURE, above=0)


@dataclass(kw_only=True)
class SoftThresholds(Stage):
    """CE + lambda * sum over layers of the mean gate of the text's tokens; the last layer has none."""

    def losses(self, step: Step) -> dict[str, Tensor]:
        output = step.model(**step.inputs, removal="soft")
        lengths = step.batch["attention_mask"].sum(1, keepdim=True)  # (B, 1)
        gates = (output.lengths[:, :-1] / lengths).sum(1).mean()
        return {"cross_entropy": output.loss.float(), "mean_gates": gates}

    def numbers(self, model: Any) -> dict[str, Any]:
        return {"thresholds": [round(float(model.policy.threshold(i).detach()), 6) for i in range(model.num_layers)]}


@dataclass(kw_only=True)
class LtpTrainingOptions(WeightedOptions):
    """Training of LTP."""

    policy_temperature: float = option("width of the soft thresholds", default=TEMPERATURE)


class LtpTraining(Training):
    """1 epoch with soft thresholds (MRPC: 10) and everything training, 5 with the thresholds as they are."""

    Settings, budget = LtpTrainingOptions, "policy_weight"

    @classmethod
    def defaults(cls, task: str, *, settings: Any, start: Any) -> dict[str, Any]:
        epochs = [10 if task == "mrpc" else 1, 5]
        return {"policy_epochs": epochs, "policy_weight": [0.1], "policy_learning_rate": 2e-5}

    def model_options(self) -> dict[str, Any]:
        """Thresholds that rise to half the mean score of a token, and the temperature.

        The paper's theta_final of .01 is for the lengths of GLUE, where it is about this; the scores of a text of n
        tokens have a mean of 1 / n, so on reviews it would drop nearly all from the start.
        """
        lengths = [len(ids) for ids in self.prepared.encoded["train"]["input_ids"]]
        temperature = self.options.policy_temperature
        given = {} if temperature == TEMPERATURE else {"temperature": temperature}
        return {"theta_final": START * len(lengths) / sum(lengths), **given}

    def stages(self) -> list[Stage]:
        rate = self.config.optimisation.learning_rate
        soft = SoftThresholds(
            name="soft",
            epochs=self.options.policy_epochs[0],
            removal="soft",
            rates={"backbone": rate, "policy": self.options.policy_learning_rate},
            no_decay=("policy",),
            weights={"mean_gates": self.options.policy_weight[0]},
            selects="last",
        )
        hard = Stage(name="hard", epochs=self.options.policy_epochs[1], rates={"backbone": rate}, selects="budget")
        return [soft, hard]


@policy("ltp")
class LearnedThresholds(Policy):
    """After a layer's attention a token stays where the attention that it received is at least a learned threshold.

    s_i = mean over heads and over the text's queries that are left of the attention on i
    theta^l = max(1e-5, theta_final * l / L + delta^l), delta learned; a token stays where s >= theta^l
    gate = sigmoid((s - theta^l) / T), a factor on the layer's output
    """

    place: ClassVar[Place] = "between"
    fades: ClassVar[Fades] = "output"
    Options, Training = LtpOptions, LtpTraining

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.layers = int(config.num_hidden_layers)
        self.delta = nn.Parameter(torch.zeros(self.layers))  # the last layer's has no use

    def reset_parameters(self) -> None:
        init.zeros_(self.delta)

    def threshold(self, index: int) -> Tensor:
        """theta of a layer, scalar."""
        rising = self.options.theta_final * index / self.layers
        return (rising + self.delta[index]).clamp(min=LOWEST)

    def score(self, view: LayerView) -> Tensor:
        """(T,) mean attention received; sums to 1 in each sequence."""
        segments = view.row.segments
        return view.attention.total / segments.lengths[segments.owner]

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        return (scale * self.threshold(view.index)).to(scores.dtype).expand(len(view.row.segments.lengths))

    def gate(self, view: LayerView, scores: Tensor) -> Tensor:
        return ((scores - self.threshold(view.index)) / self.options.temperature).sigmoid()
