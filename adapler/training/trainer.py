"""AdapLeR's trainer: two objectives, each with parameters of its own.

Dimensions: B batch, N tokens, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from adapler.errors import ArgumentError, TrainingError
from adapler.model.flops import speedup
from adapler.model.modeling import AdapLeRForSequenceClassification
from adapler.training.arguments import AdapLeRTrainingArguments
from adapler.training.averaging import LIVE_WEIGHTS, WeightAverage
from adapler.training.collator import SamplesByLength
from adapler.training.losses import contribution_loss, contribution_target, length_loss
from adapler.training.resume import what_is_kept
from adapler.training.schedule import SpeedController, slope_at, slope_at_step
from adapler.training.selection import column_of, score_rows, selection_value

THRESHOLDS = "eta and theta"  # the name of their group of parameters
LOSSES = ("cross_entropy", "contribution_loss", "soft_length")


class StopWhenNotFinite(TrainerCallback):  # type: ignore[misc]
    """Ends training when the loss on the validation split is not finite, before that epoch is saved.

    The trainers look at every step's loss; this catches what the last update of an epoch did.
    """

    def on_evaluate(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        loss = (metrics or {}).get("eval_loss", 0.0)
        if not math.isfinite(loss):
            names = [] if model is None else [n for n, p in model.named_parameters() if not p.isfinite().all()]
            where = f"parameter {names[0]} is not finite" if names else "all parameters are finite"
            raise TrainingError(
                f"training stopped after step {state.global_step}: the validation loss is {loss}; {where} "
                f"(group {group_of(names[0]) if names else 'none'!r}); {what_is_kept(args.output_dir)}"
            )


def group_of(parameter: str) -> str:
    """The name of a parameter's group, as error messages and the optimiser call it."""
    name = parameter.removeprefix("module.")
    if name in ("eta", "theta"):
        return THRESHOLDS
    return "predictors" if name.startswith("contribution_predictors.") else "backbone"


def true_everywhere(accelerator: Any, value: bool) -> bool:
    """Whether `value` is true in every process; then all of them go on, or all of them stop."""
    if accelerator.num_processes == 1:
        return value
    flag = torch.tensor(int(value), device=accelerator.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN)
    return bool(flag.item())


class _StepGuard(TrainerCallback):  # type: ignore[misc]
    """Looks at a step's losses and gradients before they reach a weight, and keeps eta within its bounds after."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.check()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.clamp_eta()


class AdapLeRTrainer(SamplesByLength, Trainer):  # type: ignore[misc]
    """transformers.Trainer with AdapLeR's objectives.

        backbone, Contribution Predictors, classifier:  CE + gamma * L_CP
        eta, theta:                                     CE + phi * L_len, and nothing else

    Each group's gradient is taken of its own sum, so neither weight can leak into the other group. Rows of the
    training set need `saliency` (see adapler.training.stages.targets). Evaluation is in hard mode.
    """

    args: AdapLeRTrainingArguments

    def __init__(self, model: AdapLeRForSequenceClassification, args: AdapLeRTrainingArguments, **kwargs: Any) -> None:
        self.objectives = args.objectives.resolved()
        if self.objectives.freeze_backbone:
            model.backbone.requires_grad_(False)
        # Their gradients are set here, by hand, and averaged over processes here too.
        # DistributedDataParallel asks for parameters of the outermost module as ".name" here and "name" there.
        model._ddp_params_and_buffers_to_ignore = ["eta", "theta", ".eta", ".theta"]
        self.core = model
        target, phi = self.objectives.target_speedup, self.objectives.phi
        self.controller = None if target is None else SpeedController(phi=phi, target=target, config=model.config)
        super().__init__(model=model, args=args, **kwargs)
        self.add_callback(_StepGuard(self._check_step))
        self._parts: dict[str, list[float]] = {}
        self._losses_of_step: list[Tensor] = []  # (3,) for each forward pass
        self._norms_of_step: dict[str, Tensor] = {}  # by group of parameters
        decay = self.objectives.average_decay
        self.average = WeightAverage(model, decay=decay) if decay else None
        if self.average is not None:
            self.add_callback(self.average)

    # Parameters

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW groups: backbone, Contribution Predictors (each with and without decay), eta and theta."""
        optimizer: torch.optim.Optimizer | None = getattr(self, "optimizer", None)
        if optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.core))
            own_rate = self.objectives.predictor_learning_rate
            rates = {
                "backbone": self.args.learning_rate,
                "predictors": self.args.learning_rate if own_rate is None else own_rate,
            }
            groups: list[dict[str, Any]] = []
            for name, parameters in self._model_groups().items():
                for decay in (True, False):
                    chosen = [p for n, p in parameters if (n in decayed) == decay]
                    weight_decay = self.args.weight_decay if decay else 0.0
                    if chosen:
                        groups.append({"name": name, "params": chosen, "lr": rates[name], "weight_decay": weight_decay})
            groups.append(
                {
                    "name": THRESHOLDS,
                    "params": [self.core.eta, self.core.theta],
                    "lr": self.objectives.eta_learning_rate,
                    "weight_decay": 0.0,
                }
            )
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.core)
            self.optimizer = optimizer = optimizer_class(groups, **options)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """transformers' schedule; with a target speedup the thresholds' rate stays up, so that they can follow phi."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if self.controller is not None:
            warmup = max(1, self.args.get_warmup_steps(num_training_steps))
            scheduler.lr_lambdas[-1] = lambda step: min(1.0, step / warmup)  # their group is the last one
        return scheduler

    def _model_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Trainable parameters of the first objective, by group."""
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {"backbone": [], "predictors": []}
        for name, parameter in self.core.named_parameters():
            if parameter.requires_grad and group_of(name) in groups:
                groups[group_of(name)].append((name, parameter))
        return {name: parameters for name, parameters in groups.items() if parameters}

    # One step

    @property
    def slope(self) -> float:
        """Soft removal's lambda in the current epoch, or step."""
        schedule, max_steps = self.objectives.slope_schedule, self.args.max_steps
        if schedule is None:
            schedule = "steps" if max_steps > 0 or self.args.eval_strategy == "steps" else "epochs"
        if schedule == "steps":
            steps = max(1, self.state.max_steps)
            slope = slope_at_step(min(self.state.global_step, steps - 1), steps)
        else:
            epochs = max(1, math.ceil(self.state.num_train_epochs if max_steps > 0 else self.args.num_train_epochs))
            slope = slope_at(min(int(self.state.epoch or 0), epochs - 1), epochs)
        bound = self.objectives.max_slope
        return slope if bound is None else min(slope, bound)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One forward pass, then each objective's gradient for its own parameters.

        One backward pass cannot do: below the last Contribution Predictor a hidden state needs two gradients, one of
        CE + gamma L_CP for the weights and one of CE + phi L_len for eta. L_CP and L_len both read the scores of later
        layers, so neither vanishes there. Their sum would train eta by gamma and the weights by phi. Two it is, and
        the first of them ends at layer 0's attention and computes no gradient of a weight.
        """
        model.train()
        if self.objectives.freeze_backbone:
            self.core.backbone.eval()  # no dropout in a classifier that does not train
        inputs = self._prepare_inputs(inputs)
        if "saliency" not in inputs:
            raise ArgumentError("train_dataset: rows have no 'saliency'; adapler.training.stages.targets adds it")
        probe = torch.ones_like(self.core.eta).requires_grad_()  # (L,)
        parts = self._losses(model, inputs, probe=probe)
        self._losses_of_step.append(torch.stack([parts[name].detach() for name in LOSSES]))

        share = 1 / self.current_gradient_accumulation_steps
        cross_entropy = parts["cross_entropy"]
        self._train_thresholds(share * (cross_entropy + self.phi * parts["soft_length"]), probe=probe)
        loss = cross_entropy + self.objectives.gamma * parts["contribution_loss"]
        trained = [parameter for group in self._model_groups().values() for _, parameter in group]
        self.accelerator.backward(share * loss, inputs=trained)
        if self.accelerator.sync_gradients:
            self._average_over_processes(self.core.eta, self.core.theta)
        reported: Tensor = share * loss.detach()
        return reported

    def _losses(self, model: nn.Module, inputs: dict[str, Any], *, probe: Tensor) -> dict[str, Tensor]:
        """The three losses of a batch, scalars."""
        batch = {name: value for name, value in inputs.items() if name != "saliency"}
        with self.compute_loss_context_manager():
            output = model(
                **batch,
                removal="soft",
                slope=self.slope,
                gradient_slope=self.objectives.gradient_slope,
                probe=probe,
            )
        if self.controller is not None:
            self._observe(self.controller, lengths_in=inputs["attention_mask"].sum(1), lengths=output.lengths)
        target = contribution_target(inputs["saliency"], output.log_presence, self.core.theta)  # (B, L, N)
        return {
            "cross_entropy": output.loss.float(),
            "contribution_loss": contribution_loss(output.log_scores, target),
            "soft_length": length_loss(output.lengths.float()),
        }

    @property
    def phi(self) -> float:
        """Weight of the length loss; with a target speedup it changes in every step."""
        return self.objectives.phi if self.controller is None else self.controller.phi

    def _observe(self, controller: SpeedController, *, lengths_in: Tensor, lengths: Tensor) -> None:
        """Show the controller a batch of all processes: true lengths (B,), soft lengths (B, L)."""
        flops = self.accelerator.reduce(controller.flops(lengths_in, lengths))
        steps = max(1, self.state.max_steps)
        share = 1 / (self.current_gradient_accumulation_steps * steps)
        controller.observe(flops, progress=self.state.global_step / steps, share=share)

    def _train_thresholds(self, loss: Tensor, *, probe: Tensor) -> None:
        """Adds the gradients of eta and theta, and of nothing else."""
        eta_gradient, probe_gradient = torch.autograd.grad(loss, [self.core.eta, probe], retain_graph=True)
        _accumulate(self.core.eta, eta_gradient)
        # The factor multiplies theta, so d/d theta = d/d factor / theta; layer 0 has no theta.
        _accumulate(self.core.theta, probe_gradient[1:] / self.core.theta.detach())

    def _average_over_processes(self, *parameters: nn.Parameter) -> None:
        if self.accelerator.num_processes > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.accelerator.num_processes

    def _check_step(self) -> None:
        """Stop before a loss or a gradient that is not finite reaches a weight.

        It is the step's only look at numbers on the device, which a GPU would otherwise wait for at each of them.
        """
        numbers = torch.cat([*self._losses_of_step, *(norm[None] for norm in self._norms_of_step.values())]).tolist()
        count = len(LOSSES)
        passes = [numbers[i : i + count] for i in range(0, count * len(self._losses_of_step), count)]
        norms = dict(zip(self._norms_of_step, numbers[count * len(passes) :], strict=True))
        self._losses_of_step, self._norms_of_step = [], {}
        for losses in passes:
            for name, value in zip(LOSSES, losses, strict=True):
                self._parts.setdefault(name, []).append(value)
        for group, norm in norms.items():
            self._parts.setdefault(f"grad_norm_{group.split()[0]}", []).append(norm)

        broken_losses = next((losses for losses in passes if not all(map(math.isfinite, losses))), None)
        if not true_everywhere(self.accelerator, broken_losses is None):
            shown = broken_losses if broken_losses is not None else passes[-1]
            text = ", ".join(f"{name} {value:.4g}" for name, value in zip(LOSSES, shown, strict=True))
            broken = next((name for name, p in self.core.named_parameters() if not p.isfinite().all()), None)
            where = f"parameter {broken} is not finite" if broken else "all parameters are finite"
            whose = "" if broken_losses is not None else " in another process; here"
            raise TrainingError(f"training stopped at {self._position()}: loss is not finite{whose} ({text}); {where}")
        for group, norm in norms.items():
            if not math.isfinite(norm):
                raise TrainingError(
                    f"training stopped at {self._position()}: the gradient of the parameter group {group!r} is {norm}"
                )

    def _position(self) -> str:
        saved = self.state.global_step and self.state.log_history and self.args.save_strategy != "no"
        kept = f"; checkpoints in {self.args.output_dir} are kept" if saved else ""
        return f"step {self.state.global_step + 1}, epoch {self.state.epoch or 0:.2f}{kept}"

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip the two objectives' gradients separately; each group's norm is computed once."""
        groups = {name: [p for _, p in parameters] for name, parameters in self._model_groups().items()}
        groups[THRESHOLDS] = [self.core.eta, self.core.theta]
        norms = {
            name: torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            for name, parameters in groups.items()
        }
        total: Tensor = torch.stack([norm for name, norm in norms.items() if name != THRESHOLDS]).norm()
        for name, parameters in groups.items():
            norm = norms[name] if name == THRESHOLDS else total
            torch.nn.utils.clip_grads_with_norm_(parameters, self.args.max_grad_norm, norm)
        self._norms_of_step = norms
        return total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the means of the loss parts and gradient norms since the last log, eta and the slope."""
        if "loss" in logs:
            logs = {**logs, **{name: float(np.mean(values)) for name, values in self._parts.items()}}
            logs["slope"] = self.slope
            if self.controller is not None:
                logs |= {"phi": self.controller.phi, "estimated_speedup": self.controller.speedup}
            self._parts = {}
        super().log(logs, *args, **kwargs)

    # Evaluation and checkpoints: of the average, where there is one

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with self._averaged():
            return super().evaluate(*args, **kwargs)

    def _averaged(self) -> AbstractContextManager[None]:
        # A model that has been trained holds the selected epoch's average itself.
        return nullcontext() if self.average is None or not self.is_in_train else self.average.applied()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        with self._averaged():
            super()._save(output_dir, None if self.average is not None else state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if self.average is not None and self.is_in_train:
            self.average.save_live(folder)
        if self.controller is not None and self.is_in_train:
            self.controller.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        if (self.average is not None) != (folder / LIVE_WEIGHTS).is_file():
            held = "no average" if self.average is not None else "an average"
            raise ArgumentError(f"average_decay: {self.objectives.average_decay}, but {folder} was written with {held}")
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load_live(folder)
        if self.controller is not None:
            self.controller.load(folder)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluation only (training has its own step): hard mode, cross-entropy."""
        return super().compute_loss(model, {k: v for k, v in inputs.items() if k != "saliency"}, *args, **kwargs)

    def evaluation_loop(self, dataloader: Any, description: str, *args: Any, **kwargs: Any) -> Any:
        """Adds score, speedup, mean lengths and the selection value to the metrics.

        The score counts examples: the logits of an example's windows are averaged.

        Raises:
            ArgumentError: a streaming data set.
        """
        result = super().evaluation_loop(dataloader, description, *args, **{**kwargs, "prediction_loss_only": False})
        prefix, metric = kwargs.get("metric_key_prefix", "eval"), self.args.metric
        logits, lengths = result.predictions[0], torch.as_tensor(result.predictions[1])
        lengths_in = torch.tensor([len(row) for row in column_of(dataloader.dataset, "input_ids") or ()])
        score = score_rows(dataloader.dataset, logits, result.label_ids, metric=metric)
        gain = speedup(self.core.config, lengths_in, lengths)
        selection = selection_value(
            score,
            gain,
            reference=self.args.reference_score,
            max_drop=self.objectives.max_drop,
            target=self.objectives.target_speedup,
        )
        if self.controller is not None and self.is_in_train:
            result.metrics[f"{prefix}_phi"] = self.controller.phi
            self.controller.calibrate(gain)
        result.metrics.update(
            {
                f"{prefix}_{metric}": score,
                f"{prefix}_speedup": gain,
                f"{prefix}_lengths": [round(float(n), 2) for n in lengths.double().mean(0)],
                f"{prefix}_eta": [round(float(eta), 4) for eta in self.core.eta.detach()],
                f"{prefix}_selection": selection,
            }
        )
        return result


def _accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
