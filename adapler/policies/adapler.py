"""AdapLeR: Contribution Predictors and learned thresholds eta / n (Modarressi et al., ACL 2022).

Training has two objectives, each for parameters of its own:

    backbone, Contribution Predictors, classifier:  CE + gamma * L_CP
    eta, theta:                                     CE + phi * L_len, and nothing else

Dimensions: B sequences or rows of a batch, T tokens of a packed row, N padded length, L layers, C labels, D hidden
size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from adapler.backbones.attention import segment_softmax
from adapler.backbones.families import view
from adapler.contribution import Cost, predictor_class, threshold
from adapler.errors import ArgumentError
from adapler.options import Checked, flag, option, record
from adapler.policies.base import (
    LayerView,
    Policy,
    Stage,
    Step,
    Training,
    TrainingOptions,
    logit_distillation,
    options_of,
    policy,
)
from adapler.training.config import TargetOptions


@dataclass(frozen=True)
class FirstLayer(Checked):
    """Which layers may drop tokens. Ours: in the paper every layer drops, layer 0 by a token's embedding alone."""

    first_layer: int = option("first layer that drops; those before it only score their tokens", default=0, low=0)


# Between the 2e-3 and 5e-3 of results/movies-minilm: the backbone's rate is for trained weights, predictors are new.
POST_HOC_LEARNING_RATE = 3e-3


@dataclass(kw_only=True)
class Objectives(TrainingOptions):
    """AdapLeR's two objectives (paper, eq. 4 and 7)."""

    phi: list[float] = option("weight of the length loss; a model for each", default=[2e-4], basic=True, low=0)
    # A target above 100 is a typing error: in texts of 500 tokens all but [CLS] would go in the first layers.
    target_speedup: list[float] | None = option(
        "speedup in FLOPs to train to, as 4: a controller changes phi in every step; a model is trained for each value",
        default=None,
        basic=True,
        above=1,
        most=100,
    )
    freeze_backbone: bool = option("post hoc: train predictors and thresholds only", default=False, basic=True)
    gamma: float = option("weight of the contribution loss", default=0.02, basic=True, low=0)
    predictor: str | None = option(
        "Contribution Predictor: mlp (paper; sees a token alone), contextual (ours; sees its neighbours and the text's "
        "mean too), or a registered name (default: contextual, or the AdapLeR model's own)",
        default=None,
    )
    contribution_hidden_size: int | None = option(
        "hidden units of a predictor (default: 32, or the model's)", default=None
    )
    first_layer: int | None = option("first layer that drops (default: 0, or the model's)", default=None, low=0)
    predictor_learning_rate: float | None = option(
        "learning rate of the predictors (default: the backbone's, or 3e-3 with --freeze-backbone)", default=None, low=0
    )
    eta_learning_rate: float = option("learning rate of eta (thresholds) and theta", default=5e-3, low=0)
    gradient_slope: float = option("largest slope in the gradient of soft removal; paper: inf", default=50.0, above=0)
    max_slope: float | None = option("largest slope of soft removal (default: unbounded)", default=None, above=0)
    routing: Literal["exact", "local"] = option(
        "gradients of contribution and length loss: exact, through all hidden states (two backward passes), or local "
        "(ours), to predictors and thresholds only (one backward pass)",
        default="exact",
    )
    average_decay: float = option("of a running average of the weights, as .99; 0: none", default=0.0, low=0, below=1)
    logit_distillation: float = option("weight of the KL divergence from the classifier's logits", default=0.0, low=0)
    distillation_temperature: float = option("temperature of --logit-distillation", default=2.0, above=0)
    targets: TargetOptions = field(default_factory=TargetOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_speedup is not None and (len(self.phi) > 1 or self.phi[0] == 0):
            raise ArgumentError("--phi: one value above 0 with --target-speedup, which starts from it and changes it")
        if self.predictor is not None:
            predictor_class(self.predictor)

    @property
    def target(self) -> float | None:
        """The speedup that a point's training aims at."""
        return self.target_speedup[0] if self.target_speedup else None


# Training


def contribution_target(saliency: Tensor, log_presence: Tensor, theta: Tensor) -> Tensor:
    """Target distribution of each layer's contribution scores (AdapLeR, section 3.3), (B, L, N), without a gradient.

        S^^l = saliency * m^(l-1), [CLS]'s entry times theta^l (l >= 1), renormalised over present tokens

    `saliency` is (B, N), or (B, L, N) where each layer has its own; >= 0, 0 at padding, [CLS] in column 0. With
    `log_presence` (B, L, N), the accumulated soft mask of the layers before l, and theta (L - 1,).
    """
    by_layer = saliency if saliency.dim() == 3 else saliency[:, None, :]  # (B, L or 1, N)
    target = by_layer * log_presence.detach().exp()  # (B, L, N)
    share = torch.cat([theta.new_ones(1), theta.detach()])  # (L,): layer 0 has no theta
    target[:, :, 0] = target[:, :, 0] * share
    return target / target.sum(-1, keepdim=True).clamp(min=1e-12)


def contribution_loss(log_scores: Tensor, target: Tensor) -> Tensor:
    """L_CP = sum_l (L - l) * mean_batch KL(target^l || scores^l) (AdapLeR, eq. 4), scalar; (B, L, N) each."""
    divergence = nn.functional.kl_div(log_scores, target, reduction="none").sum(-1)  # (B, L)
    weight = torch.arange(divergence.shape[1], 0, -1, device=divergence.device)  # L, L - 1, ..., 1
    return (divergence.mean(0) * weight).sum()


def length_loss(lengths: Tensor) -> Tensor:
    """L_len = mean_batch sum_l (soft length of layer l) (AdapLeR, eq. 7), scalar; lengths (B, L)."""
    return lengths.sum(-1).mean()


_FIRST_SLOPE, _LAST_SLOPE = 10.0, 1e5
_PUBLISHED = {3: (50.0, 50.0), 5: (10.0, 10.0), 10: (10.0, 3.0), 1: (_LAST_SLOPE, 1.0)}  # by epochs: first, ratio


def slope_at(index: int, count: int, *, by_steps: bool = False) -> float:
    """Soft removal's lambda in an epoch or, `by_steps`, in an optimiser step, from 0.

    50*50^e for 3 epochs, 10*10^e for 5, 10*3^e for 10 (the paper's). Other counts, and steps, go geometrically from 10
    to 1e5 (ours). A single epoch is at once close to hard removal.
    """
    geometric = (_FIRST_SLOPE, (_LAST_SLOPE / _FIRST_SLOPE) ** (1 / max(1, count - 1)))
    first, ratio = geometric if by_steps else _PUBLISHED.get(count, geometric)
    return float(first * ratio**index)


@dataclass(kw_only=True)
class TwoObjectives(Stage):
    """AdapLeR's training. Each objective's gradient is taken of its own sum, so neither weight leaks into the other.

    With routing "local" L_CP trains the predictors only, each on its own layer, and L_len reaches no threshold through
    a hidden state. Losses of distillation, where their weights are above 0, are added to CE in both objectives.
    """

    options: Objectives
    controller: SpeedController | None = None  # changes phi, where there is a target speedup
    slope: float = math.nan  # of the last step

    def group_of(self, parameter: str) -> str:
        if parameter in ("eta", "theta"):
            return "eta and theta"
        return "predictors" if parameter.startswith("contribution_predictors.") else "backbone"

    def train_step(self, step: Step) -> tuple[dict[str, Tensor], Tensor]:
        """Each objective's gradient for its own parameters.

        L_CP and L_len both read the scores of later layers, so one backward pass of their sum would train eta by gamma
        and the weights by phi, and there are two; the first ends at layer 0's attention and computes no gradient of a
        weight. With routing "local" they have no gradient in a hidden state (see soft_pass), so one pass does it.
        """
        eta, theta = step.core.eta, step.core.theta
        probe = torch.ones_like(eta).requires_grad_()  # (L,)
        local = self.options.routing == "local"
        schedule = (step.number, step.steps) if step.by_steps else (step.epoch, step.epochs)
        self.slope = min(slope_at(*schedule, by_steps=step.by_steps), self.options.max_slope or math.inf)
        options = {"slope": self.slope, "gradient_slope": self.options.gradient_slope, "local_losses": local}
        with step.autocast():
            output = step.model(**step.inputs, removal="soft", probe=probe, **options)
            if self.controller is not None:
                self.controller.observe(step, output.lengths)
            target = contribution_target(step.batch["targets"], output.log_presence, theta)  # (B, L, N)
            parts = {
                "cross_entropy": output.loss.float(),
                "contribution_loss": contribution_loss(output.log_scores, target),
                "soft_length": length_loss(output.lengths.float()),
            }
            if step.taught is not None:
                temperature = self.options.distillation_temperature
                parts["logit_distillation"] = logit_distillation(output.logits, step.taught, temperature=temperature)
        task = parts["cross_entropy"]
        if step.taught is not None:
            task = task + self.options.logit_distillation * parts["logit_distillation"]
        loss = task + self.options.gamma * parts["contribution_loss"]
        length = self.phi * parts["soft_length"]
        weights = [p for n, p in step.core.named_parameters() if p.requires_grad and n not in self.by_hand]
        if local:
            step.backward(loss + length, inputs=[*weights, eta, probe])
            of_probe: Any = probe.grad
        else:
            second = step.share * (task + length)
            of_eta, of_probe = torch.autograd.grad(second, [eta, probe], retain_graph=True)
            _accumulate(eta, of_eta)
        # The factor multiplies theta, so d/d theta = d/d factor / theta; layer 0 has no theta.
        _accumulate(theta, of_probe[1:] / theta.detach())
        if not local:
            step.backward(loss, inputs=weights)
        return parts, loss

    @property
    def phi(self) -> float:
        """Weight of the length loss; with a target speedup it changes in every step."""
        return self.options.phi[0] if self.controller is None else self.controller.phi

    def after_step(self, model: Any) -> None:
        model.clamp_eta()

    def numbers(self, model: Any) -> dict[str, Any]:
        return {"eta": [round(float(one), 4) for one in model.eta.detach()]}

    def logged(self) -> dict[str, float]:
        found = {"slope": self.slope}
        if self.controller is not None:
            found |= {"phi": self.controller.phi, "estimated_speedup": self.controller.speedup}
        return found

    def evaluated(self, metrics: dict[str, Any]) -> None:
        if self.controller is not None:
            metrics["phi"] = self.controller.phi
            self.controller.calibrate(metrics["speedup"])

    def state(self) -> dict[str, Any]:
        return {} if self.controller is None else asdict(self.controller)

    def load_state(self, state: Mapping[str, Any]) -> None:
        if self.controller is not None:
            self.controller = SpeedController(**state)

    def finish(self, model: Any, training: Training) -> dict[str, Any]:
        """With a target speedup: scale all thresholds by the factor that reaches it on validation."""
        if self.target is None:
            return {}
        rows = training.prepared.encoded["validation"]
        return {"reached": reach_target(model, rows, pad_token_id=training.prepared.pad_token_id, target=self.target)}


def _accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient


class AdapLeRTraining(Training):
    """One stage with two objectives, on targets of the fine-tuned classifier."""

    Settings = Objectives
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "recommended": {},
        "paper": {
            "predictor": "mlp",
            "target_method": ["saliency"],
            "target_layer": "embeddings",
            "target_logit": "gold",
            "start": "pretrained",
        },
    }

    @classmethod
    def defaults(cls, task: str, *, settings: Any, start: str | Path) -> dict[str, Any]:
        """An AdapLeR model's own predictors and first layer, a new one's otherwise."""
        from adapler.modeling import read_config

        config = read_config(start)
        own = {"predictor": "contextual", "contribution_hidden_size": 32, "first_layer": 0}
        if config.model_type == "adapler":
            own = {name: getattr(config, name) for name in ("predictor", "contribution_hidden_size")}
            own["first_layer"] = (config.policy_options or {}).get("first_layer", 0)
        return own | {"policy_epochs": [settings.epochs]}

    @classmethod
    def resolve(cls, options: Any, *, task: str, settings: Any, start: str | Path) -> Any:
        from adapler.modeling import is_fine_tuned, read_config

        found = super().resolve(options, task=task, settings=settings, start=start)
        config = read_config(start)
        if found.freeze_backbone and not is_fine_tuned(config) and config.model_type != "adapler":
            raise ArgumentError(f"--freeze-backbone: {start} is not a fine-tuned classifier, there is nothing to keep")
        if not found.first_layer < config.num_hidden_layers:
            raise ArgumentError(f"--first-layer: {found.first_layer} of {config.num_hidden_layers} layers, from 0")
        if found.predictor_learning_rate is None:
            rate = POST_HOC_LEARNING_RATE if found.freeze_backbone else settings.learning_rate
            found = replace(found, predictor_learning_rate=rate)
        return found

    @classmethod
    def points(cls, options: Any) -> list[Any]:
        name = "target_speedup" if options.target_speedup else "phi"
        return [replace(options, **{name: [value]}) for value in getattr(options, name)]

    @classmethod
    def point_name(cls, policy: str, options: Any) -> str:
        budget = f"phi-{options.phi[0]:g}" if options.target is None else f"speedup-{options.target:g}"
        return f"{budget}-post-hoc" if options.freeze_backbone else budget

    @classmethod
    def targets(cls, options: Any) -> Any:
        return options.targets

    @classmethod
    def described(cls, options: Any) -> dict[str, Any]:
        targets, own = record(options.targets), record(options)
        own |= {"phi": options.phi[0], "target_speedup": options.target}
        return {"objectives": {name: value for name, value in own.items() if name not in targets}, "targets": targets}

    @classmethod
    def columns(cls, options: Any) -> dict[str, Any]:
        return {"phi": options.phi[0], "target_speedup": options.target}

    def model_options(self) -> dict[str, Any]:
        """None where every layer drops, as in models that were made before there was a choice."""
        return {"first_layer": self.options.first_layer} if self.options.first_layer else {}

    def build(self, **config: Any) -> Any:
        """An AdapLeR model keeps its backbone, predictors and thresholds. On anything else they are new."""
        from adapler.modeling import AdapLeRForSequenceClassification, read_config

        start, labels = self.start, len(self.prepared.task.labels)
        predictors = {name: getattr(self.options, name) for name in ("predictor", "contribution_hidden_size")}
        if read_config(start).model_type != "adapler":
            return super().build(**predictors)
        trained = AdapLeRForSequenceClassification.from_pretrained(start)
        if trained.config.policy != AdapLeR.name:
            raise ArgumentError(f"--model: {start} has the removal policy {trained.config.policy!r}, not AdapLeR's")
        if trained.config.num_labels != labels:
            raise ArgumentError(f"--task: it has {labels} labels, {start} {trained.config.num_labels}")
        for name, asked in predictors.items():
            if asked != (own := getattr(trained.config, name)):
                raise ArgumentError(f"{flag(name)}: {asked}, but {start} has {own}")
        trained.config.policy_options = self.model_options() or None
        return trained

    def stages(self) -> list[Stage]:
        options, settings, target = self.options, self.config.optimisation, self.options.target
        stage = TwoObjectives(
            epochs=options.policy_epochs[0],
            removal="soft",
            rates={
                "backbone": None if options.freeze_backbone else settings.learning_rate,
                "predictors": options.predictor_learning_rate,
                "eta and theta": options.eta_learning_rate,
            },
            no_decay=("eta and theta",),
            clipped=(("backbone", "predictors"), ("eta and theta",)),
            constant=() if target is None else ("eta and theta",),
            by_hand=("eta", "theta"),
            selects="budget",
            target=target,
            distils=options.logit_distillation > 0,
            average_decay=options.average_decay,
            options=options,
            controller=None if target is None else SpeedController(phi=options.phi[0], target=target),
        )
        return [stage]


# A target speedup


@dataclass
class SpeedController:
    """Changes phi, the weight of the length loss, so that training ends at a target speedup.

        e_t   = log(wanted speedup at t) - log(measured speedup at t)
        I_t   = I_(t-1) + 100 * e_t / steps
        x_t   = 6 * e_t + I_t, within +-log(1e4)
        phi_t = phi_0 * (exp(x_t) - exp(-x_t) / 1000)

    The wanted speedup grows geometrically from 1 to the target over the first 40 % of training, so that predictors
    learn something before much is dropped. The measured one is that of the soft lengths in training batches, a running
    mean, times what the last evaluation found between it and hard removal on validation.

    A controller of this kind is in MrT5 (Kallini et al., 2025); here it acts on logarithms. Below a thirtieth of phi_0
    phi crosses 0 (ours): tokens that a steep slope has removed have no gradient of the cross-entropy, so without a loss
    that asks for more tokens a training that is too fast stays so.
    """

    phi: float  # weight of the length loss now, at the start above 0; below 0 it asks for more tokens
    target: float  # speedup in FLOPs, above 1
    start: float = math.nan  # the first phi
    full: float = 0.0  # running mean of the backbone's FLOPs in a training batch
    reduced: float = 0.0  # of AdapLeR's
    integral: float = 0.0
    measured: float = 0.0  # log(hard speedup on validation / soft speedup in training) at the last evaluation
    offset: float = 0.0  # follows it smoothly

    PROPORTIONAL, INTEGRAL, MOST, MIRROR = 6.0, 100.0, math.log(1e4), 1e-3
    RAMP = 0.4  # share of training in which the wanted speedup grows
    MEMORY = 0.01  # share of training over which measurements are averaged, but at least 10 steps

    def __post_init__(self) -> None:
        self.start = self.phi if math.isnan(self.start) else self.start

    @property
    def speedup(self) -> float:
        """Estimate of the hard speedup now; 1 before the first batch."""
        return self.full / self.reduced * math.exp(self.offset) if self.reduced else 1.0

    def observe(self, step: Step, lengths: Tensor) -> None:
        """Take in a training batch and its soft lengths (B, L), and set phi for it."""
        from adapler.flops import adapler_flops, backbone_flops

        config, lengths_in = step.core.config, step.batch["attention_mask"].sum(1)  # (B,)
        # In soft mode a length may exceed the one before by a rounding error, which the count refuses.
        shrinking = torch.minimum(lengths.detach().cpu().double().cummin(1).values, lengths_in[:, None].cpu().double())
        full, reduced = backbone_flops(config, lengths_in).sum(), adapler_flops(config, lengths_in, shrinking).sum()
        self.take(
            *step.reduced(torch.stack([full, reduced])).tolist(), progress=step.progress, share=step.share / step.steps
        )

    def take(self, full: float, reduced: float, *, progress: float, share: float) -> None:
        """Set phi after a batch, given its FLOPs, the progress of training (0 to 1) and its share of training."""
        rate = min(1.0, share / self.MEMORY, 0.1) if self.reduced else 1.0
        self.full += rate * (full - self.full)
        self.reduced += rate * (reduced - self.reduced)
        self.offset += min(rate, 0.1) * (self.measured - self.offset)
        error = math.log(self.target) * min(1.0, progress / self.RAMP) - math.log(self.speedup)
        self.integral = max(-self.MOST, min(self.MOST, self.integral + self.INTEGRAL * error * share))
        exponent = max(-self.MOST, min(self.MOST, self.PROPORTIONAL * error + self.integral))
        self.phi = self.start * (math.exp(exponent) - self.MIRROR * math.exp(-exponent))

    def calibrate(self, speedup: float) -> None:
        """Take in the hard speedup on validation: from now on, training aims at it."""
        if self.reduced:
            self.measured = math.log(speedup) - math.log(self.full / self.reduced)


CLOSE = 0.01  # how near a target speedup is enough, as a share of it
MOST_PASSES = 12  # over the validation rows


def reach_target(model: Any, rows: Any, *, pad_token_id: int, target: float) -> dict[str, Any]:
    """Multiply every eta by the factor with which the speedup on validation rows is the target's, in place.

    The factor is found by bisection of its logarithm and stays 1 where the target is met already. eta stays in its
    bounds, so a target may be out of reach: then the nearest speedup found is kept. Gives numbers for the record.
    """
    from adapler import flops
    from adapler.inference import predict_rows
    from adapler.modeling import ETA_MAX, ETA_MIN

    trained = model.eta.detach().clone()  # (L,)
    measured: dict[float, float] = {}  # speedup by the logarithm of the factor

    def set_eta(exponent: float) -> None:
        with torch.no_grad():
            model.eta.copy_((trained * math.exp(exponent)).clamp(ETA_MIN, ETA_MAX))

    def at(exponent: float) -> float:
        set_eta(exponent)
        found = predict_rows(model, rows, pad_token_id=pad_token_id, removal="hard")
        measured[exponent] = flops.speedup(model.config, found.lengths_in, found.lengths)
        return measured[exponent]

    before = gain = at(0.0)
    low, high = (0.0, math.log(ETA_MAX / ETA_MIN)) if gain < target else (math.log(ETA_MIN), 0.0)
    # No room is left where the first guess lay at a bound and was not enough.
    while abs(gain - target) > CLOSE * target and len(measured) < MOST_PASSES and low < high:
        # The first guess: a threshold that is twice as high is about twice as fast.
        middle = (low + high) / 2 if len(measured) > 1 else max(low, min(high, math.log(target / gain)))
        gain = at(middle)
        low, high = (middle, high) if gain < target else (low, middle)
    best = min(measured, key=lambda exponent: abs(math.log(measured[exponent] / target)))
    set_eta(best)
    found = {"target": target, "factor": math.exp(best), "before": before}
    return found | {"speedup": measured[best], "passes": len(measured)}


# Inference


@policy("adapler")
class AdapLeR(Policy):
    """Before each layer: the softmax of its Contribution Predictor, against eta / n.

    The model holds the parameters (a predictor for each layer, and eta, (L,)), under the names that its checkpoints
    have always had; this only reads them.
    """

    Options = FirstLayer
    Training = AdapLeRTraining
    soft_options: ClassVar[tuple[str, ...]] = ("scale", "beta", "slope", "gradient_slope", "probe", "local_losses")

    def __init__(self, predictors: Sequence[nn.Module], eta: Tensor, options: FirstLayer) -> None:
        nn.Module.__init__(self)
        self._parts = (predictors, eta)  # in a tuple: not registered a second time
        self.options = options

    @classmethod
    def install(cls, model: Any) -> None:
        """Predictors, eta and theta are the model's own."""
        config, layers = model.config, view(model.backbone).layers
        kind, activation = predictor_class(config.predictor), view(model.backbone).activation
        width = config.contribution_hidden_size
        model.contribution_predictors = nn.ModuleList(
            kind(
                config.hidden_size,
                contribution_hidden_size=width,
                activation=getattr(model.backbone.config, activation),
            )
            for _ in layers
        )
        model.eta = nn.Parameter(torch.full((len(layers),), config.eta_init))
        model.theta = nn.Parameter(torch.ones(len(layers) - 1))

    @classmethod
    def of(cls, model: Any) -> Any:
        return cls(model.contribution_predictors, model.eta, options_of(cls, model.config.policy_options))

    @property
    def factors(self) -> Tensor:
        """(L,) eta, and 0 in the layers that drop nothing."""
        eta = self._parts[1]
        return eta.masked_fill(torch.arange(len(eta), device=eta.device) < self.options.first_layer, 0.0)

    def score(self, view: LayerView) -> Tensor:
        """Contribution scores: they sum to 1 in each sequence."""
        return segment_softmax(self._parts[0][view.index](view.hidden, view.row), view.row.segments)

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """delta = scale * eta / n; 0 before the first layer that drops tokens."""
        if view.index < self.options.first_layer:
            return scores.new_zeros(len(view.row.segments.lengths))
        eta = self._parts[1][view.index].to(scores.dtype)
        return threshold(eta, view.row.segments.lengths, scale=scale)

    def soft(self, backbone: Any, **inputs: Any) -> Any:
        """Tokens fade by a bias on their attention logits, see `soft_pass`."""
        from adapler.passes import soft_pass

        return soft_pass(backbone, *self._parts, **inputs, first_layer=self.options.first_layer)

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        return predictor_class(config.predictor).cost(config.hidden_size, config.contribution_hidden_size)
