"""What the training of a removal policy is: the stages that its model goes through.

A policy that says nothing has the default: one stage of fine-tuning with tokens really removed. Another training is a
subclass of `PolicyTraining` with the decorator `@policy_training("name")`, the name of its policy.

Dimensions: B batch, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import datasets
from torch import Tensor

from adapler import flops
from adapler.backbones.loading import is_fine_tuned, read_config, reinitialise_head
from adapler.distributed import processes
from adapler.errors import ArgumentError, counted
from adapler.inference.evaluation import evaluate_rows
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.policies import policy_class, policy_names
from adapler.policies.top_k import USUAL_KEEP
from adapler.registry import Registry
from adapler.training.policies.settings import OURS, PolicySettings
from adapler.training.policies.stage import Stage, Work

# Of PolicySettings: what a policy without parameters and losses of its own has no use for.
OF_PARAMETERS = ("policy_learning_rate", "policy_temperature", "student_cosine")


class PolicyTraining:
    """The training of one policy (or of another system that `adapler run` compares).

    Attributes:
        name: of the policy; set by @policy_training.
        usual: names of the stages with their default epochs.
        unused: fields of PolicySettings that it does not read; giving one is an error.
        usual_temperature: what `--policy-temperature` is by default; None for a training without one.
        one_process: whether its forward passes are not those of `Step.forward`, so that several processes would not
            share their gradients.
        fewest_layers: of the backbone.
        work: what it works with.
        epochs: of each stage, by its name.
    """

    name: ClassVar[str] = ""
    usual: ClassVar[Mapping[str, int]] = {"train": 3}
    unused: ClassVar[tuple[str, ...]] = ()
    usual_temperature: ClassVar[float | None] = None
    one_process: ClassVar[bool] = False
    fewest_layers: ClassVar[int] = 1

    def __init__(self, work: Work) -> None:
        self.work = work
        self.epochs = self.stage_epochs(work.policy, task=work.task.name)

    @classmethod
    def check(cls, policy: PolicySettings, *, task: str, layers: int) -> None:
        """Refuses, before long work, what the policy does not take.

        Args:
            policy: name, budget and rates.
            task: its name.
            layers: of the backbone.

        Raises:
            ArgumentError: epochs of other stages, a budget that it does not have, several processes for a training
                that runs in one, or a backbone of too few layers.
        """
        if layers < cls.fewest_layers:
            raise ArgumentError(
                f"--policy: {policy.policy} needs {cls.fewest_layers} layers at least, the backbone has {layers}"
            )
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
            stages = f"{counted(len(usual), 'stage')}: {', '.join(usual)}"
            raise ArgumentError(f"--policy-epochs: {counted(len(given), 'value')}, {policy.policy!r} has {stages}")
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
    def usual_rate(cls, task: str, *, learning_rate: float) -> float | None:
        """The learning rate of the policy's own parameters, where that of the backbone is this; None without any."""
        return None

    @classmethod
    def usual_values(cls, policy: str, *, task: str, learning_rate: float) -> dict[str, Any]:
        """Of fields of PolicySettings: what is meant where none is given."""
        return {
            "policy_weight": cls.usual_weight(task),
            "keep": USUAL_KEEP if policy in policy_names() and _has_keep(policy) else None,
            "policy_learning_rate": cls.usual_rate(task, learning_rate=learning_rate),
            "policy_temperature": cls.usual_temperature,
        }

    @classmethod
    def point(cls, policy: PolicySettings, *, task: str) -> str:
        """The name of a point's folder: the policy and its budget."""
        usual = cls.usual_values(policy.policy, task=task, learning_rate=0.0)
        if usual["keep"] is not None:
            return f"{policy.policy}-keep-{usual['keep'] if policy.keep is None else policy.keep:g}"
        weight = usual["policy_weight"] if policy.policy_weight is None else policy.policy_weight
        return policy.policy if weight is None else f"{policy.policy}-{weight:g}"

    @property
    def usual_here(self) -> dict[str, Any]:
        """`usual_values` of this training."""
        rate = self.work.settings.learning_rate
        return self.usual_values(self.work.policy.policy, task=self.work.task.name, learning_rate=rate)

    @property
    def chosen(self) -> dict[str, Any]:
        """The fields of PolicySettings, with what is meant where none is given."""
        values = asdict(self.work.policy) | {"policy_epochs": list(self.epochs.values())}
        return values | {name: usual for name, usual in self.usual_here.items() if values[name] is None}

    @property
    def weight(self) -> float | None:
        """Of the loss that makes the policy drop."""
        weight: float | None = self.chosen["policy_weight"]
        return weight

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
