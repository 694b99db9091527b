"""Forward passes that methods share. The model itself is never written to.

Methods run a working copy: modules of its own that share the model's weights. Whatever is set on it - evaluation
mode, hooks, the attention implementation, what transformers and captum leave on modules - goes away with it, after
an error too. So the model is left as found, and threads can explain one model at the same time.

B batch, N padded length, H heads, C classes
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores.base import Batch
from analysis.scores.shared.precision import full_precision


def working_copy(model: Any) -> Any:
    """The model in evaluation mode, as modules and configuration of its own on the same weights and buffers.

    Hooks of the model are there too. It takes the time of a copy of the module tree, no copy of a tensor.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        shared |= {id(value): value for value in vars(module).values() if isinstance(value, Tensor)}
    return copy.deepcopy(model, shared).eval()


@contextmanager
def differentiable(model: Any) -> Iterator[Any]:
    """A working copy whose activations carry gradients even when every weight is frozen; gradients are on inside."""

    def require(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output if output.requires_grad else output.requires_grad_()

    twin = working_copy(model)
    twin.get_input_embeddings().register_forward_hook(require)
    with torch.enable_grad():
        yield twin


def eager_forward(twin: Any, batch: Batch, **options: Any) -> Any:
    """The output of a working copy with attention weights, per layer (B, H, N, N).

    Raises ArgumentError, naming the model class and its implementation, when the model returns no weights.
    """
    twin.set_attn_implementation("eager")
    output = twin(**batch.model_inputs(), output_attentions=True, **options)
    weights = output.attentions
    if not weights or any(layer is None for layer in weights):
        used = getattr(twin.config, "_attn_implementation", None)
        raise ArgumentError(
            f"model: {type(twin).__name__} returned no attention weights "
            f"(attention implementation {used!r}); methods that read attention cannot run on it"
        )
    return output


@dataclass(frozen=True, eq=False)
class AttentionPass:
    """logits (B, C); attentions: per layer (B, N, N) float32, mean over heads, row = query, column = key."""

    logits: Tensor
    attentions: tuple[Tensor, ...]


def attention_pass(model: Any, batch: Batch) -> AttentionPass:
    """The classifier's logits and head-averaged attention weights; computed once per batch."""

    def compute() -> AttentionPass:
        with torch.no_grad():
            output = eager_forward(working_copy(model), batch)
        # heads are averaged here, so that no more than one layer's heads outlive the pass
        with full_precision(batch):
            means = tuple(layer.float().mean(1).to(batch.input_ids.device) for layer in output.attentions)  # (B, N, N)
        return AttentionPass(share_logits(model, batch, output.logits), means)

    return batch.shared(model, "attention_pass", compute)


def share_logits(model: Any, batch: Batch, logits: Tensor) -> Tensor:
    """Remember the logits of a pass made for something else, so that none is made for them; (B, C) float32."""
    return batch.shared(model, "logits", lambda: logits.detach().float().to(batch.input_ids.device))


def classifier_logits(model: Any, batch: Batch) -> Tensor:
    """(B, C) float32 logits, from whichever pass was first on this batch."""

    def compute() -> Tensor:
        ready = working_copy(model) if model.training else model
        with torch.no_grad():
            logits: Tensor = ready(**batch.model_inputs()).logits.float()
            return logits.to(batch.input_ids.device)

    return batch.shared(model, "logits", compute)
