"""Scores of AdapLeR's Contribution Predictors: Modarressi, Mohebbi and Pilehvar (2022).

https://aclanthology.org/2022.acl-long.1
"""

from __future__ import annotations

from typing import Any

import torch

from analysis.scores.base import Batch, LayerScores, scoring_method
from analysis.scores.shared.forward import as_found


def adapler_pass(model: Any, batch: Batch) -> Any:
    """The AdapLeR model's output in hard mode; computed once per batch."""

    def compute() -> Any:
        with as_found(model), torch.no_grad():
            return model(**batch.model_inputs(), removal="hard", threshold_scale=batch.threshold_scale)

    return batch.shared(model, "adapler_pass", compute)


@scoring_method(
    "cp",
    paper="https://aclanthology.org/2022.acl-long.1",
    needs="adapler",
    title="AdapLeR CP",
    cost="1 AdapLeR forward",
    reads="threshold_scale",
)
def contribution(model: Any, batch: Batch) -> LayerScores:
    """S~_i^l while token i is present when CP_l runs, 0 once it is dropped.

    `present` are those tokens: the real ones in layer 0, in layer l the ones that entered layer l - 1.
    """
    output = adapler_pass(model, batch)
    real = batch.attention_mask.bool()[:, None, :]  # (B, 1, N)
    present = torch.cat([real, output.retention_mask[:, :-1].bool()], dim=1)  # (B, L, N)
    return LayerScores(output.contribution_scores.float() * real, present)
