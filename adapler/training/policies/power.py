"""PoWER-BERT's training: search, configuration, retraining (Goyal et al., ICML 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapler.policies.power import Power
from adapler.training.policies.base import PolicyTraining, policy_training
from adapler.training.policies.stage import Stage, Step, Work

# The paper's lambda and learning rate of r, for the tasks of its table that are ours; the last is for all others.
WEIGHTS = {"mrpc": 3e-3, "sst2": 2e-4, "qnli": 1.5e-4, "mnli": 1e-4}
RATES = {"mrpc": 3e-3, "sst2": 5e-4, "qnli": 2e-4, "mnli": 2e-4}
OTHER_WEIGHT, OTHER_RATE = 3e-4, 1e-3


@dataclass(frozen=True, kw_only=True)
class Search(Stage):
    """CE + lambda * sum over layers l = 1, 2, ... of l * ||r^l||_1; the last layer drops nothing and is left out."""

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Cross-entropy, and the weighted mass of r without the entries of [CLS]."""
        output = step.forward(removal="soft")
        r = step.core.policy.r[:-1, 1:]  # (L - 1, N - 1)
        layer = torch.arange(1, len(r) + 1, device=r.device, dtype=r.dtype)
        return {"cross_entropy": output.loss.float(), "mass": (layer * r.abs().sum(1)).sum()}

    def after_step(self, model: Any) -> None:
        """r stays in [0, 1]."""
        model.policy.clip()

    def numbers(self, model: Any) -> dict[str, Any]:
        """The configuration that r says now."""
        return {"configuration": list(model.policy.configuration())}

    def finish(self, model: Any, work: Work) -> None:
        """The configuration becomes the model's, and r goes."""
        options = {"lengths": list(model.policy.configuration()), "longest": model.policy.options.longest}
        model.config.policy_options = options
        model.policy = Power(model.config)


@policy_training("power")
class PowerTraining(PolicyTraining):
    """3 epochs of search, 3 of retraining; lambda and the learning rate of r as in the paper's table."""

    usual: ClassVar[Mapping[str, int]] = {"search": 3, "retrain": 3}
    unused: ClassVar[tuple[str, ...]] = ("policy_temperature", "student_cosine")

    @classmethod
    def usual_weight(cls, task: str) -> float:
        """lambda."""
        return WEIGHTS.get(task, OTHER_WEIGHT)

    @classmethod
    def usual_rate(cls, task: str, *, learning_rate: float) -> float:
        """Of r."""
        return RATES.get(task, OTHER_RATE)

    def options(self) -> dict[str, Any]:
        """Ranks up to the longest text that the task has."""
        return {"longest": self.work.max_length}

    def stages(self) -> tuple[Stage, ...]:
        """Search with soft extraction; retraining with tokens really removed."""
        rate = self.work.settings.learning_rate
        return (
            Search(
                name="search",
                epochs=self.epochs["search"],
                removal="soft",
                backbone_rate=rate,
                policy_rate=self.chosen["policy_learning_rate"],
                policy_decay=False,
                weights={"mass": float(self.weight or 0.0)},
                selects="last",
            ),
            Stage(name="retrain", epochs=self.epochs["retrain"], removal="hard", backbone_rate=rate, selects="score"),
        )
