"""Which value of the classifier a method explains: the option `target` of every gradient and perturbation method.

    predicted                  the logit of the predicted class
    gold                       the logit of the gold class
    NEG, neg, 0                the logit of this class, by name or index
    contrast                   the predicted class's logit minus the strongest other one
    contrast:gold, contrast:NEG, contrast:0
                               the same for the gold class, and for this class

The strongest other class is the one of the input as it is; it stays when tokens are taken away. The resolver itself
is `adapler.backbones.targets`, where training uses it too.

B batch, C classes
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adapler.backbones.targets import Target, needs_labels, target_weights
from analysis.scores.base import Batch

__all__ = ["Target", "check_target", "needs_labels", "target_value", "weights_of"]


def check_target(target: Target, config: Any) -> None:
    """ArgumentError for a target that a classifier of this configuration does not have, whatever the text."""
    anything = torch.zeros(1, config.num_labels)
    target_weights(target, anything, labels=torch.zeros(1, dtype=torch.long), id2label=config.id2label)


def weights_of(model: Any, batch: Batch, target: Target, logits: Tensor) -> Tensor:
    """(B, C) weights of the logits in the explained value, for this batch."""
    id2label = getattr(model.config, "id2label", None) or {}
    return target_weights(target, logits.detach(), labels=batch.labels, id2label=id2label)


def target_value(logits: Tensor, weights: Tensor) -> Tensor:
    """logits (..., C), weights (..., C) -> (...,)."""
    return (logits * weights).sum(-1)
