"""Forward and backward passes that methods share, computed once per batch; precision; targets.

The model itself is never written to: methods run a working copy. Everything here is (model, batch) -> tensors.

B batch, L layers, N padded length, H heads, D hidden size, C classes
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from adapler.backbones import decomposition
from adapler.backbones.decomposition import Decomposition, answering, differentiable, gradients_of, working_copy
from adapler.backbones.targets import Target, target_weights
from analysis.scores.base import Batch

Found = TypeVar("Found")


def once_a_batch(function: Callable[..., Found]) -> Callable[..., Found]:
    """The same function of (model, batch, ...), computed once for each batch, model and further arguments."""

    @wraps(function)
    def call(model: Any, batch: Batch, *args: Any, **options: Any) -> Found:
        memo, key = batch.memo(model), f"{function.__name__} {args} {options}"
        if key not in memo:
            memo[key] = function(model, batch, *args, **options)
        found: Found = memo[key]
        return found

    return call


# ---------------------------------------------------------------- precision


def run_format(dtype: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast of a classifier's passes, for "float32" or "bfloat16".

    The attribution methods read and differentiate the modules of a plain transformers classifier, so in bfloat16 that
    one runs under autocast. Distances of nearly equal vectors and products of attention maps are computed in float32:
    in bfloat16's eight bits they would be mostly rounding.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def in_format(adapler: Any, dtype: str) -> Any:
    """An AdapLeR model (or None) whose own pass computes in a format; the model that is given stays as it is."""
    return adapler if adapler is None or dtype == "float32" else adapler.for_inference(dtype=dtype)


def full_precision(where: Tensor | Batch) -> AbstractContextManager[Any]:
    """Autocast off, on the device of a tensor or batch."""
    tensor = where.input_ids if isinstance(where, Batch) else where
    return torch.autocast(tensor.device.type, enabled=False)


def full(tensor: Tensor) -> Tensor:
    """float32 of a half-precision tensor; float32 and float64 as they are."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def run_full(module: nn.Module, *inputs: Tensor) -> Tensor:
    """A module's output in at least float32, with weights of half precision brought there for the call."""
    weights = {name: full(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    with full_precision(inputs[0]):
        dtype = next((tensor.dtype for tensor in weights.values()), full(inputs[0]).dtype)  # an Identity has no weights
        result: Tensor = torch.func.functional_call(module, weights, tuple(one.to(dtype) for one in inputs))
    return result


# ---------------------------------------------------------------- targets: which value of the classifier is explained
#
#     predicted                  the logit of the predicted class
#     gold                       the logit of the gold class
#     NEG, neg, 0                the logit of this class, by name or index
#     contrast                   the predicted class's logit minus the strongest other one
#     contrast:gold, contrast:NEG, contrast:0
#                                the same for the gold class, and for this class
#
# The strongest other class is the one of the input as it is; it stays when tokens are taken away.


def check_target(target: Target, config: Any) -> None:
    """ArgumentError for a target that a classifier of this configuration does not have, whatever the text."""
    anything = torch.zeros(1, config.num_labels)
    target_weights(target, anything, labels=torch.zeros(1, dtype=torch.long), id2label=config.id2label)


def weights_of(model: Any, batch: Batch, target: Target, logits: Tensor) -> Tensor:
    """(B, C) weights of the logits in the explained value, for this batch."""
    id2label = getattr(model.config, "id2label", None) or {}
    return target_weights(target, logits.detach(), labels=batch.labels, id2label=id2label)


def target_value(logits: Tensor, weights: Tensor) -> Tensor:
    """logits (..., C), weights (..., C) -> (...,)."""
    return (logits * weights).sum(-1)


# ---------------------------------------------------------------- passes


def share_logits(model: Any, batch: Batch, logits: Tensor) -> None:
    """Remember the logits of a pass made for something else, so that none is made for them."""
    batch.memo(model).setdefault("classifier_logits () {}", logits.detach().float().to(batch.input_ids.device))


@once_a_batch
def classifier_logits(model: Any, batch: Batch) -> Tensor:
    """(B, C) float32 logits, from whichever pass was first on this batch."""
    with torch.no_grad():
        logits: Tensor = answering(model)(**batch.model_inputs()).logits
    return logits.float().to(batch.input_ids.device)


@once_a_batch
def adapler_pass(model: Any, batch: Batch) -> Any:
    """The AdapLeR model's output in hard mode, in the format of its weights."""
    with torch.no_grad(), full_precision(batch):
        return answering(model)(**batch.model_inputs(), removal="hard", threshold_scale=batch.threshold_scale)


@once_a_batch
def attention_pass(model: Any, batch: Batch) -> tuple[Tensor, ...]:
    """The classifier's attention weights per layer (B, N, N) float32, mean over heads, row = query, column = key."""
    with torch.no_grad():
        output = decomposition.eager_forward(working_copy(model), batch.model_inputs())
    share_logits(model, batch, output.logits)
    with full_precision(batch):  # heads are averaged here, so that no more than one layer's heads outlive the pass
        return tuple(layer.float().mean(1).to(batch.input_ids.device) for layer in output.attentions)  # (B, N, N)


@dataclass(frozen=True, eq=False)
class GradientPass:
    """Norms of g = d value / d h_i^l and of its product with h_i^l, the input of layer l: each (B, L, N) float32.

    product_norm  || g * h ||_2
    product_sum   sum over D of g * h
    norm_1        || g ||_1
    norm_2        || g ||_2
    """

    product_norm: Tensor
    product_sum: Tensor
    norm_1: Tensor
    norm_2: Tensor


def gradient_pass(model: Any, batch: Batch, target: Target) -> GradientPass:
    """Gradients of the target's value at the input of every layer; one pass per target.

    Raises ArgumentError when the hidden states that the model returns are not the ones that it uses.
    """
    memo, key = batch.memo(model), f"gradient_pass {target!r}"
    if key in memo:
        known: GradientPass = memo[key]
        return known
    with differentiable(model) as twin:
        output = twin(**batch.model_inputs(), output_hidden_states=True)
        weights = weights_of(model, batch, target, output.logits)
        hidden = output.hidden_states[:-1]  # L times (B, N, D)
        value = target_value(output.logits, weights).sum()
        gradients = gradients_of(value, hidden, model=model, what="hidden states")
    share_logits(model, batch, output.logits)
    # norms are taken here: the states and gradients themselves would be 2 * D times as large
    pairs = [(g.float(), h.detach().float()) for g, h in zip(gradients, hidden, strict=True)]
    real = batch.attention_mask[:, None, :].to(torch.float32)  # (B, 1, N)
    columns = [
        ((g * h).norm(dim=-1), (g * h).sum(-1), g.abs().sum(-1), g.norm(dim=-1)) for g, h in pairs
    ]  # L times 4 times (B, N)
    stacked = [torch.stack([one.to(real.device) for one in rows], dim=1) * real for rows in zip(*columns, strict=True)]
    memo[key] = found = GradientPass(*stacked)
    return found


@once_a_batch
def attention_gradient_maps(model: Any, batch: Batch, target: Target) -> list[Tensor]:
    """L times (B, N, N) float32: mean over heads of max(d value / d A^l * A^l, 0).

    Raises ArgumentError when the weights that the model returns are not the ones that it uses.
    """
    maps, logits = decomposition.attention_gradient_maps(
        model, batch.model_inputs(), weigh=lambda logits: weights_of(model, batch, target, logits)
    )
    share_logits(model, batch, logits)
    return maps


@once_a_batch
def detached_pass(model: Any, batch: Batch, target: Target, *, softmax: bool) -> Decomposition:
    """`adapler.backbones.decomposition.decompose` at the input of every layer."""
    found = decomposition.decompose(
        model,
        batch.model_inputs(),
        weigh=lambda logits: weights_of(model, batch, target, logits),
        softmax=softmax,
    )
    share_logits(model, batch, found.logits)
    return found
