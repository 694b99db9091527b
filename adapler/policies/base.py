"""Removal policies: the protocol of inference (`Policy`) and of training (`Training`, `Stage`, `Step`).

A policy is one file: its inference, its losses and stages, and the options of its training. In this package the file is
found by itself; elsewhere it is imported before a model that uses it is built or loaded (or named in ADAPLER_PLUGINS).
A policy without a `Training` of its own is fine-tuned in one stage with tokens really removed.

Dimensions: B sequences, T tokens of a packed row, N padded length, D hidden size, L layers, C labels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from adapler.backbones.received import Reads, Received
from adapler.contribution import retention
from adapler.errors import ArgumentError, counted
from adapler.options import option
from adapler.predictors import Cost, PackedRow
from adapler.registry import Registry

Place = Literal["before", "between"]
Fades = Literal["attention", "feed_forward", "output"]


@dataclass(frozen=True)
class LayerView:
    """The input of a policy's decision in a layer.

    Attributes:
        index: of the layer, from 0.
        hidden: (T, D) the tokens' states: at the layer's input, or after its attention for a policy "between".
        row: where the sequences begin and end, and where their tokens stood in the input.
        received: the attention that each token got in this layer, as far as the policy reads it; None for a policy
            that decides before it.
    """

    index: int
    hidden: Tensor
    row: PackedRow
    received: Received | None = None

    @property
    def attention(self) -> Received:
        """The attention that each token got.

        Raises:
            ArgumentError: the policy decides before the layer.
        """
        if self.received is None:
            raise ArgumentError('policy: attention is known only to a policy with place = "between"')
        return self.received


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Of a policy that has none."""


class Policy(nn.Module, ABC):
    """Which tokens a layer drops: those whose score is below a bar. [CLS] always stays.

    What it says of a token may depend on the tokens of the same sequence only, and not on padding, on the other
    sequences of a batch, or on their order. Scores and bars are in float32 or better (use `ExactLinear`).

    Attributes:
        name: in the registry; set by @policy.
        place: "before" a layer's attention, or "between" its attention and its feed-forward network. A policy
            "between" does nothing in the last layer, which runs for [CLS] only.
        reads: what a policy "between" reads of its layer's attention: "all" that each token received, "cls" for what
            [CLS] gives, or "nothing". Weights that it does not read are not computed: fused kernels hold none.
        fades: what a token's gate multiplies in soft training (`gate`): its weight in the attention of others, with its
            state carried past the layer; the input of the feed-forward network; or the layer's output.
        last_scale: the threshold scale at which its bar is the highest score there can be, so that hardly a token
            stays: 2 for a probability that has to reach half the scale; infinite where scores have no such end.
        Options: numbers of the policy, a frozen dataclass with defaults; `config.policy_options` holds them.
        Training: how it trains; default: fine-tuning with tokens really removed.
        soft_options: arguments of the model's `forward` that its soft removal takes.
        options: those of this model.

    Args:
        config: the AdapLeRConfig.
    """

    name: ClassVar[str]
    place: ClassVar[Place] = "before"
    reads: ClassVar[Reads] = "all"
    fades: ClassVar[Fades] = "attention"
    last_scale: ClassVar[float] = math.inf
    Options: ClassVar[type] = NoOptions
    Training: ClassVar[type[Training]]
    soft_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.options: Any = options_of(type(self), config.policy_options)

    def reset_parameters(self) -> None:
        """Set all parameters to where training starts, with the functions of `transformers.initialization`."""

    @classmethod
    def decides(cls, index: int, *, layers: int) -> bool:
        """Whether it may drop tokens in a layer; default: in every one that `place` allows."""
        return cls.place == "before" or index < layers - 1

    @abstractmethod
    def score(self, view: LayerView) -> Tensor:
        """(T,) scores; higher ones stay."""

    @abstractmethod
    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """The lowest score that stays.

        Args:
            view: the layer.
            scores: (T,).
            scale: above 0 (at 0 nothing is dropped, and this is not called); below 1 the bar is lower and more tokens
                stay, above 1 it is higher.

        Returns:
            (B,) a bar for each sequence.
        """

    def gate(self, view: LayerView, scores: Tensor) -> Tensor:
        """(T,) in [0, 1], differentiable: how much of each token is there after the decision, in soft training.

        Raises:
            ArgumentError: a policy without soft training.
        """
        raise ArgumentError(f"policy: {self.name!r} has no soft removal; it trains with tokens really removed")

    def soft(self, backbone: Any, **inputs: Any) -> Any:
        """Soft removal, the differentiable forward pass of training: an AdapLeROutput. Default: `gate`s.

        Args:
            backbone: the plain classifier.
            inputs: input_ids, mask, positions (B, N) and token_type_ids, see `hard_pass`, and those of `soft_options`
                that the caller gives.
        """
        from adapler.passes import gated_pass

        return gated_pass(backbone, self, **inputs)

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        """FLOPs of the scores of one layer beyond what the layer computes anyway; default: none."""
        return Cost(token=0.0)


Made = TypeVar("Made", bound=type[Any])
POLICIES = Registry[Policy]("policy")
SYSTEMS = Registry[Any]("system")  # trainings of systems that remove no token, by name


def policy(name: str) -> Callable[[Made], Made]:
    """Register a policy class under the name that `config.policy` and `--policy` call it by.

    Raises:
        ArgumentError: the name is taken, see `Registry.entry`.
    """
    return POLICIES.entry(name)


def system(name: str) -> Callable[[Made], Made]:
    """Register the `Training` of a system to compare with that removes no token, for `--policy`."""
    return SYSTEMS.entry(name)


def policy_names() -> list[str]:
    """The names of all policies that are registered."""
    return POLICIES.names()


def policy_class(name: str) -> type[Policy]:
    """The policy of a name; arguments and errors as of `Registry.get`."""
    return POLICIES.get(name)


def training_class(name: str) -> type[Training]:
    """The training of a policy or of another system.

    Raises:
        ArgumentError: nothing has this name.
    """
    return SYSTEMS.find(name) or POLICIES.get(name, others=SYSTEMS.names()).Training


def options_of(kind: type[Policy], values: dict[str, Any] | None) -> Any:
    """The `Options` of a policy, from a configuration's dictionary.

    Raises:
        ArgumentError: a name that the policy does not have, or a value that its Options refuse.
    """
    known = [one.name for one in fields(kind.Options)]
    for name in values or {}:
        if name not in known:
            raise ArgumentError(
                f"policy_options: {name!r} is none of policy {kind.name!r}; it has {', '.join(known) or 'none'}"
            )
    return kind.Options(**(values or {}))


def stays(scores: Tensor, bar: Tensor, *, row: PackedRow) -> Tensor:
    """Hard removal: which tokens stay, (T,) bool.

    Args:
        scores: (T,).
        bar: (B,).
        row: of the tokens.
    """
    reached = retention(scores, row.segments.spread(bar))
    return reached.index_fill_(0, row.segments.first, True)


# Training


@dataclass(frozen=True, kw_only=True)
class Step:
    """One batch of a stage.

    Attributes:
        model: what runs a forward pass: the model, in several processes inside the wrapper that averages gradients.
        core: the model itself.
        batch: input_ids (B, N), attention_mask, labels (B,), perhaps token_type_ids; and `targets`, (B, N) or
            (B, K, N), where the stage's rows have them.
        number, steps: this optimiser step, from 0, and how many the stage has.
        epoch, epochs: this epoch, from 0, and how many the stage has.
        by_steps: whether the stage is counted or evaluated by steps, and not by epochs.
        share: of the optimiser step that this batch is: 1 / accumulation.
        processes: that train together.
        autocast: context of the forward pass.
        run_backward: (loss, **options), the backward pass of a loss; see `backward`.
        generator: on the CPU, for draws. Its seed depends on the run's seed and the step alone, so that a resumed
            training goes on with the same draws.
        reduced: (tensor) -> its sum over all processes.
        taught: (B, C) logits of the fine-tuned classifier, in a stage that distils.
        taught_states: (B, D) last hidden states that its head reads, likewise.
    """

    model: Any
    core: Any
    batch: Mapping[str, Tensor]
    number: int
    steps: int
    epoch: int
    epochs: int
    by_steps: bool
    share: float
    processes: int
    autocast: Callable[[], AbstractContextManager[Any]]
    run_backward: Callable[..., None]
    generator: torch.Generator
    reduced: Callable[[Tensor], Tensor]
    taught: Any = None
    taught_states: Any = None

    @property
    def progress(self) -> float:
        """Share of the stage's steps that lie behind, from 0 to below 1."""
        return self.number / self.steps

    def forward(self, **options: Any) -> Any:
        """The model's output on the batch, labels included; options as of its `forward` (removal)."""
        inputs = {name: value for name, value in self.batch.items() if name != "targets"}
        return self.model(**inputs, **options, return_dict=True)  # whatever the model's configuration says

    def removed_by(self, policy: Policy, **inputs: Tensor) -> Any:
        """Hard removal by another policy than the model's, such as one that draws; without a loss.

        Args:
            policy: what drops tokens.
            inputs: in place of the batch's: input_ids, attention_mask and perhaps token_type_ids, (B', N) each.
        """
        from adapler.backbones import position_ids
        from adapler.passes import hard_pass

        return hard_pass(
            self.core.backbone,
            policy,
            input_ids=inputs["input_ids"],
            mask=inputs["attention_mask"],
            positions=position_ids(self.core.backbone.config, inputs["attention_mask"]),
            token_type_ids=inputs.get("token_type_ids"),
            scale=1.0,
            remove=True,
        )

    def backward(self, loss: Tensor, **options: Any) -> None:
        """Add the gradient of a loss, weighted by the batch's share; options as of `Tensor.backward`."""
        self.run_backward(self.share * loss, **options)


NEAR_TARGET = 0.1  # how far from a target speedup an evaluated point may be, as a share of it


def is_near(gain: float, target: float) -> bool:
    """Whether a speedup is within 10 % of a target, up to a rounding error."""
    return abs(gain - target) <= (NEAR_TARGET + 1e-9) * target


def qualifies(score: float, *, reference: float | None, max_drop: float) -> bool:
    """Whether a validation score is at most `max_drop` below the fine-tuned classifier's, up to a rounding error."""
    return reference is not None and score >= reference - max_drop - 1e-9


def selection_value(
    score: float, gain: float, *, reference: float | None, max_drop: float, target: float | None = None
) -> float:
    """A number whose maximum over the evaluated points (epochs, or steps) is the selection rule.

    Without a target: among the points whose validation score is at most `max_drop` below the fine-tuned model's, the
    one with the highest FLOPs speedup. When none qualifies, the one with the best score, of equal ones the fastest.

    With a target: among the points whose speedup is within 10 % of it, the one with the best score, of equal ones
    the fastest. When none qualifies, the one whose speedup is nearest to it.

    A point that qualifies has a value above 1, another one a value of at most 1.
    """
    if target is not None:
        return 1 + score + 1e-9 * gain if is_near(gain, target) else min(gain / target, target / gain)
    return 1 + gain if qualifies(score, reference=reference, max_drop=max_drop) else score - 1e-9 / gain


@dataclass(kw_only=True)
class Stage:
    """One stage of a training; a subclass has losses of its own. The next stage goes on with its model.

    Attributes:
        name: of its folder and in the record.
        epochs: passes over the training set.
        removal: "soft" (gates), "hard" (tokens really removed; gradients flow through those that stay) or "none".
        rates: learning rate of each group of parameters; None: they stay as they are.
        no_decay: groups without weight decay.
        clipped: groups whose gradients are clipped by one common norm; default: each group by itself.
        constant: groups whose learning rate stays up after the warmup.
        by_hand: names of parameters whose gradients the stage sets itself.
        weights: of the losses by name; 1 where it says nothing, 0 for what is only logged.
        selects: which evaluated point is kept: "budget" (see `selection_value`), "score" (the best) or "last".
        distils: whether a step has the teacher's logits and states.
        average_decay: of the running average of the weights that is evaluated and kept; 0: none.
    """

    name: str = "train"
    epochs: int = 3
    removal: Literal["soft", "hard", "none"] = "hard"
    rates: Mapping[str, float | None] = field(default_factory=dict)
    no_decay: tuple[str, ...] = ()
    clipped: tuple[tuple[str, ...], ...] = ()
    constant: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    selects: Literal["budget", "score", "last"] = "score"
    distils: bool = False
    average_decay: float = 0.0

    def group_of(self, parameter: str) -> str:
        """The group of a parameter, a key of `rates`; default: "policy" and "backbone" (with its head)."""
        return "policy" if parameter.startswith("policy.") else "backbone"

    def rows(self, model: Any, work: Work) -> Any:
        """The training rows, asked for once before the first step (again after an interruption).

        What is prepared for each token comes as a column `targets` of lists, (n,) or (K, n) for each row.
        """
        return work.rows["train"]

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Scalars by name; the weighted sum is trained. Their names are the same in every step."""
        return {"cross_entropy": step.forward(removal=self.removal).loss.float()}

    def train_step(self, step: Step) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a batch, and the gradient of their weighted sum; returns them and the sum."""
        with step.autocast():
            parts = self.losses(step)
        loss = torch.stack([self.weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
        step.backward(loss)
        return parts, loss

    def after_step(self, model: Any) -> None:
        """After each optimiser step, such as to keep parameters in their bounds."""

    def numbers(self, model: Any) -> dict[str, Any]:
        """What the record says of an evaluated point beside score, speedup and lengths; JSON-ready."""
        return {}

    def logged(self) -> dict[str, float]:
        """What the log says of a step beside losses and gradient norms."""
        return {}

    def value(self, score: float, gain: float, *, reference: float | None, max_drop: float, step: int) -> float:
        """The selection value of an evaluated point, see `selection_value`."""
        if self.selects == "last":
            return float(step)
        if self.selects == "score":
            return score - 1e-9 / max(gain, math.ulp(1.0))
        return selection_value(score, gain, reference=reference, max_drop=max_drop)

    def evaluated(self, metrics: dict[str, Any]) -> None:
        """After an evaluation during training; may add to its metrics."""

    def state(self) -> dict[str, Any]:
        """What a resumed training needs beside the weights; JSON-ready."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""

    def finish(self, model: Any, work: Work) -> dict[str, Any]:
        """Change the selected point's model before it is saved; returns what the record says of that."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a training works with.

    Attributes:
        policy: the name of the policy or system.
        options: its `Settings`, with defaults filled in.
        task: names, labels, metric.
        rows: the encoded splits, train and validation.
        tokenizer: the backbone's.
        max_length: of the encoded rows, at most.
        start: where the model starts: a fine-tuned classifier or a pre-trained encoder, hub name or folder.
        settings: of optimisation, see `adapler.training.config.Optimisation`.
        autocast: whether training computes in bfloat16.
        load_teacher: loads the fine-tuned classifier, on its device, without gradients, ready for `plain_pass`.
        reinit_head: of an encoder, see `checkpoints.reinitialise_head`.
    """

    policy: str
    options: Any
    task: Any
    rows: Any
    tokenizer: Any
    max_length: int
    start: str | Path
    settings: Any
    autocast: bool
    load_teacher: Callable[[], Any]
    reinit_head: str = "auto"

    @property
    def pad_token_id(self) -> int:
        """The tokenizer's."""
        return int(self.tokenizer.pad_token_id)


@dataclass(kw_only=True)
class TrainingOptions:
    """Training of the policy."""

    policy_epochs: list[int] | None = option(
        "epochs of each stage of the policy's training (default: --max-steps in each, or the policy's own)",
        default=None,
    )

    def __post_init__(self) -> None:
        for epochs in self.policy_epochs or ():
            if epochs < 1:
                raise ArgumentError(f"--policy-epochs: {epochs} is not at least 1")


class Training:
    """How a policy, or another system that `adapler run` compares, trains: its options, its model and its stages.

    Attributes:
        Settings: options of `adapler run --policy NAME`; a dataclass of `option`s, with `policy_epochs`.
        presets: values of options by the name of a preset; the first one is the default.
        budget: the option whose values are points of a trade-off; "" for a single point.
        one_process: whether its forward passes are not those of `Step.forward`, so that several processes would not
            share their gradients.
        fewest_layers: of the backbone.
        work: what it works with.
    """

    Settings: ClassVar[type[TrainingOptions]] = TrainingOptions
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"recommended": {}, "paper": {}}  # whose values are defaults
    budget: ClassVar[str] = ""
    one_process: ClassVar[bool] = False
    fewest_layers: ClassVar[int] = 1

    def __init__(self, work: Work) -> None:
        self.work, self.options = work, work.options

    @classmethod
    def defaults(cls, task: str, *, settings: Any, start: str | Path) -> dict[str, Any]:
        """Values of options that are None, with the epochs of each stage.

        Args:
            task: its name.
            settings: of optimisation.
            start: where training starts.
        """
        return {"policy_epochs": [3]}

    @classmethod
    def resolve(cls, options: Any, *, task: str, settings: Any, start: str | Path) -> Any:
        """The options with `defaults` filled in.

        Raises:
            ArgumentError: epochs for more or fewer stages than there are.
        """
        usual = cls.defaults(task, settings=settings, start=start)
        if options.policy_epochs is not None and len(options.policy_epochs) != len(usual["policy_epochs"]):
            stages, given = len(usual["policy_epochs"]), len(options.policy_epochs)
            raise ArgumentError(f"--policy-epochs: {counted(given, 'value')} for {counted(stages, 'stage')}")
        return replace(options, **{name: value for name, value in usual.items() if getattr(options, name) is None})

    @classmethod
    def points(cls, options: Any) -> list[Any]:
        """The options of each point of a trade-off: one value of the budget in each."""
        values = getattr(options, cls.budget) if cls.budget else None
        return [replace(options, **{cls.budget: [value]}) for value in values] if values else [options]

    @classmethod
    def point_name(cls, policy: str, options: Any) -> str:
        """The name of a point's folder, from resolved options."""
        return f"{policy}-{getattr(options, cls.budget)[0]:g}" if cls.budget else policy

    @classmethod
    def targets(cls, options: Any) -> Any:
        """The `TargetOptions` of what its stages learn for each token, computed beforehand; None: nothing."""
        return None

    def model_options(self) -> dict[str, Any]:
        """`config.policy_options` of the model before the first stage."""
        return {}

    def build(self) -> Any:
        """The model before the first stage."""
        from adapler.modeling import AdapLeRForSequenceClassification

        model = AdapLeRForSequenceClassification.from_backbone(
            self.work.start,
            labels=list(self.work.task.labels),
            policy=self.work.policy,
            policy_options=self.model_options() or None,
        )
        return self.with_new_head(model, model.backbone)

    def with_new_head(self, model: Any, classifier: Any) -> Any:
        """The model, whose classifier's head is initialised where the run starts from an encoder."""
        from adapler.backbones.loading import is_fine_tuned, read_config, reinitialise_head

        if not is_fine_tuned(read_config(self.work.start)):
            reinitialise_head(classifier, mode=self.work.reinit_head, fine_tuned=False)
        return model

    def stages(self) -> list[Stage]:
        """In their order; as many as the default epochs."""
        rate = self.work.settings.learning_rate
        return [Stage(name="train", epochs=self.options.policy_epochs[0], rates={"backbone": rate, "policy": None})]

    def load(self, folder: str | Path) -> Any:
        """A model that one of the stages saved."""
        from adapler.modeling import AdapLeRForSequenceClassification

        return AdapLeRForSequenceClassification.from_pretrained(folder)

    def facts(self, model: Any) -> dict[str, Any]:
        """What the record of a finished point says beside the numbers of its stages; JSON-ready."""
        return {}

    def speedup(self, model: Any, lengths_in: Tensor, lengths: Tensor) -> float:
        """FLOPs of the fine-tuned classifier / the model's: (B,) true lengths, (B, L) tokens that enter each layer."""
        from adapler import flops

        return flops.speedup(model.config, lengths_in, lengths)

    def evaluate(self, model: Any, rows: Any, *, metric: str) -> dict[str, Any]:
        """Score and speedup on a split in float32, in the form of `evaluate_rows`."""
        from adapler.evaluation import evaluate_rows

        return evaluate_rows(
            model.for_inference(dtype="float32"), rows, pad_token_id=self.work.pad_token_id, metric=metric
        )


Policy.Training = Training
