"""AdapLeR's trainer: two objectives, each with parameters of its own.

Dimensions: B batch, N tokens, L layers.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapler.errors import ArgumentError
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.passes import plain_pass_of
from adapler.training.arguments import AdapLeRTrainingArguments
from adapler.training.averaging import WeightAverage
from adapler.training.resume import what_is_kept
from adapler.training.schedule import SpeedController, slope_at, slope_at_step
from adapler.training.trainer.checkpoints import CheckpointTrainer
from adapler.training.trainer.distillation import teacher_of
from adapler.training.trainer.evaluation import point_metrics
from adapler.training.trainer.guards import StepGuard, StepNumbers
from adapler.training.trainer.parameters import THRESHOLDS, clip_apart, optimizer_groups, weight_groups
from adapler.training.trainer.step import (
    add_theta_gradient,
    add_threshold_gradients,
    average_over_processes,
    losses_of,
    task_loss,
)


class AdapLeRTrainer(CheckpointTrainer):
    """transformers.Trainer with AdapLeR's objectives.

        backbone, Contribution Predictors, classifier:  CE + gamma * L_CP
        eta, theta:                                     CE + phi * L_len, and nothing else

    Each group's gradient is taken of its own sum, so neither weight can leak into the other group. With routing "local"
    L_CP trains the predictors only, each on its own layer, and L_len reaches no threshold through a hidden state. Rows
    of the training set need `saliency` (see adapler.training.stages.targets). Evaluation is in hard mode. Losses of
    distillation, where their weights are above 0, are added to CE in both lines; `teacher` is the classifier that they
    learn from (see trainer/distillation).

    Raises:
        ArgumentError: a teacher that does not fit, see `teacher_of`; or an option of transformers.Trainer that
            AdapLeR's own step and optimiser would not read.
    """

    def __init__(
        self,
        model: AdapLeRForSequenceClassification,
        args: AdapLeRTrainingArguments,
        *,
        teacher: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        for name in ("compute_loss_func", "optimizer_cls_and_kwargs"):
            if kwargs.get(name) is not None:
                raise ArgumentError(f"{name}: not supported; AdapLeR's training has losses and groups of its own")
        self.objectives = args.objectives.resolved()
        self.teacher = teacher_of(model, teacher, objectives=self.objectives)
        if self.objectives.freeze_backbone:
            model.backbone.requires_grad_(False)
        # Their gradients are set here, by hand, and averaged over processes here too.
        # DistributedDataParallel asks for parameters of the outermost module as ".name" here and "name" there.
        model._ddp_params_and_buffers_to_ignore = ["eta", "theta", ".eta", ".theta"]
        self.core = model
        target, phi = self.objectives.target_speedup, self.objectives.phi
        self.controller = None if target is None else SpeedController(phi=phi, target=target, config=model.config)
        super().__init__(model=model, args=args, **kwargs)
        self.add_callback(StepGuard(self._check_step))
        self.numbers = StepNumbers()
        self._last_slope = math.nan
        decay = self.objectives.average_decay
        self.average = WeightAverage(model, decay=decay) if decay else None
        if self.average is not None:
            self.add_callback(self.average)

    # Parameters

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW groups: backbone, Contribution Predictors (each with and without decay), eta and theta."""
        optimizer: torch.optim.Optimizer | None = getattr(self, "optimizer", None)
        if optimizer is None:
            own_rate = self.objectives.predictor_learning_rate
            groups = optimizer_groups(
                self.core,
                rates={
                    "backbone": self.args.learning_rate,
                    "predictors": self.args.learning_rate if own_rate is None else own_rate,
                    THRESHOLDS: self.objectives.eta_learning_rate,
                },
                decayed=set(self.get_decay_parameter_names(self.core)),
                weight_decay=self.args.weight_decay,
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

        One backward pass is not enough for exact gradients. Below the last Contribution Predictor a hidden state needs
        two, one of CE + gamma L_CP for the weights and one of CE + phi L_len for eta. L_CP and L_len both read the
        scores of later layers, so neither gradient is 0 there. Their sum would train eta by gamma and the weights by
        phi. So there are two passes. The first ends at layer 0's attention and computes no gradient of a weight.

        With routing "local" L_CP and L_len have no gradient in a hidden state (see soft_pass), so one pass does it.
        """
        model.train()
        if self.objectives.freeze_backbone:
            self.core.backbone.eval()  # no dropout in a classifier that does not train
        inputs = self._prepare_inputs(inputs)
        if "saliency" not in inputs:
            raise ArgumentError("train_dataset: rows have no 'saliency'; adapler.training.stages.targets adds it")
        probe = torch.ones_like(self.core.eta).requires_grad_()  # (L,)
        parts = self._losses(model, inputs, probe=probe)
        self.numbers.add_losses(parts)
        task = task_loss(parts, self.objectives)

        share = 1 / self.current_gradient_accumulation_steps
        loss = task + self.objectives.gamma * parts["contribution_loss"]
        length = self.phi * parts["soft_length"]
        trained = [parameter for group in weight_groups(self.core).values() for _, parameter in group]
        if self.objectives.routing == "local":
            self.accelerator.backward(share * (loss + length), inputs=[*trained, self.core.eta, probe])
            add_theta_gradient(self.core.theta, cast(Tensor, probe.grad))
        else:
            second = share * (task + length)
            add_threshold_gradients(second, eta=self.core.eta, theta=self.core.theta, probe=probe)
            self.accelerator.backward(share * loss, inputs=trained)
        if self.accelerator.sync_gradients:
            average_over_processes(self.core.eta, self.core.theta, processes=self.accelerator.num_processes)
        reported: Tensor = share * loss.detach()
        return reported

    def _losses(self, model: nn.Module, inputs: dict[str, Any], *, probe: Tensor) -> dict[str, Tensor]:
        """The losses of a batch, scalars."""
        batch = {name: value for name, value in inputs.items() if name != "saliency"}
        self._last_slope = self.slope
        with self.compute_loss_context_manager():
            output = model(
                **batch,
                removal="soft",
                slope=self._last_slope,
                gradient_slope=self.objectives.gradient_slope,
                probe=probe,
                local_losses=self.objectives.routing == "local",
                return_dict=True,  # whatever the model's configuration says
            )
        if self.controller is not None:
            self._observe(self.controller, lengths_in=inputs["attention_mask"].sum(1), lengths=output.lengths)
        taught = None
        if self.teacher is not None:
            with torch.no_grad(), self.compute_loss_context_manager():
                taught = plain_pass_of(self.teacher.to(inputs["input_ids"].device), inputs)
        return losses_of(
            output,
            inputs["saliency"],
            theta=self.core.theta,
            teacher=taught,
            temperature=self.objectives.distillation_temperature,
        )

    @property
    def phi(self) -> float:
        """Weight of the length loss; with a target speedup it changes in every step."""
        return self.objectives.phi if self.controller is None else self.controller.phi

    def _observe(self, controller: SpeedController, *, lengths_in: Tensor, lengths: Tensor) -> None:
        """Show the controller a batch of all processes: true lengths (B,), soft lengths (B, L)."""
        flops = controller.flops(lengths_in, lengths)  # (2,), on the CPU
        if self.accelerator.num_processes > 1:  # which share what lies on their devices
            flops = self.accelerator.reduce(flops.to(self.accelerator.device))
        steps = max(1, self.state.max_steps)
        share = 1 / (self.current_gradient_accumulation_steps * steps)
        controller.observe(flops, progress=self.state.global_step / steps, share=share)

    def _check_step(self) -> None:
        self.numbers.check(self.core, self.accelerator, position=self._position)

    def _position(self) -> str:
        kept = what_is_kept(self.args.output_dir)
        return f"step {self.state.global_step + 1}, epoch {self.state.epoch or 0:.2f}; {kept}"

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip the two objectives' gradients separately; gives the norm of the first one's."""
        total, norms = clip_apart(self.core, most=self.args.max_grad_norm)
        self.numbers.set_norms(norms)
        return total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the means of losses and gradient norms since the last log, and the slope and phi of the last step."""
        if "loss" in logs:
            logs = {**logs, **self.numbers.means(), "slope": self._last_slope}  # `slope` is the next step's by now
            if self.controller is not None:
                logs |= {"phi": self.controller.phi, "estimated_speedup": self.controller.speedup}
        super().log(logs, *args, **kwargs)

    # Evaluation

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluation only (training has its own step): hard mode, cross-entropy."""
        return super().compute_loss(model, {k: v for k, v in inputs.items() if k != "saliency"}, *args, **kwargs)

    def evaluation_loop(self, dataloader: Any, description: str, *args: Any, **kwargs: Any) -> Any:
        """Adds score, speedup, mean lengths, eta and the selection value to the metrics.

        The score counts examples: the logits of an example's windows are averaged.

        Raises:
            ArgumentError: a streaming data set.
        """
        result = super().evaluation_loop(dataloader, description, *args, **{**kwargs, "prediction_loss_only": False})
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics = point_metrics(
            self.core,
            dataloader.dataset,
            predictions=result.predictions,
            labels=result.label_ids,
            metric=self.args.metric,
            reference=self.args.reference_score,
            max_drop=self.objectives.max_drop,
            target=self.objectives.target_speedup,
        )
        if self.controller is not None and self.is_in_train:
            result.metrics[f"{prefix}_phi"] = self.controller.phi
            self.controller.calibrate(metrics["speedup"])
        result.metrics.update({f"{prefix}_{name}": value for name, value in metrics.items()})
        return result
