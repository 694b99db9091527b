"""Random scores: the chance level of every metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import IN_LAYER, scoring_method


@scoring_method("random", paper="none", title="Random", cost="none", reads="seed", scope=IN_LAYER)
def random(model: Any, batch: Batch) -> LayerScores:
    """Random scores: uniform draws, new for each layer, as the chance level of every metric.

    Formula: score_i^l = u_i^l / sum over j of u_j^l, u drawn evenly from [0, 1).
    Layer: in the layer. The draws of two layers have nothing to do with each other.
    Cost: none.
    Misleads: one draw is one sample of chance; over few documents it can lie far from it. The draws depend on the
        seed and on the document's id, not on the batch.
    Reference: none
    """
    n_batch, n_tokens = batch.attention_mask.shape
    n_layers = model.config.num_hidden_layers
    values = torch.zeros(n_batch, n_layers, n_tokens)
    for row, real in enumerate(batch.attention_mask.sum(-1).tolist()):
        generator = np.random.default_rng(batch.entropy(row))
        draws = generator.random((n_layers, real), dtype=np.float32)  # (L, n)
        values[row, :, :real] = torch.from_numpy(draws)
    return LayerScores(normalise(values.to(batch.attention_mask.device), batch.attention_mask))
