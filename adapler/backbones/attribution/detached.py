"""One backward pass through a network in which some of the non-linear parts are held constant.

Attention's softmax, the deviation of a layer norm and the ratio f(u) / u of an activation are taken from the pass as
numbers. What is left is linear in the states and the biases together. So at every layer l

    value = sum over i of h_i^l . dvalue/dh_i^l   +   sum over the biases from layer l on of b . dvalue/db

exactly, and one backward pass gives every term. The values of the forward pass stay as they are. Operations are
replaced while the model runs, by their name in torch, so that no layout of a layer has to be known.

B batch, L layers, N padded length, D hidden size, C classes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from adapler.backbones.attribution.twin import differentiable, gradients_of
from adapler.errors import ArgumentError

_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)
_ACTIVATIONS = (
    *(functional.gelu, functional.relu, functional.silu, functional.tanh),
    *(torch.tanh, Tensor.tanh, torch.relu, Tensor.relu),
)
_PRODUCTS = (
    *(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm),
    *(torch.mul, Tensor.mul, Tensor.__mul__),
)


@dataclass(frozen=True, eq=False)
class Decomposition:
    """relevance (B, L, N): h_i^l . dvalue/dh_i^l; bias (B, L): what the biases from layer l on add; value (B,);
    logits (B, C)."""

    relevance: Tensor
    bias: Tensor
    value: Tensor
    logits: Tensor


def decompose(
    model: Any, inputs: Mapping[str, Tensor], *, weigh: Callable[[Tensor], Tensor], softmax: bool = False
) -> Decomposition:
    """The decomposition at the input of every layer, in one forward and one backward pass.

    Args:
        model: a transformers sequence classifier.
        inputs: input_ids (B, N), attention_mask (B, N), and whatever else it takes.
        weigh: logits (B, C) -> their weights (B, C) in the value, see `adapler.backbones.targets.target_weights`.
        softmax: False holds attention's probabilities constant (DecompX). True lets the gradient through them, and
            halves it at each product of two states, as both have a part in it (AttnLRP); then it is complete no more.

    Raises:
        ArgumentError: no module of the model gives out the input of some layer, or the hidden states that it returns
            are not the ones that it uses.
    """
    with differentiable(model) as twin:
        twin.set_attn_implementation("eager")
        rules = _Rules(softmax=softmax, n_batch=len(inputs["input_ids"]))
        before: dict[int, tuple[Any, int]] = {}  # id of a module's output -> it, and how many biases came before

        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            made = output[0] if isinstance(output, tuple) and output else output
            if isinstance(made, Tensor):  # the outermost module comes last
                before[id(made)] = (made, len(rules.bias))

        for module in twin.modules():
            _hold_ratio(module)
            module.register_forward_hook(note)
        with rules:
            output = twin(**inputs, output_hidden_states=True)
        hidden = output.hidden_states[:-1]  # L times (B, N, D)
        weights = weigh(output.logits.detach())
        value = (output.logits.float() * weights).sum(-1)  # (B,)
        gradients = gradients_of(value.sum(), hidden, model=model, what="hidden states")
    made_after = {layer: before[id(state)][1] for layer, state in enumerate(hidden) if id(state) in before}
    # The copy's activations refer to themselves, so it goes away only when Python collects garbage. Its hooks must not
    # hold all states until then: over a training set that is gigabytes.
    before.clear()
    if missing := [layer for layer in range(len(hidden)) if layer not in made_after]:
        raise ArgumentError(
            f"model: no module of {type(model).__name__} gives out the input of layer {missing[0]}; "
            "its decomposition cannot be checked"
        )
    home = inputs["input_ids"].device
    real = inputs["attention_mask"].to(torch.float32)  # (B, N)
    states = [(g.float() * h.detach().float()).sum(-1).to(home) * real for g, h in zip(gradients, hidden, strict=True)]
    bias = [one.to(home) for one in rules.bias]  # (B,) each; layers may lie on several devices
    parts = [sum(bias[made_after[layer] :], torch.zeros_like(real[:, 0])) for layer in range(len(hidden))]
    return Decomposition(
        torch.stack(states, dim=1), torch.stack(parts, dim=1), value.detach().to(home), output.logits.detach().to(home)
    )


class _Rules(TorchFunctionMode):
    """Replaces operations while it is entered, and collects b . dvalue/db (B,) of each linear layer and layer norm.

    The entries of `bias` are in the order of the forward pass and are filled in by the backward pass.
    """

    def __init__(self, *, softmax: bool, n_batch: int) -> None:
        super().__init__()
        self.softmax, self.n_batch = softmax, n_batch
        self.bias: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if func in _SOFTMAX and not self.softmax:
            return func(*args, **kwargs).detach()
        if func in _ACTIVATIONS and args[0].requires_grad:
            return held_ratio(func, *args, **kwargs)
        if func in _PRODUCTS and all(isinstance(one, Tensor) and one.requires_grad for one in args[:2]):
            product = func(*args, **kwargs)
            return (product + product.detach()) / 2  # the same value, half the gradient to each factor
        if func is functional.layer_norm:
            return self._layer_norm(*args, **kwargs)
        if func is functional.linear:
            return self._linear(*args, **kwargs)
        return func(*args, **kwargs)

    def _linear(self, states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._watched(functional.linear(states, weight, bias), bias)

    def _layer_norm(
        self,
        states: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        axes = tuple(range(-len(normalized_shape), 0))
        if torch.is_autocast_enabled(states.device.type):
            states = states.float()  # as autocast does on a GPU, and torch's own kernel inside on a CPU
        centred = states - states.mean(axes, keepdim=True)
        deviation = (centred.detach().square().mean(axes, keepdim=True) + eps).sqrt()
        normed = centred / deviation if weight is None else centred / deviation * weight.detach()
        return normed if bias is None else self._watched(normed + bias.detach(), bias)

    def _watched(self, output: Tensor, bias: Tensor | None) -> Tensor:
        """Notes what a bias (D,) that was added to an output (B, ..., D) turns out to add to the value."""
        if bias is None or not output.requires_grad:
            return output
        place, values = len(self.bias), bias.detach()
        self.bias.append(torch.zeros(self.n_batch, device=output.device))

        def note(gradient: Tensor) -> None:
            self.bias[place] = (gradient.float() * values.float()).flatten(1).sum(1).to(gradient.device)

        output.register_hook(note)  # type: ignore[no-untyped-call]
        return output


def held_ratio(function: Callable[..., Tensor], states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """u * (f(u) / u) with the ratio as a constant; f(0) must be 0."""
    with torch.no_grad():
        ratio = function(states, *args, **kwargs) / states
        ratio = torch.where(states == 0, torch.zeros_like(ratio), ratio)
    return states * ratio


def _hold_ratio(module: nn.Module) -> None:
    """An activation that is a module is held as a whole: some of transformers' are written out in several steps."""
    if type(module).__module__ == "transformers.activations" and not list(module.children()):
        plain = module.forward
        module.forward = lambda states: held_ratio(plain, states)
