"""Training: two objectives with their own parameters, a slope that grows, and the rule that picks an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments

from adapler.errors import ArgumentError, TrainingError
from adapler.inference.metrics import score_predictions
from adapler.model.contribution import slope_at
from adapler.model.flops import speedup
from adapler.model.modeling import AdapLeRForSequenceClassification
from adapler.training.averaging import LIVE_WEIGHTS, WeightAverage
from adapler.training.losses import contribution_loss, contribution_target, length_loss


@dataclass
class AdapLeRTrainingArguments(TrainingArguments):  # type: ignore[misc]
    """transformers' TrainingArguments (its learning_rate is the backbone's) and what AdapLeR adds.

    Attributes:
        gamma: weight of the contribution loss, which trains backbone and Contribution Predictors.
        phi: weight of the length loss, which trains eta (and theta, through its probe).
        predictor_learning_rate: of the Contribution Predictors; default: learning_rate.
        eta_learning_rate: of eta and theta.
        gradient_slope: bound on the slope whose gradient soft removal has, see contribution.soft_removal; infinity
            is the paper's.
        max_slope: bound on the slope itself (ours; None is the paper's schedule): a steep one leaves no gradient to
            the tokens just below a threshold, which could bring them back.
        average_decay: of the running average of the weights, which is then what is evaluated and saved; 0: none.
        freeze_backbone: post-hoc mode; the backbone and its head stay bit-identical.
        reference_score: the fine-tuned model's best validation score, for the selection rule.
        max_drop: how far below it an epoch may be and still qualify.
        metric: "accuracy" or "f1".
    """

    gamma: float = 0.02
    phi: float = 2e-4
    predictor_learning_rate: float | None = None
    eta_learning_rate: float = 5e-3
    gradient_slope: float = 50.0
    max_slope: float | None = None
    average_decay: float = 0.0
    freeze_backbone: bool = False
    reference_score: float | None = None
    max_drop: float = 0.01
    metric: str = "accuracy"
    remove_unused_columns: bool = field(default=False)
    ddp_find_unused_parameters: bool | None = field(default=False)  # every parameter that trains is used

    def __post_init__(self) -> None:
        for name in ("gamma", "phi", "eta_learning_rate", "max_drop"):
            if not getattr(self, name) >= 0:
                raise ArgumentError(f"{name}: {getattr(self, name)} is not at least 0")
        for name in ("gradient_slope", "max_slope"):
            if (bound := getattr(self, name)) is not None and not bound > 0:
                raise ArgumentError(f"{name}: {bound} is not above 0")
        if not 0 <= self.average_decay < 1:
            raise ArgumentError(f"average_decay: {self.average_decay} is not in [0, 1)")
        super().__post_init__()


class SaliencyCollator:
    """Pads a batch; `saliency` gets zeros at padding. Columns a model does not take are left out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        names = ("input_ids", "attention_mask", "token_type_ids")
        batch = dict(
            self.tokenizer.pad(
                [{name: row[name] for name in names if name in row} for row in rows], return_tensors="pt"
            )
        )
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        if "saliency" in rows[0]:
            saliency = torch.zeros(batch["input_ids"].shape)
            for index, row in enumerate(rows):
                saliency[index, : len(row["saliency"])] = torch.as_tensor(row["saliency"])
            batch["saliency"] = saliency
        return batch


class _ClampEta(TrainerCallback):  # type: ignore[misc]
    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.clamp_eta()


class AdapLeRTrainer(Trainer):  # type: ignore[misc]
    """transformers.Trainer with AdapLeR's objectives.

        backbone, Contribution Predictors, classifier:  CE + gamma * L_CP
        eta, theta:                                     CE + phi * L_len, and nothing else

    Each group's gradient is taken of its own sum, so neither weight can leak into the other group. Rows of the
    training set need `saliency` (see adapler.training.stages.targets). Evaluation is in hard mode.
    """

    args: AdapLeRTrainingArguments

    def __init__(self, model: AdapLeRForSequenceClassification, args: AdapLeRTrainingArguments, **kwargs: Any) -> None:
        if args.freeze_backbone:
            model.backbone.requires_grad_(False)
        # Their gradients are set here, by hand, and averaged over processes here too.
        # DistributedDataParallel asks for parameters of the outermost module as ".name" here and "name" there.
        model._ddp_params_and_buffers_to_ignore = ["eta", "theta", ".eta", ".theta"]
        self.core = model
        super().__init__(model=model, args=args, **kwargs)
        self.add_callback(_ClampEta())
        self._parts: dict[str, list[float]] = {}
        self.average = WeightAverage(model, decay=args.average_decay) if args.average_decay else None
        if self.average is not None:
            self.add_callback(self.average)

    # Parameters

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW groups: backbone, Contribution Predictors (each with and without decay), eta and theta."""
        optimizer: torch.optim.Optimizer | None = getattr(self, "optimizer", None)
        if optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.core))
            rates = {"backbone": self.args.learning_rate, "predictors": self.args.predictor_learning_rate}
            rates["predictors"] = self.args.learning_rate if rates["predictors"] is None else rates["predictors"]
            groups: list[dict[str, Any]] = []
            for name, parameters in self._model_groups().items():
                for decay in (True, False):
                    chosen = [p for n, p in parameters if (n in decayed) == decay]
                    weight_decay = self.args.weight_decay if decay else 0.0
                    if chosen:
                        groups.append({"name": name, "params": chosen, "lr": rates[name], "weight_decay": weight_decay})
            groups.append(
                {
                    "name": "eta and theta",
                    "params": [self.core.eta, self.core.theta],
                    "lr": self.args.eta_learning_rate,
                    "weight_decay": 0.0,
                }
            )
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.core)
            self.optimizer = optimizer = optimizer_class(groups, **options)
        return optimizer

    def _model_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Trainable parameters of the first objective, by group."""
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {"backbone": [], "predictors": []}
        for name, parameter in self.core.named_parameters():
            if parameter.requires_grad and name not in ("eta", "theta"):
                groups["backbone" if name.startswith("backbone.") else "predictors"].append((name, parameter))
        return {name: parameters for name, parameters in groups.items() if parameters}

    # One step

    @property
    def slope(self) -> float:
        """Soft removal's lambda in the current epoch."""
        epochs = max(1, math.ceil(self.args.num_train_epochs))
        slope = slope_at(min(int(self.state.epoch or 0), epochs - 1), epochs)
        return slope if self.args.max_slope is None else min(slope, self.args.max_slope)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward once, then each objective's gradient for its own parameters."""
        model.train()
        if self.args.freeze_backbone:
            self.core.backbone.eval()  # no dropout in a classifier that does not train
        inputs = self._prepare_inputs(inputs)
        if "saliency" not in inputs:
            raise ArgumentError("train_dataset: rows have no 'saliency'; adapler.training.stages.targets adds it")
        saliency = inputs.pop("saliency")
        probe = torch.ones_like(self.core.eta).requires_grad_()
        with self.compute_loss_context_manager():
            output = model(
                **inputs, removal="soft", slope=self.slope, gradient_slope=self.args.gradient_slope, probe=probe
            )
        cross_entropy, shrink = output.loss.float(), length_loss(output.lengths.float())
        target = contribution_target(saliency, output.log_presence, self.core.theta)
        contribution = contribution_loss(output.log_scores, target)
        parts = {"cross_entropy": cross_entropy, "contribution_loss": contribution, "soft_length": shrink}
        self._check_finite(parts)

        share = 1 / self.current_gradient_accumulation_steps
        thresholds = share * (cross_entropy + self.args.phi * shrink)
        eta_gradient, probe_gradient = torch.autograd.grad(thresholds, [self.core.eta, probe], retain_graph=True)
        _accumulate(self.core.eta, eta_gradient)
        # The factor multiplies theta, so d/d theta = d/d factor / theta; layer 0 has no theta.
        _accumulate(self.core.theta, probe_gradient[1:] / self.core.theta.detach())
        loss = cross_entropy + self.args.gamma * contribution
        trained = [parameter for group in self._model_groups().values() for _, parameter in group]
        self.accelerator.backward(share * loss, inputs=trained)
        if self.accelerator.sync_gradients and self.accelerator.num_processes > 1:
            for parameter in (self.core.eta, self.core.theta):
                if parameter.grad is not None:  # set above
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.accelerator.num_processes
        reported: Tensor = share * loss.detach()
        return reported

    def _check_finite(self, parts: Mapping[str, Tensor]) -> None:
        values = {name: float(value.detach()) for name, value in parts.items()}
        for name, value in values.items():
            self._parts.setdefault(name, []).append(value)
        if not all(math.isfinite(value) for value in values.values()):
            text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            guilty = next((name for name, p in self.core.named_parameters() if not p.isfinite().all()), None)
            where = f"parameter {guilty} is not finite" if guilty else "all parameters are finite"
            raise TrainingError(f"training stopped at {self._position()}: loss is not finite ({text}); {where}")

    def _position(self) -> str:
        saved = self.state.global_step and self.state.log_history and self.args.save_strategy != "no"
        kept = f"; checkpoints in {self.args.output_dir} are kept" if saved else ""
        return f"step {self.state.global_step + 1}, epoch {self.state.epoch or 0:.2f}{kept}"

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip the two objectives' gradients separately; a gradient that is not finite stops training before it
        reaches a weight."""
        groups = {name: [p for _, p in parameters] for name, parameters in self._model_groups().items()}
        groups["eta and theta"] = [self.core.eta, self.core.theta]
        for name, parameters in groups.items():
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            self._parts.setdefault(f"grad_norm_{name.split()[0]}", []).append(float(norm))
            if not self.args.fp16 and not torch.isfinite(norm):
                raise TrainingError(
                    f"training stopped at {self._position()}: the gradient of the parameter group {name!r} is {norm}"
                )
        total: Tensor = torch.nn.utils.clip_grad_norm_(
            [p for name, parameters in groups.items() if name != "eta and theta" for p in parameters],
            self.args.max_grad_norm,
        )
        torch.nn.utils.clip_grad_norm_(groups["eta and theta"], self.args.max_grad_norm)
        return total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the means of the loss parts and gradient norms since the last log, eta and the slope."""
        if "loss" in logs:
            logs = {**logs, **{name: float(np.mean(values)) for name, values in self._parts.items()}}
            logs["slope"] = self.slope
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
        if self.average is not None and self.is_in_train:
            self.average.save_live(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        if (self.average is not None) != (folder / LIVE_WEIGHTS).is_file():
            held = "no average" if self.average is not None else "an average"
            raise ArgumentError(f"average_decay: {self.args.average_decay}, but {folder} was written with {held}")
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load_live(folder)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluation only (training has its own step): hard mode, cross-entropy."""
        return super().compute_loss(model, {k: v for k, v in inputs.items() if k != "saliency"}, *args, **kwargs)

    def evaluation_loop(self, dataloader: Any, description: str, *args: Any, **kwargs: Any) -> Any:
        """Adds score, speedup, mean lengths and the selection value to the metrics."""
        result = super().evaluation_loop(dataloader, description, *args, **{**kwargs, "prediction_loss_only": False})
        prefix = kwargs.get("metric_key_prefix", "eval")
        logits, lengths = result.predictions[0], torch.as_tensor(result.predictions[1])
        dataset = dataloader.dataset
        lengths_in = torch.tensor([len(row) for row in dataset["input_ids"]])
        score = score_predictions(logits.argmax(-1), result.label_ids, metric=self.args.metric)
        gain = speedup(self.core.config, lengths_in, lengths)
        result.metrics.update(
            {
                f"{prefix}_{self.args.metric}": score,
                f"{prefix}_speedup": gain,
                f"{prefix}_lengths": [round(float(n), 2) for n in lengths.double().mean(0)],
                f"{prefix}_eta": [round(float(eta), 4) for eta in self.core.eta.detach()],
                f"{prefix}_selection": selection_value(
                    score, gain, reference=self.args.reference_score, max_drop=self.args.max_drop
                ),
            }
        )
        return result


def selection_value(score: float, gain: float, *, reference: float | None, max_drop: float = 0.01) -> float:
    """A number whose maximum over epochs is the selection rule.

    Among epochs whose validation score is within `max_drop` of the fine-tuned model's, the one with the highest
    FLOPs speedup; when none qualifies, the one with the best score, of equal ones the fastest. Qualifying epochs get
    1 + speedup (a speedup is above 0), the others their score (at most 1), lower by next to nothing the slower
    they are.
    """
    # A tolerance in the last digits: .865 - .855 is not to fail for a rounding error.
    qualifies = reference is not None and score >= reference - max_drop - 1e-9
    return 1 + gain if qualifies else score - 1e-9 / gain


def _accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
