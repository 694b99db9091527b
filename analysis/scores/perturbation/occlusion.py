"""Occlusion: Zeiler and Fergus (2014), https://arxiv.org/abs/1311.2901; through captum.

    score_i = F(x) - F(x without token i)

With window = w, the w tokens from i on go out together, and a token's score is the mean over the windows that
hold it. Special tokens are never taken out and score 0.
"""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import Occlusion

from analysis.scores.base import Batch, LayerScores, scoring_method
from analysis.scores.shared.forward import Target, as_found
from analysis.scores.shared.inputs import Sign, at_least, presence, reduced, singles


@scoring_method(
    "occlusion",
    paper="https://arxiv.org/abs/1311.2901",
    title="Occlusion",
    layerwise=False,
    cost="n forwards",
    reads=(),
)
def occlusion(
    model: Any,
    batch: Batch,
    *,
    window: int = 1,
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """What the target's logit loses when a content token is replaced."""
    at_least("window", window, 1)
    values = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)  # (B, N)
    for row, single in singles(batch):
        with as_found(model):
            document = presence(model, single, target)
            n_content = len(document.positions)
            if not n_content:
                continue
            found = Occlusion(document.logit).attribute(
                torch.ones(1, n_content, device=values.device),
                sliding_window_shapes=(min(window, n_content),),
                baselines=0.0,
                perturbations_per_eval=document.per_pass,
            )
        values[row, document.positions] = found[0].to(values)
    return reduced(values[:, None], batch, reduction)
