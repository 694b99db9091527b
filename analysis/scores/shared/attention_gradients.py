"""The maps of `adapler.backbones.attribution.attention`, for the methods that read them.

B batch, N padded length
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from adapler.backbones.attribution import attention
from analysis.scores.base import Batch
from analysis.scores.shared.forward import share_logits
from analysis.scores.shared.targets import Target, weights_of


def attention_gradient_maps(model: Any, batch: Batch, target: Target) -> list[Tensor]:
    """L times (B, N, N) float32: mean over heads of max(d value / d A^l * A^l, 0). Computed once per batch and target.

    Raises ArgumentError when the weights that the model returns are not the ones that it uses.
    """

    def compute() -> list[Tensor]:
        maps, logits = attention.attention_gradient_maps(
            model, batch.model_inputs(), weigh=lambda logits: weights_of(model, batch, target, logits)
        )
        share_logits(model, batch, logits)
        return maps

    return batch.shared(model, f"attention_gradient_maps {target!r}", compute)
