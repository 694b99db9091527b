"""Random scores: the chance level of every metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from analysis.scores.base import Batch, LayerScores, normalise, scoring_method


@scoring_method("random", paper="none", title="Random", cost="none", reads="seed")
def random(model: Any, batch: Batch) -> LayerScores:
    """Uniform draws, new for each layer; they depend on the seed and the document's id, not on the batch."""
    n_batch, n_tokens = batch.attention_mask.shape
    n_layers = model.config.num_hidden_layers
    values = torch.zeros(n_batch, n_layers, n_tokens)
    for row, real in enumerate(batch.attention_mask.sum(-1).tolist()):
        generator = np.random.default_rng(batch.entropy(row))
        draws = generator.random((n_layers, real), dtype=np.float32)  # (L, n)
        values[row, :, :real] = torch.from_numpy(draws)
    return LayerScores(normalise(values.to(batch.attention_mask.device), batch.attention_mask))
