"""Transkimmer's training: one stage (Guan et al., ACL 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adapler.training.policies.base import PolicyTraining, policy_training
from adapler.training.policies.stage import Stage, Step

LONG = ("imdb", "movies")  # tasks of long texts, whose weight in the paper (20News, Yelp) is smaller
SMALL = ("mrpc",)


@dataclass(frozen=True, kw_only=True)
class Skimming(Stage):
    """CE + lambda * (mean over layers of the share of the text's tokens that are there)."""

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Cross-entropy, and the share of tokens; true lengths."""
        output = step.forward(removal="soft")
        lengths = step.batch["attention_mask"].sum(1, keepdim=True)  # (B, 1)
        return {"cross_entropy": output.loss.float(), "kept_share": (output.lengths / lengths).mean()}


@policy_training("transkimmer")
class TranskimmerTraining(PolicyTraining):
    """lambda .5 (long texts: .2), 3 epochs (MRPC: 5), the predictors at the backbone's learning rate."""

    usual: ClassVar[Mapping[str, int]] = {"train": 3}
    unused: ClassVar[tuple[str, ...]] = ("policy_temperature", "student_cosine")

    @classmethod
    def usual_epochs(cls, task: str) -> Mapping[str, int]:
        """More for a small task."""
        return {"train": 5} if task in SMALL else cls.usual

    @classmethod
    def usual_weight(cls, task: str) -> float:
        """lambda."""
        return 0.2 if task in LONG else 0.5

    @classmethod
    def usual_rate(cls, task: str, *, learning_rate: float) -> float:
        """The backbone's."""
        return learning_rate

    def stages(self) -> tuple[Stage, ...]:
        """One: everything trains at once."""
        rate = self.work.settings.learning_rate
        return (
            Skimming(
                name="train",
                epochs=self.epochs["train"],
                removal="soft",
                backbone_rate=rate,
                policy_rate=self.chosen["policy_learning_rate"],
                weights={"kept_share": float(self.weight or 0.0)},
                selects="budget",
            ),
        )
