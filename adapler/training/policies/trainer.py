"""The trainer of all policies beside AdapLeR's own: one stage, with the losses and rates that the stage says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from adapler.passes import plain_pass_of
from adapler.training.policies.base import PolicyTraining
from adapler.training.policies.stage import Stage, Step
from adapler.training.trainer.base import StageTrainer
from adapler.training.trainer.evaluation import point_metrics
from adapler.training.trainer.guards import StepNumbers


class _AfterEachStep(TrainerCallback):  # type: ignore[misc]
    """Looks at a step's numbers before they reach a weight, and keeps parameters in their bounds after it."""

    def __init__(self, trainer: PolicyTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.check_step()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.stage.after_step(self.trainer.core)


class PolicyTrainer(StageTrainer):
    """The trainer of one stage.

    Backbone and policy have learning rates of their own, and the norm of each one's gradient is clipped by itself.
    Evaluation is in hard mode.

    Args:
        model: what trains; parameters whose name begins with "policy." are the policy's.
        stage: see `Stage`.
        training: whose stage it is; counts FLOPs.
        metric: "accuracy" or "f1".
        reference: validation score of the fine-tuned classifier.
        max_drop: of the selection rule.
        teacher: the fine-tuned classifier, for a stage that distils.
        kwargs: as of transformers.Trainer.
    """

    def __init__(
        self,
        model: Any,
        *,
        stage: Stage,
        training: PolicyTraining,
        metric: str,
        reference: float | None,
        max_drop: float,
        teacher: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        self.stage, self.training, self.core, self.teacher = stage, training, model, teacher
        self.metric, self.reference, self.max_drop = metric, reference, max_drop
        for group, rate in (("backbone", stage.backbone_rate), ("policy", stage.policy_rate)):
            for _, parameter in self._named(group):
                parameter.requires_grad_(rate is not None)
        super().__init__(model=model, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is the mean of a batch; see FinetuneTrainer
        self.numbers = StepNumbers()
        self._at, self._pass = -1, 0
        self.add_callback(_AfterEachStep(self))

    def _named(self, group: str) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.core.named_parameters():
            if name.startswith("policy.") == (group == "policy"):
                yield name, parameter

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW groups: backbone and policy, each with and without decay."""
        optimizer: torch.optim.Optimizer | None = getattr(self, "optimizer", None)
        if optimizer is None:
            decayed, groups = set(self.get_decay_parameter_names(self.core)), []
            rates = {"backbone": self.stage.backbone_rate, "policy": self.stage.policy_rate}
            for group, rate in rates.items():
                may = group == "backbone" or self.stage.policy_decay
                for decay in (True, False):
                    chosen = [
                        p for name, p in self._named(group) if p.requires_grad and (may and name in decayed) == decay
                    ]
                    if chosen:
                        by = self.args.weight_decay if decay else 0.0
                        groups.append({"name": group, "params": chosen, "lr": rate, "weight_decay": by})
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.core)
            self.optimizer = optimizer = optimizer_class(groups, **options)
        return optimizer

    # One step

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """The stage's losses, and the gradient of their weighted sum."""
        model.train()
        if self.stage.backbone_rate is None:
            self.core.backbone.eval()  # no dropout in what does not train
        inputs = self._prepare_inputs(inputs)
        steps = max(1, self.state.max_steps)
        with self.compute_loss_context_manager():
            parts = self.stage.losses(
                Step(
                    model=model,
                    core=self.core,
                    batch=inputs,
                    progress=min(self.state.global_step, steps - 1) / steps,
                    generator=self._generator(),
                    **self._taught(inputs),
                )
            )
        self.numbers.add_losses(parts)
        loss = torch.stack([self.stage.weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
        share = 1 / self.current_gradient_accumulation_steps
        self.accelerator.backward(share * loss)
        reported: Tensor = share * loss.detach()
        return reported

    def _generator(self) -> torch.Generator:
        """Its seed is made of the run's seed, the step, the forward pass in it, and the process."""
        step = self.state.global_step
        self._at, self._pass = step, self._pass + 1 if step == self._at else 0
        process = self.args.process_index
        seed = ((self.args.seed * 1_000_003 + step) * 4099 + self._pass) * 1031 + process
        return torch.Generator().manual_seed(seed % (1 << 63))

    def _taught(self, inputs: dict[str, Any]) -> dict[str, Tensor]:
        if not self.stage.distils or self.teacher is None:
            return {}
        with torch.no_grad():
            logits, states = plain_pass_of(self.teacher.to(inputs["input_ids"].device), inputs)
        return {"taught": logits, "taught_states": states}

    def check_step(self) -> None:
        """Stop before a number that is not finite reaches a weight.

        Raises:
            TrainingError: see StepNumbers.check.
        """
        self.numbers.check(self.core, self.accelerator, position=self._position)

    def _position(self) -> str:
        return f"step {self.state.global_step + 1} of the stage {self.stage.name!r}, epoch {self.state.epoch or 0:.2f}"

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip backbone and policy separately; gives the norm of all."""
        norms: dict[str, Tensor] = {}
        for group in ("backbone", "policy"):
            parameters = [p for _, p in self._named(group) if p.grad is not None]
            if parameters:
                norms[group] = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
                torch.nn.utils.clip_grads_with_norm_(parameters, self.args.max_grad_norm, norms[group])
        self.numbers.set_norms(norms)
        total: Tensor = torch.stack(list(norms.values())).norm()
        return total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the means of the losses and gradient norms since the last log."""
        super().log({**logs, **self.numbers.means()} if "loss" in logs else logs, *args, **kwargs)

    # Evaluation

    def evaluation_loop(self, dataloader: Any, description: str, *args: Any, **kwargs: Any) -> Any:
        """Adds score, speedup, mean lengths, the stage's own numbers and the selection value to the metrics."""
        result = super().evaluation_loop(dataloader, description, *args, **{**kwargs, "prediction_loss_only": False})
        metrics = point_metrics(
            self.core,
            dataloader.dataset,
            predictions=result.predictions,
            labels=result.label_ids,
            metric=self.metric,
            reference=self.reference,
            max_drop=self.max_drop,
            speedup=self.training.speedup,
        )
        score, gain = metrics[self.metric], metrics["speedup"]
        if self.stage.selects == "last":
            metrics["selection"] = float(self.state.global_step)
        elif self.stage.selects == "score":
            metrics["selection"] = score - 1e-9 / max(gain, math.ulp(1.0))
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics |= self.stage.numbers(self.core)
        result.metrics.update({f"{prefix}_{name}": value for name, value in metrics.items()})
        return result
