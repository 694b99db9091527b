"""What every trainer here is made of: the order of the rows, and an evaluation in the format of inference."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional
from transformers import Trainer, TrainerState
from transformers.trainer_utils import TrainOutput, get_last_checkpoint

from adapler.distributed import is_main
from adapler.errors import CheckpointError, TrainingError
from adapler.inference import InferenceClassifier, end_autocast
from adapler.training.collator import SamplesByLength
from adapler.training.resume import what_is_kept
from adapler.training.trainer.clock import Clock


class StageTrainer(SamplesByLength, Trainer):  # type: ignore[misc]
    """transformers.Trainer that evaluates as `adapler evaluate --dtype` does.

    Training computes under autocast where `bf16` is set. Autocast converts the weights in each call, and what it rounds
    is not what inference rounds. So an evaluation makes a copy of the weights that the model has then (a running
    average, where that has taken their place) in the same format, see `for_inference`, and asks that. Several processes
    make a copy each.

    Attributes:
        clock: what its checkpoints keep the time in; None: they keep none.
    """

    clock: Clock | None = None
    _evaluated: nn.Module | None = None

    @property
    def dtype(self) -> str:
        """The number format that training and evaluation compute in: "bfloat16" or "float32"."""
        return "bfloat16" if self.args.bf16 else "float32"

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """transformers' training; the model computes in the format of its weights again when it is over."""
        last = get_last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        try:
            if last and self._is_done(Path(last)):
                return TrainOutput(self.state.global_step, 0.0, {})
            return super().train(last or resume_from_checkpoint, **kwargs)
        finally:
            end_autocast(self.model)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """transformers' checkpoint.

        Raises:
            TrainingError: it cannot be written. torch and safetensors say so with errors of their own, no OSError.
        """
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (RuntimeError, SafetensorError) as error:
            if isinstance(error, RuntimeError) and not re.search("inline_container|iostream", str(error)):
                raise
            folder, said = self.args.output_dir, " ".join(str(error).split())
            raise TrainingError(
                f"{folder}: the checkpoint of step {self.state.global_step} cannot be written, the disk may be full "
                f"({said:.80}); {what_is_kept(folder)}"
            ) from error

    def _is_done(self, checkpoint: Path) -> bool:
        """Whether a checkpoint is the training's last; then the model gets the best point's weights, as at the end.

        transformers looks at `max_steps` after a step only, so it would go one step beyond them. And it looks for the
        best point where the folder was when training began: in a folder that has another name by now it finds none, and
        would leave the last one's weights in the model.

        Raises:
            CheckpointError: the best point's weights are gone; transformers would take others in their place.
        """
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.best_model_checkpoint is None:
            return False
        best = checkpoint.parent / Path(state.best_model_checkpoint).name
        if self.args.load_best_model_at_end and not any(best.glob("*.safetensors")):
            raise CheckpointError(
                f"{best}: the weights of the best point so far are gone; put them back, or remove {checkpoint.parent} "
                "and train anew"
            )
        most = self.args.max_steps
        if most <= 0 and self.args.num_train_epochs <= state.num_train_epochs:
            most = state.max_steps
        if not 0 < most <= state.global_step:
            return False
        state.best_model_checkpoint = str(best)
        self.state = state
        self._load_best_model()
        return True

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """transformers' saving of the weights, and the seconds so far.

        A callback would come too late: a checkpoint is whole once it has the trainer's state, see `last_checkpoint`,
        and callbacks are called after that. One that was killed in between would have no time.
        """
        super()._save(output_dir, state_dict)
        if self.clock is not None and self.is_in_train and is_main():  # transformers asks every process
            self.clock.save(Path(output_dir or self.args.output_dir))

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """Autocast around a step: accelerate's is around the model's own forward pass, and misses the packed ones."""
        if self._evaluated is not None:
            return super().compute_loss_context_manager()  # type: ignore[no-any-return]
        return self.accelerator.autocast()  # type: ignore[no-any-return]

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' evaluation, of a copy for inference, with the mean cross-entropy of the rows as its loss.

        transformers takes the mean of batches, and with several processes the last batches hold rows a second time,
        which fill them up.
        """
        self._evaluated = for_evaluation(self.model, dtype=self.dtype)
        try:
            result = super().evaluation_loop(*args, **kwargs)
        finally:
            self._evaluated = None
        if result.predictions is not None and result.label_ids is not None:
            name = f"{kwargs.get('metric_key_prefix', 'eval')}_loss"
            result.metrics[name] = _mean_cross_entropy(result.predictions, result.label_ids)
        return result

    def prediction_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """One batch of an evaluation; the copy takes the model's place."""
        return super().prediction_step(model if self._evaluated is None else self._evaluated, *args, **kwargs)


def _mean_cross_entropy(predictions: Any, labels: Any) -> float:
    """Of logits (B, C), alone or the first of several outputs, with labels (B,)."""
    logits = predictions[0] if isinstance(predictions, tuple) else predictions
    return float(functional.cross_entropy(torch.as_tensor(logits).float(), torch.as_tensor(labels)))


def for_evaluation(model: Any, *, dtype: str) -> Any:
    """The inference copy of a model that trains, AdapLeR's or a plain classifier."""
    if not hasattr(model, "for_inference"):
        return InferenceClassifier(model, dtype=dtype)
    made = model.for_inference(dtype=dtype)
    made.config.return_dict = True  # a tuple has no names, by which the trainer leaves out what it need not collect
    return made
