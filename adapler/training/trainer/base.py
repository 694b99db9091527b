"""What every trainer here is made of: the order of the rows, and an evaluation in the format of inference."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from transformers import Trainer

from adapler.model.inference_copy import InferenceClassifier, end_autocast
from adapler.training.collator import SamplesByLength


class StageTrainer(SamplesByLength, Trainer):  # type: ignore[misc]
    """transformers.Trainer that evaluates as `adapler evaluate --dtype` does.

    Training computes under autocast where `bf16` is set. Autocast converts the weights in each call, and what it rounds
    is not what inference rounds. So an evaluation makes a copy of the weights that the model has then (a running
    average, where that has taken their place) in the same format, see `for_inference`, and asks that. Several processes
    make a copy each.
    """

    _evaluated: nn.Module | None = None

    @property
    def dtype(self) -> str:
        """The number format that training and evaluation compute in: "bfloat16" or "float32"."""
        return "bfloat16" if self.args.bf16 else "float32"

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' training; the model computes in the format of its weights again when it is over."""
        try:
            return super().train(*args, **kwargs)
        finally:
            end_autocast(self.model)

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """Autocast around a step: accelerate's is around the model's own forward pass, and misses the packed ones."""
        if self._evaluated is not None:
            return super().compute_loss_context_manager()  # type: ignore[no-any-return]
        return self.accelerator.autocast()  # type: ignore[no-any-return]

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' evaluation, of a copy for inference."""
        self._evaluated = for_evaluation(self.model, dtype=self.dtype)
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            self._evaluated = None

    def prediction_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """One batch of an evaluation; the copy takes the model's place."""
        return super().prediction_step(model if self._evaluated is None else self._evaluated, *args, **kwargs)


def for_evaluation(model: Any, *, dtype: str) -> Any:
    """The inference copy of a model that trains, AdapLeR's or a plain classifier."""
    if hasattr(model, "for_inference"):
        return model.for_inference(dtype=dtype)
    return InferenceClassifier(model, dtype=dtype)
