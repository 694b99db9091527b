"""Forward passes that methods share. The model itself is never written to: methods run a working copy.

B batch, N padded length, H heads, C classes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapler.backbones.attribution.twin import answering, differentiable, gradients_of, working_copy
from adapler.backbones.attribution.twin import eager_forward as twin_forward
from analysis.scores.base import Batch
from analysis.scores.shared.precision import full_precision

__all__ = [
    "AttentionPass",
    "answering",
    "attention_pass",
    "classifier_logits",
    "differentiable",
    "eager_forward",
    "gradients_of",
    "share_logits",
    "working_copy",
]


def eager_forward(twin: Any, batch: Batch, **options: Any) -> Any:
    """The output of a working copy with attention weights, per layer (B, H, N, N).

    Raises ArgumentError, naming the model class, when the model returns no weights, or none of this shape.
    """
    return twin_forward(twin, batch.model_inputs(), **options)


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
        ready = answering(model)
        with torch.no_grad():
            logits: Tensor = ready(**batch.model_inputs()).logits.float()
            return logits.to(batch.input_ids.device)

    return batch.shared(model, "logits", compute)
