"""Contribution of each token to a classifier's logits, for training targets and for the analysis.

`token_relevance` has gradient x input (Simonyan et al., 2014), attention weights times their gradients, and the
decomposition; `removal_guide` is TR-BERT's. Gradients are read from working copies (`adapler.inference.working_copy`).

Dimensions: B batch, L layers, K requested layers, P points, N padded length, H heads, D hidden
size, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from adapler.backbones.families import Target, target_weights, view
from adapler.errors import ArgumentError
from adapler.inference import differentiable, gradients_of


def eager_forward(twin: Any, inputs: Mapping[str, Tensor], **options: Any) -> Any:
    """The output of a working copy with attention weights, per layer (B, H, N, N). ArgumentError for a model that
    returns none, or not one from each token to each token (Longformer, YOSO)."""
    twin.set_attn_implementation("eager")
    output = twin(**inputs, output_attentions=True, **options)
    tokens = tuple(inputs["input_ids"].shape[1:] * 2)  # (N, N)
    shapes = [None if weights is None else tuple(weights.shape) for weights in output.attentions or [None]]
    if other := [shape for shape in shapes if shape is None or len(shape) != 4 or shape[-2:] != tokens]:
        raise ArgumentError(
            f"model: {type(twin).__name__} returned attention weights of shape {other[0]}, must be (texts, heads, "
            f"{tokens[0]}, {tokens[1]}); methods that read attention cannot run on it"
        )
    return output


def attention_gradient_maps(
    model: Any, inputs: Mapping[str, Tensor], *, weigh: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Mean over heads of max(d value / d A^l * A^l, 0) in every layer, L times (B, N, N), row = query, column = key;
    and the logits (B, C). Arguments as of `decompose`."""
    with differentiable(model) as twin:
        output = eager_forward(twin, inputs)
        value = (output.logits * weigh(output.logits.detach())).sum()
        gradients = gradients_of(value, output.attentions, model=model, what="attention weights")
    home, exact = inputs["input_ids"].device, torch.promote_types(output.logits.dtype, torch.float32)
    with torch.autocast(home.type, enabled=False):
        maps = [
            (gradient.to(exact) * attention.detach().to(exact)).clamp_min(0).mean(1).to(home)
            for attention, gradient in zip(output.attentions, gradients, strict=True)
        ]
    return maps, output.logits.detach()


def accumulated(maps: Sequence[Tensor]) -> Tensor:
    """[CLS]'s row of R^l - I, where R^l = (I + A^(L-1)) ... (I + A^l): what reaches the output from layer l on.

    Only rows are multiplied, never two N x N matrices: L times (B, N, N), [CLS] in row 0 -> (B, L, N).
    """
    row = torch.zeros_like(maps[0][:, :1])  # (B, 1, N)
    row[:, :, 0] = 1.0
    rows = []
    with torch.autocast(row.device.type, enabled=False):
        for weights in reversed(maps):
            row = row + torch.bmm(row, weights)
            rows.append(row)
    relevance = torch.cat(rows[::-1], dim=1)  # (B, L, N)
    relevance[:, :, 0] -= 1.0
    return relevance


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
    """The decomposition at the input of every layer, in one forward and one backward pass (DecompX).

    Where attention probabilities, layer-norm deviations and activation ratios f(u) / u are constants, the rest is
    linear in the states and the biases together, so at every layer l, exactly,

        value = sum over i of h_i^l . dvalue/dh_i^l   +   sum over the biases from layer l on of b . dvalue/db

    Args:
        inputs: input_ids (B, N), attention_mask (B, N), and whatever else the classifier takes.
        weigh: logits (B, C) -> their weights (B, C) in the value, see target_weights.
        softmax: False holds attention's probabilities constant (DecompX). True lets the gradient through them, and
            halves it at each product of two states, as both have a part in it (AttnLRP); then it is complete no more.
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
        output = func(*args, **kwargs)
        if func is functional.linear:
            return self._watched(output, args[2] if len(args) > 2 else kwargs.get("bias"))
        return output

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


def removal_guide(classifier: PreTrainedModel, batch: Mapping[str, Tensor], *, points: Sequence[int]) -> Tensor:
    """TR-BERT's guide (Ye et al., NAACL 2021) of every token at each point w, (B, P, N) float32, 0 at padding.

        guide_i^w = | < dCE / dh_i^r, h_i^r - h_i^w > |,   r = reference_layer

    To first order it is how much the loss would change if the token had stayed as it was at w. `points` are the layers
    whose inputs the h^w are, ArgumentError where there is no layer after the last; the batch has labels (B,).
    """
    reference = reference_layer(len(view(classifier).layers), points=points)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with differentiable(classifier) as twin:
        output = twin(**inputs, output_hidden_states=True)
        hidden = output.hidden_states  # (B, N, D) each
        loss = functional.cross_entropy(output.logits.float(), batch["labels"], reduction="sum")  # texts do not meet
        gradient = torch.autograd.grad(loss, hidden[reference])[0].float()  # (B, N, D)
    changes = torch.stack([(hidden[reference] - hidden[at]).detach().float() for at in points], dim=1)
    found: Tensor = (gradient[:, None] * changes).sum(-1).abs()  # (B, P, N, D) -> (B, P, N)
    return found * batch["attention_mask"][:, None]


def reference_layer(layers: int, *, points: Sequence[int]) -> int:
    """r: three quarters of the way up (9 of 12 layers, 4 of 6), and above every point."""
    found = max(3 * layers // 4, max(points) + 1)
    if found >= layers:
        raise ArgumentError(f"points: {max(points)} is the last of {layers} layers; the guide needs one above it")
    return found


Kind = Literal["saliency", "attention_gradient", "decomposition"]


def token_relevance(
    classifier: PreTrainedModel,
    batch: Mapping[str, Tensor],
    *,
    kind: Kind,
    target: Target | Tensor,
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
        batch: input_ids (B, N), and whatever else the classifier takes; labels (B,) for a target about the gold class.
        target: which logit, or contrast of logits, the value is; see target_weights.
        layers: K different layers, from 0. Default: all. ArgumentError for others.

    Returns:
        (B, K, N) float32, each row sums to 1; 0 at padding, and 0 in a row without anything above 0.
    """
    number = len(view(classifier).layers)
    asked = list(range(number) if layers is None else layers)
    if not asked or len(set(asked)) < len(asked) or not all(layer in range(number) for layer in asked):
        raise ArgumentError(f"layers: {asked} are not distinct layers from 0 to {number - 1}")
    inputs, names = {k: v for k, v in batch.items() if k != "labels"}, getattr(classifier.config, "id2label", None)
    weigh = partial(target_weights, target, labels=batch.get("labels"), id2label=names)
    if kind == "saliency":
        with differentiable(classifier) as twin:
            output = twin(**inputs, output_hidden_states=True)  # logits (B, C)
            value = (output.logits * weigh(output.logits)).sum()
            hidden = [output.hidden_states[layer] for layer in asked]  # K times (B, N, D)
            gradients = torch.autograd.grad(value, hidden)  # as far down as the lowest of the layers
        found = [(g.float() * h.float()).norm(dim=-1) for g, h in zip(gradients, hidden, strict=True)]
        relevance = torch.stack(found, dim=1).detach()  # (B, K, N)
    elif kind == "attention_gradient":
        relevance = accumulated(attention_gradient_maps(classifier, inputs, weigh=weigh)[0])[:, asked]
    else:
        relevance = decompose(classifier, inputs, weigh=weigh).relevance[:, asked]
    shares = relevance.float().clamp_min(0)
    if "attention_mask" in batch:
        shares = shares * batch["attention_mask"][:, None, :]
    return shares / shares.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
