"""Saliency: gradient x input at the input of every layer, from one backward pass.

Dimensions: B batch, L layers, N padded length, D hidden size, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.errors import ArgumentError

Target = Literal["predicted", "gold"] | Tensor


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


def _target_labels(target: Target, logits: Tensor, labels: Tensor | None) -> Tensor:
    if isinstance(target, Tensor):
        return target
    if target == "predicted":
        return logits.argmax(-1)
    if target == "gold":
        if labels is None:
            raise ArgumentError("target: 'gold' needs labels in the batch")
        return labels
    raise ArgumentError(f"target: {target!r} is not 'predicted', 'gold' or a tensor of labels")


def layer_saliency(classifier: PreTrainedModel, batch: Mapping[str, Tensor], *, target: Target) -> Tensor:
    """Saliency of every token at the input of every layer (AdapLeR, section 3.3; Simonyan et al., 2014).

        saliency_i^l = || (d logit_target / d h_i^l) * h_i^l ||_2, normalised to sum 1 over real tokens

    The model is left as found: mode, gradients and parameters.

    Args:
        classifier: any transformers sequence classifier whose encoder returns hidden states.
        batch: input_ids (B, N), attention_mask (B, N), and whatever else the classifier takes; labels (B,)
            are used with target="gold" only.
        target: which logit: "predicted", "gold", or class indices (B,).

    Returns:
        (B, L, N) float32, 0 at padding.

    Raises:
        ArgumentError: no such target, or labels outside the model's.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with _differentiable_input(classifier):
        output = classifier(**inputs, output_hidden_states=True)
        chosen = _target_labels(target, output.logits, batch.get("labels"))
        classes = output.logits.shape[-1]
        if int(chosen.min()) < 0 or int(chosen.max()) >= classes:
            raise ArgumentError(f"target: labels outside the model's {classes}: {sorted(set(chosen.tolist()))}")
        logit = output.logits.gather(-1, chosen[:, None]).sum()
        hidden = output.hidden_states[:-1]  # L times (B, N, D)
        gradients = torch.autograd.grad(logit, hidden)
    scores = torch.stack(
        [(g.float() * h.float()).norm(dim=-1) for g, h in zip(gradients, hidden, strict=True)], dim=1
    ).detach()  # (B, L, N)
    mask = batch.get("attention_mask")
    if mask is not None:
        scores = scores * mask[:, None, :]
    return scores / scores.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
