"""The position as score: earlier tokens first."""

from __future__ import annotations

from typing import Any

from analysis.scores.base import Batch, LayerScores, normalise
from analysis.scores.registry import AT_INPUT, scoring_method


@scoring_method("position", paper="none", title="Position", cost="none", reads=(), scope=AT_INPUT)
def position(model: Any, batch: Batch) -> LayerScores:
    """Position: the earlier a token stands, the higher it scores (the lead baseline of summarisation).

    Formula: score_i = (n - i) / (n (n + 1) / 2), i from 0, n tokens of the input.
    Layer: at the input. There is one score a token.
    Cost: none. Neither the model nor the words are looked at.
    Misleads: it is a baseline, no explanation. It selects the first half at 1/n. Where a document is read in several
        windows, each window starts anew. A method that does not beat it may have learnt where people mark, not what.
    Reference: none
    """
    mask = batch.attention_mask  # (B, N)
    values = mask.sum(-1, keepdim=True) - mask.cumsum(-1) + 1
    return LayerScores(normalise(values[:, None], mask))
