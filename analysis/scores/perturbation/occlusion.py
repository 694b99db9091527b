"""Occlusion; through captum."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from captum.attr import Occlusion

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import Sign, Token, presence, reduced, singles
from analysis.scores.shared.targets import Target
from analysis.scores.specs import AtLeast


@scoring_method(
    "occlusion",
    paper="https://arxiv.org/abs/1311.2901",
    title="Occlusion",
    cost="n forwards",
    reads=(),
    scope=AT_INPUT,
)
def occlusion(
    model: Any,
    batch: Batch,
    *,
    window: Annotated[int, AtLeast(1)] = 1,
    replacement: Token = "mask",
    reduction: Sign = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Occlusion: what the target loses when a token is replaced.

    Formula: score_i = F(x) - F(x without token i). With window = w the w tokens from i on go out together, and a
        token's score is the mean over the windows that hold it. Special tokens stay and score 0.
    Layer: at the input. There is one score a token.
    Cost: n forwards.
    Misleads: a token that says what another one says as well loses nothing alone; the mask token is a word
        of its own to the model. Scores have a sign by default: for FPR, TPR and the headline figure take
        reduction=absolute or positive.
    Reference: Zeiler and Fergus (2014), Visualizing and Understanding Convolutional Networks,
        https://arxiv.org/abs/1311.2901
    """
    twin = working_copy(model)
    values = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)  # (B, N)
    for row, single in singles(batch):
        document = presence(twin, single, target, replacement)
        n_content = len(document.positions)
        if not n_content:
            continue
        found = Occlusion(document.value).attribute(
            torch.ones(1, n_content, device=values.device),
            sliding_window_shapes=(min(window, n_content),),
            baselines=0.0,
            perturbations_per_eval=document.per_pass,
        )
        values[row, document.positions] = found[0].to(values)
    return reduced(values[:, None], batch, reduction)
