"""LTP's training: soft thresholds that are learned, then fixed ones (Kim et al., KDD 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from adapler.policies.ltp import LtpOptions
from adapler.training.policies.base import PolicyTraining, policy_training
from adapler.training.policies.stage import Stage, Step

THRESHOLD_RATE = 2e-5
START = 0.5  # of the mean score 1 / n of a token, at the mean length n
SMALL = ("mrpc",)


@dataclass(frozen=True, kw_only=True)
class SoftThresholds(Stage):
    """CE + lambda * sum over layers of the mean gate of the text's tokens."""

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Cross-entropy, and the sum of the mean gates; the last layer has none."""
        output = step.forward(removal="soft")
        lengths = step.batch["attention_mask"].sum(1, keepdim=True)  # (B, 1)
        gates = (output.lengths[:, :-1] / lengths).sum(1).mean()
        return {"cross_entropy": output.loss.float(), "mean_gates": gates}

    def numbers(self, model: Any) -> dict[str, Any]:
        """The thresholds."""
        return {"thresholds": [round(float(model.policy.threshold(i).detach()), 6) for i in range(model.num_layers)]}


@policy_training("ltp")
class LtpTraining(PolicyTraining):
    """lambda .1; 1 epoch with soft thresholds (MRPC: 10), 5 with fixed ones."""

    usual: ClassVar[Mapping[str, int]] = {"soft": 1, "hard": 5}
    unused: ClassVar[tuple[str, ...]] = ("student_cosine",)
    usual_temperature: ClassVar[float | None] = LtpOptions.temperature

    @classmethod
    def usual_epochs(cls, task: str) -> Mapping[str, int]:
        """More soft ones for a small task."""
        return {"soft": 10, "hard": 5} if task in SMALL else cls.usual

    @classmethod
    def usual_weight(cls, task: str) -> float:
        """lambda."""
        return 0.1

    @classmethod
    def usual_rate(cls, task: str, *, learning_rate: float) -> float:
        """Of the thresholds."""
        return THRESHOLD_RATE

    def options(self) -> dict[str, Any]:
        """Thresholds that rise to half the mean score of a token, and the temperature, where one is given.

        The paper's theta_final of .01 is for the lengths of GLUE, where it is about this; the scores of a text of n
        tokens have a mean of 1 / n, so on reviews it would drop nearly all from the start.
        """
        lengths = [len(ids) for ids in self.work.rows["train"]["input_ids"]]
        given = self.work.policy.policy_temperature
        temperature = {} if given is None else {"temperature": given}
        return {"theta_final": START * len(lengths) / sum(lengths), **temperature}

    def stages(self) -> tuple[Stage, ...]:
        """Soft, with everything training; hard, with the thresholds as they are."""
        rate = self.work.settings.learning_rate
        return (
            SoftThresholds(
                name="soft",
                epochs=self.epochs["soft"],
                removal="soft",
                backbone_rate=rate,
                policy_rate=self.chosen["policy_learning_rate"],
                policy_decay=False,
                weights={"mean_gates": float(self.weight or 0.0)},
                selects="last",
            ),
            Stage(name="hard", epochs=self.epochs["hard"], removal="hard", backbone_rate=rate, selects="budget"),
        )
