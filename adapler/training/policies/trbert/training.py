"""TR-BERT's training: the policy alone, then policy and backbone together (Ye et al., NAACL 2021).

It starts from a fine-tuned classifier. What differs from the paper's own code is in docs/explanation/policies.md.

Dimensions: K samples of each text, B batch, N padded length, P points, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import datasets
import torch
from torch import Tensor

from adapler.policies.trbert import FEWEST_LAYERS, points
from adapler.training.arguments import use_bfloat16
from adapler.training.policies.base import PolicyTraining, policy_training
from adapler.training.policies.stage import Stage, Step, Work
from adapler.training.policies.trbert.guide import with_guide
from adapler.training.policies.trbert.losses import (
    cross_entropies,
    policy_loss,
    repeated,
    reward,
    soft_cross_entropy,
)
from adapler.training.policies.trbert.sampling import SampledPolicy

SAMPLES = 8  # K
GUIDE_RATE = 0.5  # the share of the first stage's steps in which one sample of each text imitates
POLICY_RATE = 3e-5
ALPHA = 1.0


@dataclass(frozen=True, kw_only=True)
class Drawn(Stage):
    """A stage in which the decisions are drawn, K times for each text, and tokens really removed.

    The likelihood's gradient ends at the states that the policy reads: the policy's loss trains the policy, the task's
    loss the backbone.

    Attributes:
        alpha: what a token that stays costs, see `losses.reward`.
        samples: K.
        temperature: of both distributions in distillation.
        guide_rate: one sample of each text imitates the guide in this share of the steps, from the first on.
    """

    alpha: float
    samples: int = SAMPLES
    temperature: float = 1.0
    guide_rate: float = 0.0

    def rows(self, model: Any, work: Work) -> datasets.Dataset:
        """The training rows, with the guide's scores where a sample imitates."""
        rows = work.rows["train"]
        if not self.guide_rate:
            return rows
        return with_guide(
            rows,
            work.load_teacher(),
            points=points(model.num_layers),
            pad_token_id=work.tokenizer.pad_token_id,
            autocast=use_bfloat16(work.settings.precision),
        )

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The task's loss, the policy's, and for the log the mean reward and the share of tokens kept."""
        samples, mask = self.samples, step.batch["attention_mask"]
        inputs = {
            name: repeated(step.batch[name], samples)
            for name in ("input_ids", "attention_mask", "token_type_ids")
            if name in step.batch
        }  # (K B, N)
        policy = SampledPolicy(
            step.core.policy,
            shape=inputs["input_ids"].shape,
            layers=step.core.num_layers,
            generator=step.generator,
            **self._imitation(step),
        )
        output = replace(step, batch=inputs).removed_by(policy)
        logits = cast(Tensor, output.logits).view(samples, len(mask), -1)  # (K B, C) -> (K, B, C)
        losses = self._task_losses(logits, step)  # (K, B)
        kept = policy.kept(repeated(mask.sum(1), samples)).view(-1, *losses.shape)  # (P, K B) -> (P, K, B)
        rewards = reward(losses, kept, alpha=self.alpha)  # (K, B)
        return {
            "distillation" if self.distils else "cross_entropy": losses.mean(),
            "policy": policy_loss(rewards, policy.nll.view_as(losses)),
            "reward": rewards.mean(),
            "kept": kept.mean(),
        }

    def _imitation(self, step: Step) -> dict[str, Any]:
        """The first sample of each text imitates, while the guide lasts."""
        if step.progress >= self.guide_rate:
            return {}
        guide = step.batch["saliency"]  # (B, P, N)
        rows = torch.arange(self.samples * len(guide), device=guide.device)
        return {"guide": repeated(guide, self.samples), "imitates": rows < len(guide)}

    def _task_losses(self, logits: Tensor, step: Step) -> Tensor:
        """(K, B) from logits (K, B, C)."""
        if step.taught is None:
            return cross_entropies(logits, step.batch["labels"])
        return soft_cross_entropy(logits, step.taught.expand_as(logits), temperature=self.temperature)


@policy_training("trbert")
class TRBertTraining(PolicyTraining):
    """The policy alone with imitation, then joint training with distillation instead of cross-entropy."""

    usual: ClassVar[Mapping[str, int]] = {"policy": 3, "joint": 3}
    unused: ClassVar[tuple[str, ...]] = ("student_cosine",)
    usual_temperature: ClassVar[float | None] = 1.0
    one_process: ClassVar[bool] = True
    fewest_layers: ClassVar[int] = FEWEST_LAYERS

    @classmethod
    def usual_weight(cls, task: str) -> float | None:
        """alpha."""
        return ALPHA

    @classmethod
    def usual_rate(cls, task: str, *, learning_rate: float) -> float:
        """Of the policy, in both stages."""
        return POLICY_RATE

    def stages(self) -> tuple[Stage, ...]:
        """See the class."""
        settings, chosen = self.work.settings, self.chosen
        rate, temperature = chosen["policy_learning_rate"], chosen["policy_temperature"]
        logged = {"reward": 0.0, "kept": 0.0}
        alpha = ALPHA if self.weight is None else self.weight
        return (
            Drawn(
                name="policy",
                epochs=self.epochs["policy"],
                backbone_rate=None,
                policy_rate=rate,
                weights={"cross_entropy": 0.0, **logged},
                selects="last",
                alpha=alpha,
                guide_rate=GUIDE_RATE,
            ),
            Drawn(
                name="joint",
                epochs=self.epochs["joint"],
                backbone_rate=settings.learning_rate,
                policy_rate=rate,
                weights=logged,
                selects="budget",
                distils=True,
                alpha=alpha,
                temperature=temperature,
            ),
        )
