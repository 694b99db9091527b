"""Forward passes that methods share; the model is left exactly as found.

B batch, N padded length, H heads, C classes
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores.base import Batch

Target = Literal["predicted", "gold"]

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def as_found(model: Any) -> Iterator[None]:
    """Evaluation mode inside; afterwards, error or not, every module has its own mode, hooks and attributes again.

    That includes what transformers and captum leave behind: transformers installs recording hooks, and a mark
    that it did, at the first call that asks for hidden states; captum's DeepLIFT keeps activations on modules
    when it is interrupted.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    hooks = [{name: dict(getattr(module, name)) for name in _HOOKS} for module in modules]
    attributes = [set(vars(module)) for module in modules]
    model.eval()
    try:
        yield
    finally:
        for module, training, before, known in zip(modules, modes, hooks, attributes, strict=True):
            module.training = training
            for name, entries in before.items():
                now = getattr(module, name)
                if now.keys() != entries.keys():
                    now.clear()
                    now.update(entries)
            for name in set(vars(module)) - known:
                delattr(module, name)


@contextmanager
def attention_implementation(model: Any, name: str) -> Iterator[None]:
    """Attention implementation `name` inside; each (sub-)config has its own again afterwards."""
    found = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}  # parents come first
    before = [(config, getattr(config, "_attn_implementation", None)) for config in found.values()]
    try:
        model.set_attn_implementation(name)
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


@contextmanager
def differentiable(model: Any) -> Iterator[None]:
    """As found afterwards; inside, activations carry gradients even when every weight is frozen."""

    def require(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output if output.requires_grad else output.requires_grad_()

    with as_found(model), torch.enable_grad():
        model.get_input_embeddings().register_forward_hook(require)  # as_found takes it away
        yield


def eager_forward(model: Any, batch: Batch, **options: Any) -> Any:
    """The model's output with attention weights, per layer (B, H, N, N); call it inside `as_found`.

    Raises ArgumentError, naming the model class and its implementation, when the model returns no weights.
    """
    with attention_implementation(model, "eager"):
        output = model(**batch.model_inputs(), output_attentions=True, **options)
        used = getattr(model.config, "_attn_implementation", None)
    weights = output.attentions
    if not weights or any(layer is None for layer in weights):
        raise ArgumentError(
            f"model: {type(model).__name__} returned no attention weights "
            f"(attention implementation {used!r}); methods that read attention cannot run on it"
        )
    return output


@dataclass(frozen=True, eq=False)
class AttentionPass:
    """logits (B, C); attentions: per layer (B, N, N) float32, mean over heads, row = query, column = key."""

    logits: Tensor
    attentions: tuple[Tensor, ...]


def attention_pass(model: Any, batch: Batch) -> AttentionPass:
    """The classifier's logits and head-averaged attention weights; computed once per batch."""

    def compute() -> AttentionPass:
        with as_found(model), torch.no_grad():
            output = eager_forward(model, batch)
        # heads are averaged here, so that no more than one layer's heads outlive the pass
        means = tuple(layer.float().mean(1) for layer in output.attentions)  # (B, N, N)
        return AttentionPass(share_logits(model, batch, output.logits), means)

    return batch.shared(model, "attention_pass", compute)


def share_logits(model: Any, batch: Batch, logits: Tensor) -> Tensor:
    """Remember the logits of a pass made for something else, so that none is made for them; (B, C) float32."""
    return batch.shared(model, "logits", lambda: logits.detach().float())


def classifier_logits(model: Any, batch: Batch) -> Tensor:
    """(B, C) float32 logits, from whichever pass was first on this batch."""

    def compute() -> Tensor:
        with as_found(model), torch.no_grad():
            logits: Tensor = model(**batch.model_inputs()).logits.float()
            return logits

    return batch.shared(model, "logits", compute)


def target_classes(batch: Batch, target: Target, logits: Tensor) -> Tensor:
    """(B,) the class whose logit is explained. Raises ArgumentError for gold labels outside the model's."""
    if target == "predicted":
        return logits.detach().argmax(-1)
    gold, classes = batch.gold(), logits.shape[-1]
    if int(gold.min()) < 0 or int(gold.max()) >= classes:
        raise ArgumentError(f"batch: labels must be among the model's {classes}, got {sorted(set(gold.tolist()))}")
    return gold
