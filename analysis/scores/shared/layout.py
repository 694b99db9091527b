"""Where the parts of an encoder layer are, for methods that take a layer apart.

    a = norm_1(output(attention(h)) + h)          the attention block, post-norm
    h' = norm_2(feed_forward(a) + a)              the feed-forward block

    a = output(attention(norm_1(h))) + h          the same, pre-norm
    h' = feed_forward(norm_2(a)) + a

Post-norm layers laid out as in BERT (RoBERTa, ELECTRA, XLM-R, CamemBERT, ...), DistilBERT or MPNet, and pre-norm layers
as in ModernBERT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapler.errors import ArgumentError
from analysis.scores.base import Batch
from analysis.scores.shared.forward import eager_forward
from analysis.scores.shared.precision import full, full_precision, run_full

_UNLIKE = 0.05  # of the mixed values' length: what rounding to bfloat16 changes is a tenth of that


@dataclass(frozen=True, eq=False)
class LayerParts:
    """output: (D, D) projection of the attention; norm_1, norm_2: the layer norms of the two blocks; pre_norm: whether
    they stand before their blocks."""

    output: nn.Linear
    norm_1: Any  # a layer norm; an Identity in the first layer of ModernBERT
    norm_2: nn.LayerNorm
    pre_norm: bool
    _value: nn.Linear
    _layer: Any
    _kind: str

    def values(self, states: Tensor) -> Tensor:
        """The attention's value vectors (..., D), in at least float32, of tokens whose states are (..., D)."""
        if self._kind != "modernbert":
            return run_full(self._value, states)
        together = run_full(self._value, run_full(self.norm_1, states))  # (..., 3 D): query, key and value
        return together[..., -states.shape[-1] :]

    def is_whole(self, width: int) -> bool:
        """Whether states of this width go in, all that the attention gives out is made of values, and states of the
        same width come out. In ConvBERT half of it is a convolution; MobileBERT's layers work on narrower states."""
        # an adapter around a layer need not say its sizes
        read, made = (getattr(self._value, name, width) for name in ("in_features", "out_features"))
        mixed, given = (getattr(self.output, name, width) for name in ("in_features", "out_features"))
        return bool(read == given == width and made >= mixed)

    def projection(self, width: int) -> Tensor:
        """The matrix (D, width) of `output`, in at least float32.

        An adapter that is not merged (LoRA) has the weight without what it adds, and an int8 layer has none to read: of
        all but a plain dense layer the matrix is what it makes of unit vectors.
        """
        if type(self.output) is nn.Linear:
            return full(self.output.weight)
        device = next((one.device for one in self._layer.parameters()), None)
        made = run_full(self.output, torch.cat([torch.zeros(1, width), torch.eye(width)]).to(device))  # (1 + width, D)
        return (made[1:] - made[:1]).T

    def finish(self, context: Tensor, residual: Tensor) -> Tensor:
        """The layer's output, in at least float32, for mixed values `context` (..., D) of tokens whose states are
        `residual` (..., D)."""
        mixed = run_full(self.output, context)
        attended = mixed + residual.to(mixed.dtype)
        if self._kind == "modernbert":
            return attended + run_full(self._layer.mlp, run_full(self.norm_2, attended))
        attended = run_full(self.norm_1, attended)
        if self._kind == "distilbert":
            return run_full(self.norm_2, run_full(self._layer.ffn, attended) + attended)
        return run_full(self._layer.output, run_full(self._layer.intermediate, attended), attended)


# value, output projection, the two norms
_PATHS = {
    "bert": ("attention.self.value", "attention.output.dense", "attention.output.LayerNorm", "output.LayerNorm"),
    "distilbert": ("attention.v_lin", "attention.out_lin", "sa_layer_norm", "output_layer_norm"),
    "mpnet": ("attention.attn.v", "attention.attn.o", "attention.LayerNorm", "output.LayerNorm"),
    "modernbert": ("attn.Wqkv", "attn.Wo", "attn_norm", "mlp_norm"),
}


def layer_parts(model: Any) -> list[LayerParts]:
    """The parts of every encoder layer, first layer first; ArgumentError when they are laid out otherwise."""
    n_layers = model.config.num_hidden_layers
    for stack in model.modules():
        if not isinstance(stack, nn.ModuleList) or len(stack) != n_layers:
            continue
        for kind, paths in _PATHS.items():
            if not all(_has(layer, path) for layer in stack for path in paths):
                continue
            parts = [_parts(layer, paths, kind) for layer in stack]
            if all(one.is_whole(model.config.hidden_size) for one in parts):
                return parts
    raise ArgumentError(
        f"model: the layers of {type(model).__name__} are not laid out as in BERT, DistilBERT, MPNet or ModernBERT; "
        "methods that take a layer apart (globenc, alti, value_zeroing) cannot run on it"
    )


def _parts(layer: Any, paths: tuple[str, ...], kind: str) -> LayerParts:
    value, output, norm_1, norm_2 = (layer.get_submodule(path) for path in paths)
    return LayerParts(output, norm_1, norm_2, kind == "modernbert", value, layer, kind)


def _has(layer: nn.Module, path: str) -> bool:
    try:
        layer.get_submodule(path)
    except AttributeError:
        return False
    return True


def post_norm_parts(model: Any, method: str) -> list[LayerParts]:
    """`layer_parts` for a method that is defined for norms after the residuals.

    Raises ArgumentError, naming the method, for a model whose norms stand before the blocks.
    """
    parts = layer_parts(model)
    if any(part.pre_norm for part in parts):
        raise ArgumentError(
            f"model: the layers of {model.config.model_type!r} have their norms before the blocks; "
            f"{method} is defined for norms after the residuals and cannot run on it"
        )
    return parts


def mixing_pass(twin: Any, parts: Sequence[LayerParts], batch: Batch) -> Any:
    """The output of a working copy, with attention weights, per layer (B, H, N, N), and hidden states (B, N, D).

    Raises ArgumentError for a model without such weights, and for one whose layers do not mix their values by them
    alone (Nystromformer adds a convolution): seen where the first text's [CLS] enters the output projection.
    """
    mixed: list[Tensor] = []
    modules = {id(part.output): part.output for part in parts}  # one that all layers share is called once a layer
    handles = [
        module.register_forward_pre_hook(lambda _, inputs: mixed.append(inputs[0][0, 0])) for module in modules.values()
    ]
    output = eager_forward(twin, batch, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    with full_precision(batch):
        for layer, (part, found) in enumerate(zip(parts, mixed, strict=True)):
            alpha = full(output.attentions[layer][0, :, 0])  # (H, N)
            values = part.values(output.hidden_states[layer][:1])[0]  # (N, D)
            expected = torch.einsum("hn,nhd->hd", alpha, values.view(len(values), len(alpha), -1)).flatten()
            if (expected - found).norm() > _UNLIKE * found.norm():
                raise ArgumentError(
                    f"model: layer {layer} of {type(twin).__name__} does not mix its values by the attention weights "
                    "that it returns; methods that take a layer apart (globenc, alti, value_zeroing) cannot run on it"
                )
    return output
