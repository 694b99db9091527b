"""A stage of a policy's training, one step of it, and what a training works with.

Dimensions: B batch, N padded length, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import datasets
import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import position_ids
from adapler.data import Task
from adapler.outputs import AdapLeROutput
from adapler.passes import hard_pass
from adapler.policies import Policy
from adapler.training.policies.settings import PolicySettings
from adapler.training.settings import Settings

Selects = Literal["budget", "score", "last"]


@dataclass(frozen=True)
class Work:
    """What a training works with.

    Attributes:
        task: names, labels, metric.
        rows: the encoded splits, train and validation.
        tokenizer: the backbone's.
        max_length: of the encoded rows, at most.
        start: where the model starts: a fine-tuned classifier or a pre-trained encoder, hub name or folder.
        settings: of optimisation. Each stage has its own number of epochs.
        policy: name, budget and rates; None where its paper's values are meant.
        load_teacher: loads the fine-tuned classifier, on its device, without gradients, ready for `plain_pass`.
        reinit_head: of an encoder, see `checkpoints.reinitialise_head`.
    """

    task: Task
    rows: datasets.DatasetDict
    tokenizer: Any
    max_length: int
    start: str | Path
    settings: Settings
    policy: PolicySettings
    load_teacher: Callable[[], PreTrainedModel]
    reinit_head: str = "auto"


@dataclass(frozen=True)
class Step:
    """One batch of a stage.

    Attributes:
        model: what a forward pass is asked of (`forward`), so that processes share their gradients.
        core: the model itself.
        batch: input_ids, attention_mask, labels, perhaps token_type_ids; and `saliency`, (B, N) or (B, K, N), where the
            stage's rows have it.
        progress: share of the stage's steps that lie behind, from 0 to below 1.
        generator: on the CPU, for draws. Its seed depends on the run's seed and the step alone, so that a training that
            was stopped goes on with the same draws.
        taught: (B, C) logits of the fine-tuned classifier, in a stage that distils.
        taught_states: (B, D) last hidden states that its head reads, likewise.
    """

    model: Any
    core: Any
    batch: Mapping[str, Tensor]
    progress: float
    generator: torch.Generator
    taught: Tensor | None = None
    taught_states: Tensor | None = None

    def forward(self, **options: Any) -> Any:
        """The model's output on the batch, labels included; options as of its `forward` (removal)."""
        inputs = {name: value for name, value in self.batch.items() if name != "saliency"}
        return self.model(**inputs, **options, return_dict=True)  # whatever the model's configuration says

    def removed_by(self, policy: Policy) -> AdapLeROutput:
        """Hard removal of the batch by another policy than the model's, such as one that draws; without a loss."""
        mask = self.batch["attention_mask"]
        return hard_pass(
            self.core.backbone,
            policy,
            input_ids=self.batch["input_ids"],
            mask=mask,
            positions=position_ids(self.core.backbone.config, mask),
            token_type_ids=self.batch.get("token_type_ids"),
            scale=1.0,
            remove=True,
        )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage; a subclass has losses of its own. The model of an earlier stage goes on in the next one.

    Attributes:
        name: of its folder and in the record.
        epochs: passes over the training set.
        removal: "soft" (gates), "hard" (tokens really removed; gradients flow through those that stay) or "none".
        backbone_rate, policy_rate: learning rates of the backbone (with its head) and of the policy's parameters; None:
            they stay as they are.
        policy_decay: whether matrices of the policy have weight decay, as those of the backbone.
        weights: of the losses by name; 1 where it says nothing, 0 for what is only logged.
        selects: which evaluated point is kept: "budget" (the fastest one whose validation score is at most `max_drop`
            below the fine-tuned classifier's), "score" (the best score) or "last".
        distils: whether a step has the teacher's logits.
    """

    name: str
    epochs: int
    removal: Literal["soft", "hard", "none"] = "hard"
    backbone_rate: float | None
    policy_rate: float | None = None
    policy_decay: bool = True
    weights: Mapping[str, float] = field(default_factory=dict)
    selects: Selects = "score"
    distils: bool = False

    def rows(self, model: Any, work: Work) -> datasets.Dataset:
        """The training rows, asked for once before the first step (again after an interruption).

        What is prepared for each token comes as a column `saliency` of lists, (n,) or (K, n) for each row.
        """
        return work.rows["train"]

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Scalars by name; the weighted sum is trained. Their names are the same in every step."""
        return {"cross_entropy": step.forward(removal=self.removal).loss.float()}

    def after_step(self, model: Any) -> None:
        """After each optimiser step, such as to keep parameters in their bounds."""

    def numbers(self, model: Any) -> dict[str, Any]:
        """What the record says of an evaluated point beside score, speedup and lengths; JSON-ready."""
        return {}

    def finish(self, model: Any, work: Work) -> None:
        """What becomes of the selected point's model before it is saved."""
