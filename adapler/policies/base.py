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
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from adapler.backbones.attention import Reads
from adapler.contribution import Cost, PackedRow, retention
from adapler.errors import ArgumentError
from adapler.options import Checked, Registry, counted, option, record

Place = Literal["before", "between"]
Fades = Literal["attention", "feed_forward", "output"]


@dataclass(frozen=True)
class LayerView:
    """The input of a policy's decision in a layer."""

    index: int  # of the layer, from 0
    hidden: Tensor  # (T, D) states at the layer's input, or after its attention for a policy "between"
    row: PackedRow
    attention: Any = None  # that each token got in this layer, a `Received`; None for a policy "before"


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Options of a policy without options."""


class Policy(nn.Module, ABC):
    """Which tokens a layer drops: those whose score is below a bar. [CLS] always stays.

    The score of a token may depend on the tokens of the same sequence only, and not on padding, on the other sequences
    of a batch, or on their order. Scores and bars are in float32 or better (use `ExactLinear`).
    """

    name: ClassVar[str]  # set by @policy
    # Before a layer's attention, or between its attention and its feed-forward network; then it does nothing in the
    # last layer, which runs for [CLS] only.
    place: ClassVar[Place] = "before"
    # What a policy "between" reads of its layer's attention: what each token received, what [CLS] gives, or nothing.
    # Weights that it does not read are not computed: fused kernels hold none.
    reads: ClassVar[Reads] = "all"
    # What a token's gate multiplies in soft training: its weight in the attention of others, with its state carried
    # past the layer; the input of the feed-forward network; or the layer's output.
    fades: ClassVar[Fades] = "attention"
    # The threshold scale at which the bar is the highest score there can be, so that hardly a token stays: 2 for a
    # probability that has to reach half the scale.
    last_scale: ClassVar[float] = math.inf
    Options: ClassVar[type] = NoOptions  # a frozen dataclass with defaults; `config.policy_options` holds its numbers
    Training: ClassVar[type[Training]]  # default: fine-tuning with tokens really removed
    soft_options: ClassVar[tuple[str, ...]] = ()  # arguments of the model's `forward` that its soft removal takes

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.options: Any = options_of(type(self), config.policy_options)

    def reset_parameters(self) -> None:
        """Set all parameters to where training starts, with the functions of `transformers.initialization`."""

    @classmethod
    def install(cls, model: Any) -> None:
        """Give a new model the policy's parameters."""
        model.policy = cls(model.config)
        model.policy.reset_parameters()

    @classmethod
    def of(cls, model: Any) -> Any:
        """The policy of a model that it was installed in."""
        return model.policy

    @classmethod
    def decides(cls, index: int, *, layers: int) -> bool:
        """Whether it may drop tokens in a layer; default: in every one that `place` allows."""
        return cls.place == "before" or index < layers - 1

    @abstractmethod
    def score(self, view: LayerView) -> Tensor:
        """(T,) scores; higher ones stay."""

    @abstractmethod
    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """(B,) the lowest score that stays in each sequence, from scores (T,); it grows with `scale`, which is above 0
        (at 0 nothing is dropped, and this is not called)."""

    def gate(self, view: LayerView, scores: Tensor) -> Tensor:
        """(T,) in [0, 1], differentiable: how much of each token is there after the decision, in soft training."""
        raise ArgumentError(f"policy: {self.name!r} has no soft removal; it trains with tokens really removed")

    def soft(self, backbone: Any, **inputs: Any) -> Any:
        """Soft removal, the differentiable forward pass of training: an AdapLeROutput. Default: `gate`s. The inputs are
        those of `hard_pass`, and the `soft_options`."""
        from adapler.passes import gated_pass

        return gated_pass(backbone, self, **inputs)

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        """FLOPs of the scores of one layer beyond what the layer computes anyway; default: none."""
        return Cost(token=0.0)


POLICIES = Registry[Policy]("policy")
SYSTEMS = Registry[Any]("system")  # trainings of systems to compare with that remove no token
policy, policy_class, policy_names = POLICIES.entry, POLICIES.get, POLICIES.names
system = SYSTEMS.entry


def training_class(name: str) -> type[Training]:
    """The training of a policy or of another system; ArgumentError where nothing has this name."""
    return SYSTEMS.find(name) or POLICIES.get(name, others=SYSTEMS.names()).Training


def options_of(kind: type[Policy], values: dict[str, Any] | None) -> Any:
    """The `Options` of a policy, from a configuration's dictionary; ArgumentError for another name or value."""
    known = [one.name for one in fields(kind.Options)]
    if unknown := [name for name in values or {} if name not in known]:
        has = ", ".join(known) or "none"
        raise ArgumentError(f"policy_options: {unknown[0]!r} is no option of policy {kind.name!r}; it has {has}")
    return kind.Options(**(values or {}))


def stays(scores: Tensor, bar: Tensor, *, row: PackedRow) -> Tensor:
    """Hard removal: (T,) bool, which tokens stay, from scores (T,) and bars (B,)."""
    reached = retention(scores, row.segments.spread(bar))
    return reached.index_fill_(0, row.segments.first, True)


# Training


@dataclass(frozen=True, kw_only=True)
class Step:
    """One batch of a stage."""

    model: Any  # runs a forward pass: the model, in several processes inside the wrapper that averages gradients
    core: Any  # the model itself
    batch: Mapping[str, Tensor]  # input_ids (B, N) ..., labels (B,), and perhaps targets, (B, N) or (B, K, N)
    number: int  # this optimiser step, from 0
    steps: int  # of the stage
    epoch: int  # from 0
    epochs: int
    by_steps: bool  # whether the stage is counted or evaluated by steps, and not by epochs
    share: float  # of the optimiser step that this batch is: 1 / accumulation
    autocast: Callable[[], AbstractContextManager[Any]]  # of the forward pass
    run_backward: Callable[..., None]  # (loss, **options)
    # On the CPU, for draws: its seed depends on the run's seed and the step alone, so that a resumed training goes on
    # with the same draws.
    generator: torch.Generator
    reduced: Callable[[Tensor], Tensor]  # the sum of a tensor over all processes
    taught: Any = None  # (B, C) logits of the fine-tuned classifier, in a stage that distils

    @property
    def progress(self) -> float:
        """Share of the stage's steps that lie behind, from 0 to below 1."""
        return self.number / self.steps

    @property
    def inputs(self) -> dict[str, Any]:
        """Arguments of the model's forward pass, labels included."""
        inputs = {name: value for name, value in self.batch.items() if name != "targets"}
        return {**inputs, "return_dict": True}  # whatever the model's configuration says

    def backward(self, loss: Tensor, **options: Any) -> None:
        """Add the gradient of a loss, weighted by the batch's share; options as of `Tensor.backward`."""
        self.run_backward(self.share * loss, **options)


def is_near(gain: float, target: float) -> bool:
    """Whether a speedup is within 10 % of a target, up to a rounding error."""
    return abs(gain - target) <= (0.1 + 1e-9) * target


def qualifies(score: float, *, reference: float | None, max_drop: float) -> bool:
    """Whether a validation score is at most `max_drop` below the fine-tuned classifier's, up to a rounding error."""
    return reference is not None and score >= reference - max_drop - 1e-9


@dataclass(kw_only=True)
class Stage:
    """One stage of a training; a subclass has losses of its own. The next stage starts from its model."""

    name: str = "train"  # of its folder and in the record
    epochs: int = 3
    # Gates; or really, with gradients through the tokens that stay; None: of a plain classifier.
    removal: Literal["soft", "hard"] | None = "hard"
    rates: Mapping[str, float | None] = field(default_factory=dict)  # by group of parameters; None: frozen
    no_decay: tuple[str, ...] = ()  # groups without weight decay
    clipped: tuple[tuple[str, ...], ...] = ()  # groups clipped by one common norm; default: each by its own
    constant: tuple[str, ...] = ()  # groups whose learning rate stays up after the warmup
    by_hand: tuple[str, ...] = ()  # parameters whose gradients the stage sets itself
    weights: Mapping[str, float] = field(default_factory=dict)  # of the losses; 1 by default, 0: only logged
    selects: Literal["budget", "score", "last"] = "score"  # which point is kept, see `value`
    target: float | None = None  # the speedup that it aims at
    distils: bool = False  # whether a step has the teacher's logits and states
    average_decay: float = 0.0  # of the running average of the weights that is evaluated and kept; 0: none

    def group_of(self, parameter: str) -> str:
        """The group of a parameter, a key of `rates`; default: "policy" and "backbone" (with its head)."""
        return "policy" if parameter.startswith("policy.") else "backbone"

    def rows(self, model: Any, training: Training) -> Any:
        """The training rows; what is prepared for each token is a column `targets` of lists, (n,) or (K, n) a row."""
        return training.prepared.encoded["train"]

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Scalars by name; the weighted sum is trained. Their names are the same in every step."""
        how = {} if self.removal is None else {"removal": self.removal}
        return {"cross_entropy": step.model(**step.inputs, **how).loss.float()}

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
        """Further entries in the record of an evaluated checkpoint; JSON-ready."""
        return {}

    def logged(self) -> dict[str, float]:
        """Further entries in the log of a step, besides losses and gradient norms."""
        return {}

    def value(self, score: float, gain: float, *, reference: float | None, max_drop: float, step: int) -> float:
        """A number whose maximum over the evaluated points (epochs, or steps) is the selection rule.

        "budget" without a target: of the points at most `max_drop` below the fine-tuned model, the one with the highest
        FLOPs speedup; else the best score, of equal ones the fastest. With a target: of the points within 10 % of it,
        the best score, of equal ones the fastest; else the nearest speedup. What qualifies has a value above 1.
        """
        if self.selects == "last":
            return float(step)
        if self.selects == "budget" and self.target is not None:
            near = is_near(gain, self.target)
            return 1 + score + 1e-9 * gain if near else min(gain / self.target, self.target / gain)
        if self.selects == "budget" and qualifies(score, reference=reference, max_drop=max_drop):
            return 1 + gain
        return score - 1e-9 / max(gain, math.ulp(1.0))

    def evaluated(self, metrics: dict[str, Any]) -> None:
        """After an evaluation during training; may add to its metrics."""

    def state(self) -> dict[str, Any]:
        """State that a resumed training needs besides the weights; JSON-ready."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""

    def finish(self, model: Any, training: Training) -> dict[str, Any]:
        """Change the selected point's model before it is saved; returns what the record says of that."""
        return {}


def logit_distillation(logits: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """t^2 * mean_batch KL(softmax(teacher / t) || softmax(logits / t)) (Hinton et al., 2015), scalar; (B, C) each."""
    own, goal = (logits.float() / temperature).log_softmax(-1), (teacher.float() / temperature).softmax(-1)
    return temperature**2 * nn.functional.kl_div(own, goal, reduction="batchmean")


@dataclass(kw_only=True)
class Packed(Stage):
    """A plain classifier on packed rows: cross-entropy, and the divergence from a teacher's logits where it distils."""

    temperature: float = 2.0

    def losses(self, step: Step) -> dict[str, Tensor]:
        from adapler.passes import plain_pass

        logits = plain_pass(step.core, step.batch)  # (B, C)
        parts = {"cross_entropy": nn.functional.cross_entropy(logits.float(), step.batch["labels"])}
        if step.taught is not None:
            parts["logit_distillation"] = logit_distillation(logits, step.taught, temperature=self.temperature)
        return parts


@dataclass(kw_only=True)
class TrainingOptions(Checked):
    """Training of the policy."""

    policy_epochs: list[int] | None = option(
        "of each stage (default: --max-steps in each, or the policy's own)", default=None, low=1
    )


@dataclass(kw_only=True)
class WeightedOptions(TrainingOptions):
    """Training of the policy."""

    policy_weight: list[float] | None = option(
        "weight of the tokens kept; a model for each (default: the paper's)", default=None, basic=True
    )
    policy_learning_rate: float | None = option("of the policy's parameters (default: the paper's)", default=None)


class Training:
    """Training of a policy, or of another system that `adapler run` compares: options, model and stages."""

    Settings: ClassVar[type[TrainingOptions]] = TrainingOptions  # options of `adapler run --policy NAME`
    # Values of options by the name of a preset; the first one is the default.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"recommended": {}, "paper": {}}
    budget: ClassVar[str] = ""  # the option whose values are points of a trade-off; "" for a single point
    # Whether its forward passes do not go through `Step.model`: several processes would not share their gradients.
    one_process: ClassVar[bool] = False
    fewest_layers: ClassVar[int] = 1
    teacher: Any = None  # the classifier that the trained model is compared with; None: itself without removal

    def __init__(
        self, prepared: Any, config: Any, options: Any, *, start: str | Path, load_teacher: Callable[[], Any]
    ) -> None:
        """Of a task (`adapler.training.data.Prepared`) with a command's `PolicyConfig` and the policy's `Settings`;
        `start` is a fine-tuned classifier or a pre-trained encoder, and `load_teacher` loads the fine-tuned classifier,
        on its device, frozen, ready for `plain_pass`."""
        self.prepared, self.config, self.options = prepared, config, options
        self.start, self.load_teacher = start, load_teacher

    @classmethod
    def defaults(cls, task: str, *, settings: Any, start: str | Path) -> dict[str, Any]:
        """Values of options that are None, with the epochs of each stage, on a task, with settings of optimisation."""
        return {"policy_epochs": [3]}

    @classmethod
    def resolve(cls, options: Any, *, task: str, settings: Any, start: str | Path) -> Any:
        """The options with `defaults` filled in; ArgumentError for epochs of more or fewer stages than there are."""
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

    @classmethod
    def described(cls, options: Any) -> dict[str, Any]:
        """A point's options in its record, JSON-ready."""
        return record(options) | cls.columns(options)

    @classmethod
    def columns(cls, options: Any) -> dict[str, Any]:
        """Columns that identify a model in `tradeoff.csv`: the value of its budget."""
        return {cls.budget: getattr(options, cls.budget)[0]} if cls.budget else {}

    def model_options(self) -> dict[str, Any]:
        """`config.policy_options` of the model before the first stage."""
        return {}

    def build(self, **config: Any) -> Any:
        """The model before the first stage; `config` as of `from_backbone`."""
        from adapler.modeling import AdapLeRForSequenceClassification

        model = AdapLeRForSequenceClassification.from_backbone(
            self.start,
            labels=list(self.prepared.task.labels),
            policy=self.config.policy,
            policy_options=self.model_options() or None,
            **config,
        )
        self.with_new_head(model.backbone)
        return model

    def with_new_head(self, classifier: Any) -> Any:
        """The classifier; where the run starts from an encoder, its head is initialised."""
        from adapler.modeling import is_fine_tuned, read_config, reinitialise_head

        if not is_fine_tuned(read_config(self.start)):
            reinitialise_head(classifier, mode=self.config.reinit_head, fine_tuned=False)
        return classifier

    def stages(self) -> list[Stage]:
        """In their order; as many as the default epochs."""
        rate = self.config.optimisation.learning_rate
        return [Stage(name="train", epochs=self.options.policy_epochs[0], rates={"backbone": rate, "policy": None})]

    def load(self, folder: str | Path) -> Any:
        """A model that one of the stages saved."""
        from adapler.modeling import AdapLeRForSequenceClassification

        return AdapLeRForSequenceClassification.from_pretrained(folder)

    def speedup(self, model: Any, lengths_in: Tensor, lengths: Tensor, **how: Any) -> float:
        """FLOPs of the fine-tuned classifier / the model's: (B,) true lengths, (B, L) tokens that enter each layer."""
        from adapler import flops

        return flops.speedup(model.config, lengths_in, lengths, **how)


Policy.Training = Training
