"""The backbone alone, nothing dropped, with what its head reads: inference, packed fine-tuning, and teachers.

Dimensions: B batch, N padded length, T packed tokens, D hidden size, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.model.passes.packed import embedded


def plain_pass(
    backbone: PreTrainedModel, *, input_ids: Tensor, mask: Tensor, token_type_ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All layers on all tokens, packed.

    Args:
        backbone: a plain classifier whose attention is that of its family, as in AdapLeRForSequenceClassification.
        input_ids, mask: (B, N) ids, and 1 for real tokens; each row has one at least.
        token_type_ids: (B, N), for backbones that have them.

    Returns:
        Logits (B, C), and the last hidden states that the head reads (B, D): those of [CLS], or their pooled mean.
    """
    positions = families.position_ids(backbone, mask)  # (B, N)
    batch = embedded(backbone, input_ids=input_ids, mask=mask, positions=positions, token_type_ids=token_type_ids)
    hidden, at, segments = batch.hidden, batch.positions, batch.segments
    for index in range(len(families.layers_of(backbone)) - 1):
        hidden = families.run_layer(backbone, index, hidden, positions=at, segments=segments)
    states = families.run_last_layer(backbone, hidden, positions=at, segments=segments)[0]  # (B, D)
    return families.head(backbone, states), states


def plain_pass_of(backbone: PreTrainedModel, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """`plain_pass` of a batch as a collator makes it, by its names: input_ids, attention_mask, token_type_ids."""
    return plain_pass(
        backbone,
        input_ids=batch["input_ids"],
        mask=batch["attention_mask"],
        token_type_ids=batch.get("token_type_ids"),
    )
