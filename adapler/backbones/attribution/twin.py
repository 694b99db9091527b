"""Working copies of a classifier, from which gradients are read. The model itself is never written to.

A copy has modules of its own that share the model's weights. Whatever is set on it - evaluation mode, hooks, the
attention implementation, what transformers and captum leave on modules - goes away with it, after an error too. So the
model is left as found, and threads can explain one model at the same time.

Dimensions: B batch, H heads, N padded length.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from adapler.errors import ArgumentError


def working_copy(model: Any) -> Any:
    """The model in evaluation mode, as modules and configuration of its own on the same weights and buffers.

    Hooks of the model are there too. It takes the time of a copy of the module tree, no copy of a tensor but of those
    that were made in `torch.inference_mode`, through which no gradient goes.
    """
    shared = {id(tensor): _ordinary(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                shared.setdefault(id(value), _ordinary(value))
    twin = copy.deepcopy(model, shared).eval()
    if not _answers_by_name(twin):
        twin.config.return_dict = True
    return twin


def answering(model: Any) -> Any:
    """The model itself for a pass without gradients; a working copy where it is in training mode, or where its
    configuration asks for tuples instead of outputs with names."""
    return working_copy(model) if model.training or not _answers_by_name(model) else model


def _answers_by_name(model: Any) -> bool:
    return getattr(getattr(model, "config", None), "return_dict", None) is not False


def _ordinary(tensor: Tensor) -> Tensor:
    if not tensor.is_inference() or torch.is_inference_mode_enabled():
        return tensor
    with torch.no_grad():
        made = tensor.clone()
    return nn.Parameter(made, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


@contextmanager
def differentiable(model: Any) -> Iterator[Any]:
    """A working copy whose activations carry gradients even when every weight is frozen; gradients are on inside."""

    def require(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output if output.requires_grad else output.requires_grad_()

    twin = working_copy(model)
    twin.get_input_embeddings().register_forward_hook(require)
    with torch.enable_grad():
        yield twin


def gradients_of(value: Tensor, by: Sequence[Tensor], *, model: Any, what: str) -> tuple[Tensor, ...]:
    """Gradients of a value by tensors that the model returned of the pass which the value comes from.

    Args:
        value: a scalar.
        by: the tensors.
        model: for the message.
        what: the tensors are, in words.

    Raises:
        ArgumentError: the value does not depend on one of them: what the model returns is a copy, or a part.
    """
    gradients = torch.autograd.grad(value, by, allow_unused=True)
    if any(gradient is None for gradient in gradients):
        raise ArgumentError(
            f"model: the {what} that {type(model).__name__} returns are not the ones its prediction is computed from; "
            "methods that read their gradients cannot run on it"
        )
    return gradients


def eager_forward(twin: Any, inputs: Mapping[str, Tensor], **options: Any) -> Any:
    """The output of a working copy with attention weights, per layer (B, H, N, N).

    Raises:
        ArgumentError: the model returns no weights, or not one from each token to each token (Longformer); names its
            class and attention implementation.
    """
    twin.set_attn_implementation("eager")
    output = twin(**inputs, output_attentions=True, **options)
    weights = output.attentions
    if not weights or any(layer is None for layer in weights):
        used = getattr(twin.config, "_attn_implementation", None)
        raise ArgumentError(
            f"model: {type(twin).__name__} returned no attention weights "
            f"(attention implementation {used!r}); methods that read attention cannot run on it"
        )
    tokens = tuple(inputs["input_ids"].shape[1:] * 2)  # (N, N)
    # YOSO's are its states, of which there may be as many as they are wide
    if other := [tuple(layer.shape) for layer in weights if layer.dim() != 4 or tuple(layer.shape[-2:]) != tokens]:
        raise ArgumentError(
            f"model: {type(twin).__name__} returned attention weights of shape {other[0]}, must be (texts, heads, "
            f"{tokens[0]}, {tokens[1]}) for as many tokens; methods that read attention cannot run on it"
        )
    return output
