"""A graph beside the PyTorch model that it was made from: logits, lengths and kept tokens.

Dimensions: B texts, L layers, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapler.contribution import threshold
from adapler.errors import CheckpointError

TOLERANCE = 1e-4  # of logits, in float32
# Sums in another order change the last bits of a score. A score this near to its threshold (relative) may fall either
# way, and everything after it differs then.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Difference:
    """A graph against PyTorch on some texts.

    Attributes:
        logits: largest difference of a logit, over texts whose kept tokens are the same.
        texts: how many were compared.
        on_threshold: texts of which a score lies on its threshold to rounding and fell the other way; their logits
            were not compared.
    """

    logits: float
    texts: int
    on_threshold: int


def run_graph(
    session: Any, texts: Sequence[Sequence[int]], *, types: Sequence[Sequence[int]] | None = None, scale: float = 1.0
) -> tuple[Any, Any]:
    """Classify encoded texts with a graph in onnxruntime: all at once in a packed graph, else one by one.

    Args:
        session: an onnxruntime.InferenceSession.
        texts: token ids of each, special tokens included.
        types: token types of each; default 0. Not used by graphs without them.
        scale: factor on every eta.

    Returns:
        logits (B, C) float32, lengths (B, L) int64.
    """
    wanted = {one.name for one in session.get_inputs()}
    types = [[0] * len(ids) for ids in texts] if types is None else types
    packed = "lengths" in wanted

    def feed(ids: Sequence[int], kinds: Sequence[int]) -> dict[str, Any]:
        values = {"input_ids": ids, "token_type_ids": kinds}
        arrays = {name: np.array(value, dtype=np.int64) for name, value in values.items() if name in wanted}
        shaped = arrays if packed else {name: value[None] for name, value in arrays.items()}
        return {**shaped, "threshold_scale": np.array(scale, dtype=np.float32)}

    if packed:
        inputs = feed([token for ids in texts for token in ids], [kind for kinds in types for kind in kinds])
        inputs["lengths"] = np.array([len(ids) for ids in texts], dtype=np.int64)
        logits, lengths = session.run(["logits", "layer_lengths"], inputs)
        return logits, lengths
    outputs = [
        session.run(["logits", "layer_lengths"], feed(ids, kinds)) for ids, kinds in zip(texts, types, strict=True)
    ]
    return np.concatenate([out[0] for out in outputs]), np.concatenate([out[1] for out in outputs])


@torch.inference_mode()
def compare(
    adapler: Any,
    session: Any,
    texts: Sequence[Sequence[int]],
    *,
    where: Path | str,
    types: Sequence[Sequence[int]] | None = None,
    scale: float = 1.0,
) -> Difference:
    """Compare a float32 graph with its model.

    Args:
        adapler: the model, in evaluation mode and float32.
        session, texts, types, scale: see run_graph.
        where: the graph's file, for messages.

    Raises:
        CheckpointError: a text has other kept tokens although none of its scores lies on its threshold, or a logit
            differs by more than 1e-4.
    """
    logits, lengths = run_graph(session, texts, types=types, scale=scale)
    worst, on_threshold = 0.0, 0
    for number, ids in enumerate(texts):
        kinds = None if types is None else torch.tensor([list(types[number])])
        out = adapler(torch.tensor([list(ids)]), token_type_ids=kinds, removal="hard", threshold_scale=scale)
        same = torch.from_numpy(lengths[number]) == out.lengths[0]  # (L,)
        if not bool(same.all()):
            layer = int((~same).nonzero()[0])
            if not _on_threshold(adapler, out, layer=layer, scale=scale):
                raise CheckpointError(
                    f"{where}: {int(lengths[number][layer])} tokens enter layer {layer} of a text of {len(ids)}, "
                    f"PyTorch keeps {int(out.lengths[0, layer])}; the graph is not the model"
                )
            on_threshold += 1
            continue
        difference = float((torch.from_numpy(logits[number]) - out.logits[0]).abs().max())
        if not difference <= TOLERANCE:  # NaN included
            said = f"logits differ from PyTorch's by {difference:.2g}, at most {TOLERANCE:g} is allowed"
            raise CheckpointError(f"{where}: {said}")
        worst = max(worst, difference)
    return Difference(worst, len(texts), on_threshold)


def _on_threshold(adapler: Any, out: Any, *, layer: int, scale: float) -> bool:
    """Whether a score that layer `layer` decides on lies on its threshold to rounding (one text)."""
    before: Tensor = out.retention_mask[0, layer - 1] if layer else torch.ones_like(out.retention_mask[0, 0])
    delta = threshold(adapler.removal_policy.factors[layer].float(), before.sum(), scale=scale)
    scores = out.contribution_scores[0, layer][before]
    return bool(((scores - delta).abs() <= ROUNDING * delta).any())
