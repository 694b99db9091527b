"""One eager forward pass for every method that reads attention weights; the model is left exactly as found.

B batch, N padded length, H heads, C classes
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores.base import Batch


@contextmanager
def as_found(model: Any) -> Iterator[None]:
    """Evaluation mode inside; every module's own train/eval mode comes back afterwards, error or not."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def attention_implementation(model: Any, name: str) -> Iterator[None]:
    """Attention implementation `name` inside; each (sub-)config has its own again afterwards."""
    found = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}  # parents come first
    before = [(config, getattr(config, "_attn_implementation", None)) for config in found.values()]
    try:
        model.set_attn_implementation(name)
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


@dataclass(frozen=True, eq=False)
class AttentionPass:
    """logits (B, C); attentions: per layer (B, N, N) float32, mean over heads, row = query, column = key."""

    logits: Tensor
    attentions: tuple[Tensor, ...]


def attention_pass(model: Any, batch: Batch) -> AttentionPass:
    """The classifier's logits and head-averaged attention weights; computed once per batch.

    Raises ArgumentError, naming the model class and its implementation, when the model returns no weights.
    """
    return batch.shared(model, "attention_pass", lambda: _attention_pass(model, batch))


def _attention_pass(model: Any, batch: Batch) -> AttentionPass:
    with as_found(model), attention_implementation(model, "eager"), torch.no_grad():
        output = model(**batch.model_inputs(), output_attentions=True)
        used = getattr(model.config, "_attn_implementation", None)
    weights = output.attentions
    if not weights or any(layer is None for layer in weights):
        raise ArgumentError(
            f"model: {type(model).__name__} returned no attention weights "
            f"(attention implementation {used!r}); methods that read attention cannot run on it"
        )
    # heads are averaged here because no method of this package looks at one head alone
    return AttentionPass(output.logits.float(), tuple(layer.float().mean(1) for layer in weights))  # (B, N, N)


def classifier_logits(model: Any, batch: Batch) -> Tensor:
    """(B, C) float32 logits, from the attention pass if there was one."""
    if batch.has_shared(model, "attention_pass"):
        return attention_pass(model, batch).logits

    def compute() -> Tensor:
        with as_found(model), torch.no_grad():
            logits: Tensor = model(**batch.model_inputs()).logits.float()
            return logits

    return batch.shared(model, "logits", compute)
