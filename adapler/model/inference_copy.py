"""A model for inference in another number format, which shares what it can with the model it is made of."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from adapler.backbones import families
from adapler.precision import choose_dtype


def inference_copy(model: Any, *, dtype: str) -> Any:
    """See AdapLeRForSequenceClassification.for_inference."""
    chosen = getattr(torch, choose_dtype(dtype, model.device))
    if all(p.dtype == chosen for p in families.layers_of(model.backbone).parameters()):
        return _copied(model, {})
    layers = families.layers_of(model.backbone)
    converted = {id(p): nn.Parameter(p.detach().to(chosen), requires_grad=False) for p in layers.parameters()}
    return _copied(model, converted)


def _copied(model: Any, converted: dict[int, nn.Parameter]) -> Any:
    """A copy whose parameters and buffers are the model's own, but for the converted ones (by their id)."""
    shared = {id(tensor): tensor.detach() for tensor in model.buffers()}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    with torch.no_grad():
        return copy.deepcopy(model, {**shared, **converted}).eval()
