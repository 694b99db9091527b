"""Saliency: gradient x input at the input of every layer, from one backward pass.

Dimensions: B batch, L layers, N padded length, D hidden size, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones.targets import Target, target_weights


@contextmanager
def _differentiable_input(classifier: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, and an embedding output that carries a gradient even when every weight is frozen."""

    def require(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output if output.requires_grad else output.requires_grad_()

    modes = {module: module.training for module in classifier.modules()}
    handle = classifier.get_input_embeddings().register_forward_hook(require)
    classifier.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        handle.remove()
        for module, training in modes.items():
            module.training = training


def layer_saliency(classifier: PreTrainedModel, batch: Mapping[str, Tensor], *, target: Target | Tensor) -> Tensor:
    """Saliency of every token at the input of every layer (AdapLeR, section 3.3; Simonyan et al., 2014).

        saliency_i^l = || (d value / d h_i^l) * h_i^l ||_2, normalised to sum 1 over real tokens

    The model is left as found: mode, gradients and parameters.

    Args:
        classifier: any transformers sequence classifier whose encoder returns hidden states.
        batch: input_ids (B, N), attention_mask (B, N), and whatever else the classifier takes; labels (B,)
            are used with target="gold" only.
        target: which logit, or contrast of logits, the value is: see `adapler.backbones.targets.target_weights`;
            or class indices (B,).

    Returns:
        (B, L, N) float32, 0 at padding, and 0 in a layer where nothing has a gradient.

    Raises:
        ArgumentError: a target that the model does not have, or labels outside the model's.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with _differentiable_input(classifier):
        output = classifier(**inputs, output_hidden_states=True)
        weights = target_weights(
            target, output.logits, labels=batch.get("labels"), id2label=getattr(classifier.config, "id2label", None)
        )
        value = (output.logits * weights).sum()
        hidden = output.hidden_states[:-1]  # L times (B, N, D)
        gradients = torch.autograd.grad(value, hidden)
    scores = torch.stack(
        [(g.float() * h.float()).norm(dim=-1) for g, h in zip(gradients, hidden, strict=True)], dim=1
    ).detach()  # (B, L, N)
    mask = batch.get("attention_mask")
    if mask is not None:
        scores = scores * mask[:, None, :]
    return scores / scores.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
