"""The decomposition of `adapler.backbones.attribution.detached`, computed once per batch, target and rule."""

from __future__ import annotations

from typing import Any

from adapler.backbones.attribution.detached import Decomposition, decompose
from analysis.scores.base import Batch
from analysis.scores.shared.forward import share_logits
from analysis.scores.shared.targets import Target, weights_of


def detached_pass(model: Any, batch: Batch, target: Target, *, softmax: bool) -> Decomposition:
    """The decomposition at the input of every layer; `softmax` and what is raised as of `decompose`."""

    def compute() -> Decomposition:
        found = decompose(
            model,
            batch.model_inputs(),
            weigh=lambda logits: weights_of(model, batch, target, logits),
            softmax=softmax,
        )
        share_logits(model, batch, found.logits)
        return found

    return batch.shared(model, f"detached_pass {target!r} {softmax}", compute)
