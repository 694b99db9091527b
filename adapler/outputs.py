"""Outputs of a forward pass of AdapLeR, and of the passes over many texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from adapler.errors import ArgumentError


@dataclass
class AdapLeROutput(ModelOutput):  # type: ignore[misc]
    """Output of AdapLeR. B batch, L layers (from 0), N padded length of the input, C labels.

    Attributes:
        loss: cross-entropy with the labels, scalar; only when labels are given.
        logits: (B, C).
        lengths: (B, L) tokens that enter each layer, [CLS] included; long, or float (soft lengths) in soft mode,
            where a policy that decides inside a layer has the length after its decision.
        contribution_scores: (B, L, N) softmax of layer l's Contribution Predictor over the tokens present when it
            runs, so each row sums to 1; 0 where a token was dropped before or is padding. A token that layer l's
            own predictor drops has its score in row l. None with removal="none", where no predictor runs. Of another
            policy its scores, which need not sum to 1; in hard mode only.
        retention_mask: (B, L, N) bool, True when the token enters layer l. In soft mode: what hard removal
            would keep of the same scores, None of another policy than AdapLeR's.
        bars: (B, L) the score from which on a token stays in each layer, AdapLeR's threshold; minus infinity where the
            policy does not decide, 0 with threshold_scale 0, where all stay. Hard mode only.
        log_scores: (B, L, N) logarithm of contribution_scores; soft mode only.
        log_presence: (B, L, N) accumulated soft mask (sum of M) of the layers before l, 0 for [CLS]; -1e4
            for padding and for tokens physically removed; soft mode only.
        head_states: (B, D) last hidden states that the head reads, of [CLS] or pooled; soft mode only.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    lengths: Tensor | None = None
    contribution_scores: Tensor | None = None
    retention_mask: Tensor | None = None
    bars: Tensor | None = None
    log_scores: Tensor | None = None
    log_presence: Tensor | None = None
    head_states: Tensor | None = None


def with_loss(output: AdapLeROutput, labels: Tensor) -> AdapLeROutput:
    """The output with the cross-entropy of its logits with labels (B,), in float32 or better."""
    logits = cast(Tensor, output.logits)
    loss = nn.functional.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)
    return AdapLeROutput(loss=loss, **output)  # made anew: the loss comes first, as in transformers


def check_finite(logits: Tensor) -> None:
    """Raises ArgumentError for logits that are not finite, from which no label follows."""
    if not bool(logits.isfinite().all()):
        raise ArgumentError("model: its logits are NaN or infinite, so that no label follows; are its weights finite?")
