"""The trainer of every stage: fine-tuning, AdapLeR, and all other policies.

The losses, groups of parameters and gradients are the stage's (`adapler.policies.base.Stage`). It is
transformers.Trainer with a learning rate and a gradient norm for each group, guards against numbers that are not
finite, averaged weights, a teacher, and an evaluation in the dtype of inference.

Dimensions: B batch, N longest row of the batch, L layers.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from adapler import flops
from adapler.errors import TrainingError
from adapler.evaluation import score_by_example
from adapler.inference import InferenceClassifier, Predictions, end_autocast, pad_rows, predict_rows
from adapler.passes import plain_pass
from adapler.policies.base import Stage, Step
from adapler.system import GROUP_TIMEOUT, choose_device, from_main, is_main, wait_for_everyone
from adapler.training.config import Optimisation

STATE = "stage.json"  # in a checkpoint: seconds so far, and the stage's own state
LIVE_WEIGHTS = "live.safetensors"  # in a checkpoint, whose model.safetensors holds the average


def stage_arguments(options: Optimisation, folder: Path, **extra: Any) -> TrainingArguments:
    """TrainingArguments: an evaluation and a checkpoint after every epoch, or `eval_steps` steps, and at the end."""
    strategy = "epoch" if options.eval_steps is None else "steps"
    if options.report_to == "tensorboard":  # otherwise within `folder`, which does not stay
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder.parent / "tensorboard"))
    # transformers has given the option a new name. The reentrant kind gives a frozen backbone no gradient.
    new = "activation_checkpointing"
    name = new if new in TrainingArguments.__dataclass_fields__ else "gradient_checkpointing"
    kind = {name: True, f"{name}_kwargs": {"use_reentrant": False}} if options.gradient_checkpointing else {}
    made = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        eval_strategy=strategy,
        save_strategy=strategy,
        eval_steps=options.eval_steps,
        save_steps=options.eval_steps or 500,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        bf16=options.autocasts,
        seed=options.seed,
        use_cpu=choose_device(options.device).type == "cpu",
        dataloader_num_workers=options.workers,
        train_sampling_strategy="group_by_length" if options.group_by_length else "random",
        load_best_model_at_end=True,
        metric_for_best_model="selection",
        greater_is_better=True,
        logging_strategy="steps",
        logging_steps=0.02,
        logging_nan_inf_filter=False,  # a loss that is not finite is an error here, not something to smooth over
        ddp_timeout=int(GROUP_TIMEOUT.total_seconds()),
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        report_to=options.report_to,
        **{**kind, **extra},
    )
    if (found := made.n_gpu) > 1:  # nn.DataParallel would split per-layer tensors over GPUs as if they were batches
        print(f"note: one of {found} GPUs is used; `torchrun --nproc-per-node {found} -m adapler ...` uses all")
        made._n_gpu = 1
    return made


class PaddingCollator:
    """Pads the rows of a batch on the right: inputs (B, N), labels (B,), and targets (B, N) with zeros at padding, or
    (B, K, N) where a row has K of them. Other columns are left out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch = pad_rows(rows, pad_token_id=self.tokenizer.pad_token_id, device=torch.device("cpu"))
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        if "targets" in rows[0]:
            found = [torch.as_tensor(row["targets"]) for row in rows]  # (n,) or (K, n) each
            batch["targets"] = torch.zeros(len(rows), *found[0].shape[:-1], batch["input_ids"].shape[1])
            for index, target in enumerate(found):
                batch["targets"][index, ..., : target.shape[-1]] = target
        return batch


class WeightAverage(TrainerCallback):  # type: ignore[misc]
    """A running average of the weights that train: mean <- d mean + (1 - d) weights, d = min(decay, t / (t + 9)).

    An exponential moving average (Polyak and Juditsky, 1992) against the noise of gradients through soft removal. The
    ramp keeps the first weights from counting for hundreds of steps.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.live = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.mean = {name: parameter.detach().clone() for name, parameter in self.live.items()}

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        for name, parameter in self.live.items():  # the trainer may have moved the model to a device
            self.mean[name] = self.mean[name].to(parameter.device)

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step  # counts on where an interrupted training was
        decay = min(self.decay, step / (step + 9))
        for name, parameter in self.live.items():
            self.mean[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights."""
        for name, parameter in self.live.items():
            parameter.data, self.mean[name] = self.mean[name], parameter.data
        try:
            yield
        finally:
            for name, parameter in self.live.items():
                parameter.data, self.mean[name] = self.mean[name], parameter.data

    def load_live(self, folder: Path) -> None:
        """Go on from a checkpoint: the model, which has its average, gets its live weights."""
        saved: Mapping[str, Tensor] = load_file(folder / LIVE_WEIGHTS)
        with torch.no_grad():
            for name, parameter in self.live.items():
                self.mean[name] = parameter.detach().clone()
                parameter.copy_(saved[name])


class _Guard(TrainerCallback):  # type: ignore[misc]
    """Checks a step's numbers before they reach a weight."""

    def __init__(self, trainer: StageTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.check_step()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.stage.after_step(self.trainer.core)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        end_autocast(self.trainer.core)  # the model computes in the dtype of its weights again


class StageTrainer(Trainer):  # type: ignore[misc]
    """transformers.Trainer of one stage of a policy, for an AdapLeRForSequenceClassification or a plain classifier.

    `reference` is the validation score of the fine-tuned classifier, without which no point qualifies, `teacher` that
    classifier, for a stage that distils; `speedup` is (model, true lengths (B,), lengths (B, L)) -> speedup in FLOPs,
    default: see `flops.speedup`.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        stage: Stage,
        metric: str = "accuracy",
        reference: float | None = None,
        max_drop: float = 0.01,
        speedup: Callable[[Any, Tensor, Tensor], float] | None = None,
        teacher: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        self.stage, self.core, self.teacher = stage, model, teacher
        self.metric, self.reference, self.max_drop = metric, reference, max_drop
        self.speedup = speedup or (lambda model, *lengths: flops.speedup(model.config, *lengths))
        for name, parameter in model.named_parameters():
            if stage.rates.get(stage.group_of(name)) is None:
                parameter.requires_grad_(False)
        if stage.by_hand:
            # DistributedDataParallel asks for parameters of the outermost module as ".name" here and "name" there.
            model._ddp_params_and_buffers_to_ignore = [*stage.by_hand, *(f".{name}" for name in stage.by_hand)]
        super().__init__(model=model, args=args, **kwargs)
        # The loss is the mean of a batch. With True, the trainer would add these means over accumulated batches and
        # processes, and not average.
        self.model_accepts_loss_kwargs = False
        self.add_callback(_Guard(self))
        self.average = WeightAverage(model, decay=stage.average_decay) if stage.average_decay else None
        if self.average is not None:
            self.add_callback(self.average)
        self.started = time.time()
        self._at, self._pass = -1, 0
        self._parts: list[tuple[str, Tensor]] = []  # the losses of each forward pass of this step
        self._norms: dict[str, Tensor] = {}
        self._since_log: dict[str, list[float]] = {}

    # Parameters

    def _groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Trainable parameters by group, in the order of the stage's rates."""
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {name: [] for name in self.stage.rates}
        for name, parameter in self.core.named_parameters():
            if parameter.requires_grad:
                groups[self.stage.group_of(name)].append((name, parameter))
        return {name: parameters for name, parameters in groups.items() if parameters}

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimizer, with each group of the stage with and without decay."""
        if getattr(self, "optimizer", None) is None:
            decayed, groups = set(self.get_decay_parameter_names(self.core)), []
            for group, parameters in self._groups().items():
                may = group not in self.stage.no_decay
                for decay in (True, False):
                    if chosen := [p for name, p in parameters if (may and name in decayed) == decay]:
                        by = self.args.weight_decay if decay else 0.0
                        rate = self.stage.rates[group]
                        groups.append({"name": group, "params": chosen, "lr": rate, "weight_decay": by})
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.core)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """transformers' schedule; the rate of the stage's constant groups stays up after the warmup."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        warmup = max(1, self.args.get_warmup_steps(num_training_steps))
        for index, group in enumerate(scheduler.optimizer.param_groups):
            if group["name"] in self.stage.constant:
                scheduler.lr_lambdas[index] = lambda step: min(1.0, step / warmup)
        return scheduler

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip the gradients, each set of groups by its own norm; gives the norm of the first set."""
        groups = {name: [p for _, p in found if p.grad is not None] for name, found in self._groups().items()}
        gradients: dict[str, list[Any]] = {name: [p.grad for p in found] for name, found in groups.items()}
        norms = {name: nn.utils.get_total_norm(found) for name, found in gradients.items() if found}
        self._norms = {f"grad_norm_{name.split()[0]}": norm for name, norm in norms.items()}
        totals = []
        for names in self.stage.clipped or [(name,) for name in norms]:
            if present := [name for name in names if name in norms]:
                own = [norms[name] for name in present]
                totals.append(own[0] if len(names) == 1 else torch.stack(own).norm())
                for name in present:
                    nn.utils.clip_grads_with_norm_(groups[name], self.args.max_grad_norm, totals[-1])
        return totals[0] if self.stage.clipped else torch.stack(totals).norm()

    # One step

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        model.train()
        if self.stage.rates.get("backbone") is None:
            self.core.backbone.eval()  # no dropout in what does not train
        inputs = self._prepare_inputs(inputs)
        state, by_steps = self.state, self.args.max_steps > 0
        steps, share = max(1, state.max_steps), 1 / self.current_gradient_accumulation_steps
        epochs = max(1, math.ceil(state.num_train_epochs if by_steps else self.args.num_train_epochs))
        taught: Tensor | None = None
        if self.stage.distils:
            with torch.no_grad(), self.compute_loss_context_manager():
                self.teacher = self.teacher.to(inputs["input_ids"].device)  # type: ignore[union-attr]
                taught = plain_pass(self.teacher, inputs)
        parts, loss = self.stage.train_step(
            Step(
                model=model,
                core=self.core,
                batch=inputs,
                number=min(state.global_step, steps - 1),
                steps=steps,
                epoch=min(int(state.epoch or 0), epochs - 1),
                epochs=epochs,
                by_steps=by_steps or self.args.eval_strategy == "steps",
                share=share,
                autocast=self.compute_loss_context_manager,
                run_backward=self.accelerator.backward,
                generator=self._generator(),
                reduced=self._reduced,
                taught=taught,
            )
        )
        self._parts += [(name, part.detach()) for name, part in parts.items()]
        if self.stage.by_hand and self.accelerator.sync_gradients and self.accelerator.num_processes > 1:
            for name in self.stage.by_hand:  # as DistributedDataParallel does for the others
                if (gradient := getattr(self.core, name).grad) is not None:
                    torch.distributed.all_reduce(gradient)
                    gradient /= self.accelerator.num_processes
        return share * loss.detach()

    def _reduced(self, values: Tensor) -> Tensor:
        """The sum over processes; of one process the values as they are, which may be float64 beside an MPS device."""
        several = self.accelerator.num_processes > 1
        return self.accelerator.reduce(values.to(self.accelerator.device)) if several else values

    def _generator(self) -> torch.Generator:
        """Its seed is made of the run's seed, the step, the forward pass in it, and the process."""
        step = self.state.global_step
        self._at, self._pass = step, self._pass + 1 if step == self._at else 0
        seed = ((self.args.seed * 1_000_003 + step) * 4099 + self._pass) * 1031 + self.args.process_index
        return torch.Generator().manual_seed(seed % (1 << 63))

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """Autocast around a step: accelerate's is around the model's own forward pass, and misses the packed ones."""
        return self.accelerator.autocast()

    def check_step(self) -> None:
        """Stop before a loss or a gradient that is not finite reaches a weight, in all processes where it is in one."""
        names, tensors = zip(*self._parts, *self._norms.items(), strict=True)
        numbers = list(zip(names, torch.stack(tensors).tolist(), strict=True))  # one wait for a GPU
        self._parts, self._norms = [], {}
        bad = next((f"{name} is {value}" for name, value in numbers if not math.isfinite(value)), "")
        if self.accelerator.num_processes > 1:
            flag = torch.tensor(int(not bad), device=self.accelerator.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN)
            bad = bad or ("" if flag.item() else "a number is not finite in another process")
        if bad:
            broken = [name for name, parameter in self.core.named_parameters() if not parameter.isfinite().all()]
            where = f"parameter {broken[0]} is not finite" if broken else "all parameters are finite"
            step, epoch = self.state.global_step + 1, self.state.epoch or 0
            last = last_checkpoint(Path(self.args.output_dir))
            raise TrainingError(
                f"training stopped at step {step} of stage {self.stage.name!r}, epoch {epoch:.2f}: {bad}; {where}; "
                + ("no checkpoint was written yet" if last is None else f"the last checkpoint is {last}")
            )
        for name, value in numbers:
            self._since_log.setdefault(name, []).append(value)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the means of losses and gradient norms since the last log, and what the stage says of the step."""
        if "loss" in logs:
            logs = {**logs, **{name: float(np.mean(values)) for name, values in self._since_log.items()}}
            logs |= self.stage.logged()
            self._since_log = {}
        super().log(logs, *args, **kwargs)

    # Evaluation

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Score, speedup, mean lengths and selection value of the validation rows, in hard mode.

        The autocast of training rounds otherwise than inference does, so an evaluation makes a copy of the weights, or
        of their average, in the dtype of inference. The main process computes it, while the others wait.
        """
        torch.empty((), dtype=torch.int64).random_()  # as a data loader does: published runs went on with such draws
        metrics = None
        if is_main():
            inference = getattr(self.core, "for_inference", partial(InferenceClassifier, self.core))
            with self._averaged():
                model = inference(dtype="bfloat16" if self.args.bf16 else "float32")
                padding = self.data_collator.tokenizer.pad_token_id
                metrics = self._metrics(predict_rows(model, self.eval_dataset, pad_token_id=padding))
        metrics = from_main(metrics)
        if self.is_in_train:
            self.stage.evaluated(metrics)
        if not math.isfinite(metrics["loss"]):
            step = self.state.global_step
            raise TrainingError(f"training stopped after step {step}: the validation loss is not finite")
        metrics = {f"eval_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        control: Any = self.control  # type: ignore[has-type]
        self.control = self.callback_handler.on_evaluate(self.args, self.state, control, metrics)
        return metrics

    def _averaged(self) -> AbstractContextManager[None]:
        """While training, the average of the weights is evaluated and saved."""
        # A model that has been trained holds the selected epoch's average itself.
        return nullcontext() if self.average is None or not self.is_in_train else self.average.applied()

    def _metrics(self, found: Predictions) -> dict[str, Any]:
        rows = self.eval_dataset
        labels = rows["labels"][:]
        owners = rows["example_id"][:] if "example_id" in rows.column_names else list(map(str, range(len(labels))))
        score = score_by_example(found.logits, labels, owners, metric=self.metric)
        gain = self.speedup(self.core, found.lengths_in, found.lengths)
        return {
            "loss": float(functional.cross_entropy(found.logits.float(), torch.tensor(labels))),
            self.metric: score,
            "speedup": gain,
            "lengths": [round(float(n), 2) for n in found.lengths.double().mean(0)],
            **self.stage.numbers(self.core),
            "selection": self.stage.value(
                score, gain, reference=self.reference, max_drop=self.max_drop, step=self.state.global_step
            ),
        }

    # Checkpoints

    def is_over(self, last: str | None) -> bool:
        """Whether the last checkpoint is the end of the training; then the model gets the best point's weights.

        transformers would go one step beyond `max_steps`, and look for the best point where the folder was at first.
        """
        if last is None:
            return False
        self.started = time.time() - _state_in(Path(last)).get("seconds", 0.0)
        state = TrainerState.load_from_json(f"{last}/trainer_state.json")
        most = self.args.max_steps if self.args.max_steps > 0 else state.max_steps
        if state.best_model_checkpoint is None or state.global_step < most:
            return False
        state.best_model_checkpoint = str(Path(last).with_name(Path(state.best_model_checkpoint).name))
        self.state = state
        self._load_best_model()
        return True

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The weights' average, if there is one; and what training goes on from, before the trainer's state, with
        which a checkpoint is whole."""
        with self._averaged():
            super()._save(output_dir, None if self.average is not None else state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if self.is_in_train and is_main():  # transformers calls this in every process
            state = {"seconds": time.time() - self.started, "stage": self.stage.state()}
            (folder / STATE).write_text(json.dumps(state), encoding="utf-8")
            if self.average is not None:
                live = {name: parameter.detach() for name, parameter in self.average.live.items()}
                save_file(live, folder / LIVE_WEIGHTS)  # from which training resumes

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        if self.average is not None:
            self.average.load_live(folder)
        if state := _state_in(folder).get("stage"):
            self.stage.load_state(state)


def _state_in(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / STATE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of an interrupted training: the trainer's state is what it gets last."""
    steps = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*[0-9]") if path.is_dir()}
    for _, path in sorted(steps.items(), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(path)
    return None


class KeepBest(TrainerCallback):  # type: ignore[misc]
    """Removes the checkpoints that are neither among the best by selection nor the newest."""

    def __init__(self, most: int) -> None:
        self.most = most

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not is_main():
            return
        values = {row["step"]: row["eval_selection"] for row in state.log_history if "eval_loss" in row}
        best = sorted(values, key=lambda step: (-values[step], step))[: self.most]
        for path in Path(args.output_dir).glob("checkpoint-*[0-9]"):
            step = int(path.name.rpartition("-")[2])
            if step in values and step not in best and step != state.global_step:
                shutil.rmtree(path, ignore_errors=True)


def evaluated_points(trainer: StageTrainer) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The evaluated points of a training, for its record, and the selected one."""
    precision, rows = "bfloat16" if trainer.args.bf16 else "float32", []
    for entry in trainer.state.log_history:
        if "eval_loss" in entry:
            row = {key.removeprefix("eval_"): value for key, value in entry.items() if key.startswith("eval_")}
            rows.append({"epoch": round(entry["epoch"], 4), "step": entry["step"], "precision": precision, **row})
    wait_for_everyone()  # every process has read the selected point's checkpoint by now
    return rows, max(rows, key=lambda row: row["selection"])
