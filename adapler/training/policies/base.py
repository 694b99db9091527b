"""What the training of a removal policy is: the stages that its model goes through.

A policy that says nothing has the default: one stage of fine-tuning with tokens really removed. Another training is a
subclass of `PolicyTraining` with the decorator `@policy_training("name")`, the name of its policy.

Dimensions: B batch, N padded length, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import datasets
import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.backbones.checkpoints import is_fine_tuned, read_config, reinitialise_head
from adapler.data.tasks import Task
from adapler.distributed import processes
from adapler.errors import ArgumentError
from adapler.inference.evaluation import evaluate_rows
from adapler.model import flops
from adapler.model.modeling import AdapLeRForSequenceClassification
from adapler.model.outputs import AdapLeROutput
from adapler.model.passes import hard_pass
from adapler.policies import Policy, policy_class, policy_names
from adapler.policies.top_k import USUAL_KEEP
from adapler.registry import Registry
from adapler.training.policies.settings import OURS, PolicySettings
from adapler.training.settings import Settings

Selects = Literal["budget", "score", "last"]
# Of PolicySettings: what a policy without parameters and losses of its own has no use for.
OF_PARAMETERS = ("policy_learning_rate", "policy_temperature", "student_cosine")


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
        return self.model(**{name: value for name, value in self.batch.items() if name != "saliency"}, **options)

    def removed_by(self, policy: Policy) -> AdapLeROutput:
        """Hard removal of the batch by another policy than the model's, such as one that draws; without a loss."""
        mask = self.batch["attention_mask"]
        return hard_pass(
            self.core.backbone,
            policy,
            input_ids=self.batch["input_ids"],
            mask=mask,
            positions=families.position_ids(self.core.backbone, mask),
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


class PolicyTraining:
    """The training of one policy (or of another system that `adapler run` compares).

    Attributes:
        name: of the policy; set by @policy_training.
        usual: names of the stages with their default epochs.
        unused: fields of PolicySettings that it does not read; giving one is an error.
        one_process: whether its forward passes are not those of `Step.forward`, so that several processes would not
            share their gradients.
        work: what it works with.
        epochs: of each stage, by its name.
    """

    name: ClassVar[str] = ""
    usual: ClassVar[Mapping[str, int]] = {"train": 3}
    unused: ClassVar[tuple[str, ...]] = ()
    one_process: ClassVar[bool] = False

    def __init__(self, work: Work) -> None:
        self.work = work
        self.epochs = self.stage_epochs(work.policy, task=work.task.name)

    @classmethod
    def check(cls, policy: PolicySettings, *, task: str) -> None:
        """Refuses, before long work, what the policy does not take.

        Raises:
            ArgumentError: epochs of other stages, a budget that it does not have, or several processes for a training
                that runs in one.
        """
        if cls.one_process and processes() > 1:
            raise ArgumentError(f"--policy: {policy.policy} trains in one process, {processes()} were started")
        cls.stage_epochs(policy, task=task)
        has_keep = policy.policy in policy_names() and _has_keep(policy.policy)
        unused = OF_PARAMETERS if cls is PolicyTraining else cls.unused
        found = {"keep": has_keep, "policy_weight": cls.usual_weight(task) is not None, **dict.fromkeys(unused, False)}
        for name, has in found.items():
            if getattr(policy, name) != getattr(PolicySettings, name) and not has:
                raise ArgumentError(f"--{name.replace('_', '-')}: the policy {policy.policy!r} has none")

    @classmethod
    def stage_epochs(cls, policy: PolicySettings, *, task: str) -> dict[str, int]:
        """Epochs of each stage: what is asked for, else the usual ones.

        Raises:
            ArgumentError: numbers for more or fewer stages than there are.
        """
        given, usual = policy.policy_epochs, cls.usual_epochs(task)
        if given is not None and len(given) != len(usual):
            raise ArgumentError(
                f"--policy-epochs: {len(given)} values, the stages of {policy.policy!r} are "
                f"{len(usual)}: {', '.join(usual)}"
            )
        return dict(zip(usual, given or usual.values(), strict=True))

    @classmethod
    def usual_epochs(cls, task: str) -> Mapping[str, int]:
        """Epochs of each stage in its paper, where they differ between tasks; default: `usual`."""
        return cls.usual

    @classmethod
    def usual_weight(cls, task: str) -> float | None:
        """The weight of its paper for a task; None for a training without such a weight."""
        return None

    @classmethod
    def point(cls, policy: PolicySettings, *, task: str) -> str:
        """The name of a point's folder: the policy and its budget."""
        if policy.policy in policy_names() and _has_keep(policy.policy):
            return f"{policy.policy}-keep-{USUAL_KEEP if policy.keep is None else policy.keep:g}"
        weight = cls.usual_weight(task) if policy.policy_weight is None else policy.policy_weight
        return policy.policy if weight is None else f"{policy.policy}-{weight:g}"

    @property
    def weight(self) -> float | None:
        """Of the loss that makes the policy drop."""
        given = self.work.policy.policy_weight
        return self.usual_weight(self.work.task.name) if given is None else given

    def options(self) -> dict[str, Any]:
        """`config.policy_options` of the model before the first stage; default: `keep` and `seed`, if it has them."""
        known = {one.name for one in fields(policy_class(self.work.policy.policy).Options)}
        values = {"keep": self.work.policy.keep, "seed": self.work.settings.seed}
        return {name: value for name, value in values.items() if name in known and value is not None}

    def build(self) -> Any:
        """The model before the first stage."""
        model = AdapLeRForSequenceClassification.from_backbone(
            self.work.start,
            labels=list(self.work.task.labels),
            policy=self.work.policy.policy,
            policy_options=self.options(),
        )
        if not is_fine_tuned(read_config(self.work.start)):
            reinitialise_head(model.backbone, mode=self.work.reinit_head, fine_tuned=False)
        return model

    def stages(self) -> tuple[Stage, ...]:
        """In their order; as many as `usual` names."""
        rate = self.work.settings.learning_rate
        return (Stage(name="train", epochs=self.epochs["train"], removal="hard", backbone_rate=rate),)

    def load(self, folder: str | Path) -> Any:
        """A model that one of the stages saved."""
        return AdapLeRForSequenceClassification.from_pretrained(folder)

    def facts(self, model: Any) -> dict[str, Any]:
        """What the record of a finished point says beside the numbers of its stages; JSON-ready."""
        return {}

    def speedup(self, model: Any, lengths_in: Tensor, lengths: Tensor) -> float:
        """FLOPs of the fine-tuned classifier / the model's: (B,) true lengths, (B, L) tokens that enter each layer."""
        return flops.speedup(model.config, lengths_in, lengths)

    def evaluate(self, model: Any, rows: datasets.Dataset, *, metric: str) -> dict[str, Any]:
        """Score and speedup on a split in float32, as `evaluate_rows` gives them."""
        return evaluate_rows(
            model.for_inference(dtype="float32"), rows, pad_token_id=self.work.tokenizer.pad_token_id, metric=metric
        )


Made = TypeVar("Made", bound=type[PolicyTraining])
TRAININGS = Registry[PolicyTraining]("policy training")


def policy_training(name: str) -> Callable[[Made], Made]:
    """Registers the training of a policy under the policy's name.

    Raises:
        ArgumentError: the policy has another one, see `Registry.entry`.
    """
    return TRAININGS.entry(name)


def training_class(name: str) -> type[PolicyTraining]:
    """The training of a policy; the default where it has none of its own.

    Raises:
        ArgumentError: no policy has this name.
    """
    if name in OURS:
        import_module(OURS[name])
    found = TRAININGS.find(name)
    if found is None:
        policy_class(name)
    return found or PolicyTraining


def _has_keep(name: str) -> bool:
    return any(one.name == "keep" for one in fields(policy_class(name).Options))
