"""How much a classifier's loss depends on what its layers did to each token: TR-BERT's guide (Ye et al., NAACL 2021).

Dimensions: B batch, P points, N padded length, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from adapler.backbones.attribution.saliency import recorded_inputs
from adapler.backbones.families import layers_of
from adapler.errors import ArgumentError


def removal_guide(classifier: PreTrainedModel, batch: Mapping[str, Tensor], *, points: Sequence[int]) -> Tensor:
    """The guide of every token at each point w.

        guide_i^w = | < dCE / dh_i^r, h_i^r - h_i^w > |,   r = reference_layer

    To first order it is how much the loss would change if the token had stayed as it was at w. The model is left as
    found: mode, gradients and parameters.

    Args:
        classifier: a fine-tuned classifier of a supported family.
        batch: input_ids (B, N), attention_mask (B, N), labels (B,), and whatever else the classifier takes.
        points: layers whose inputs the h^w are.

    Returns:
        (B, P, N) float32, 0 at padding.

    Raises:
        ArgumentError: the classifier has no layer after the last point.
    """
    reference = reference_layer(len(layers_of(classifier)), points=points)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with recorded_inputs(classifier, sorted({*points, reference})) as recorded:
        logits = classifier(**inputs, return_dict=True).logits.float()  # (B, C)
        loss = functional.cross_entropy(logits, batch["labels"], reduction="sum")  # texts do not meet in it
        gradient = torch.autograd.grad(loss, recorded[reference])[0].float()  # (B, N, D)
    changes = torch.stack([(recorded[reference] - recorded[at]).detach().float() for at in points], dim=1)
    found = (gradient[:, None] * changes).sum(-1).abs()  # (B, P, N, D) -> (B, P, N)
    return found * batch["attention_mask"][:, None]


def reference_layer(layers: int, *, points: Sequence[int]) -> int:
    """r: three quarters of the way up (9 of 12 layers, 4 of 6), and above every point.

    Raises:
        ArgumentError: there is no layer above the last point.
    """
    found = max(3 * layers // 4, max(points) + 1)
    if found >= layers:
        raise ArgumentError(f"points: {max(points)} is the last of {layers} layers; the guide needs one above it")
    return found
