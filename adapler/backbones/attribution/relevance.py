"""What each token is worth to a classifier, by the name of a method: the raw material of training targets.

Dimensions: B batch, L layers, K layers that are asked for, N padded length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones.attribution.attention import accumulated, attention_gradient_maps
from adapler.backbones.attribution.detached import decompose
from adapler.backbones.attribution.saliency import checked_layers, layer_saliency
from adapler.backbones.targets import Target, target_weights
from adapler.errors import ArgumentError

Kind = Literal["saliency", "attention_gradient", "decomposition"]
KINDS: tuple[Kind, ...] = ("saliency", "attention_gradient", "decomposition")


def token_relevance(
    classifier: PreTrainedModel,
    batch: Mapping[str, Tensor],
    *,
    kind: Kind,
    target: Target,
    layers: Sequence[int] | None = None,
) -> Tensor:
    """The share of each token that enters a layer in what the classifier says.

        saliency            || (d value / d h_i^l) * h_i^l ||_2                      AdapLeR, section 3.3
        attention_gradient  [CLS]'s row of (I + A^(L-1)) ... (I + A^l) - I           Chefer et al., 2021
        decomposition       max(h_i^l . d value / d h_i^l, 0) with attention's probabilities, layer-norm deviations
                            and activation ratios as constants                       DecompX, Modarressi et al., 2023

    A^l is max(d value / d attention * attention, 0), mean over heads. What speaks against the value is cut off in the
    last two. The model is left as found.

    Args:
        classifier: a transformers sequence classifier of a supported family, in evaluation mode.
        batch: input_ids (B, N), attention_mask (B, N), and whatever else the classifier takes; labels (B,) for a target
            about the gold class.
        kind: the method.
        target: which logit, or contrast of logits, the value is; see `adapler.backbones.targets.target_weights`.
        layers: K different layers, from 0. Default: all.

    Returns:
        (B, K, N) float32, each row sums to 1; 0 at padding, and 0 in a row without anything above 0.

    Raises:
        ArgumentError: another kind; a target or layer that the model does not have.
    """
    asked = checked_layers(classifier, layers)
    if kind == "saliency":
        return layer_saliency(classifier, batch, target=target, layers=asked)
    if kind not in KINDS:
        raise ArgumentError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    weigh = _weights(classifier, target, batch.get("labels"))
    if kind == "attention_gradient":
        maps, _ = attention_gradient_maps(classifier, inputs, weigh=weigh)
        relevance = accumulated(maps)  # (B, L, N)
    else:
        relevance = decompose(classifier, inputs, weigh=weigh).relevance
    shares = relevance[:, asked].float().clamp_min(0) * batch["attention_mask"][:, None, :]  # (B, K, N)
    return shares / shares.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def _weights(classifier: PreTrainedModel, target: Target, labels: Tensor | None) -> Callable[[Tensor], Tensor]:
    names = getattr(classifier.config, "id2label", None)
    return lambda logits: target_weights(target, logits, labels=labels, id2label=names)
