"""Where the parts of an encoder layer are, for methods that take a layer apart.

    a = norm_1(output(attention(h)) + h)          the attention block
    h' = norm_2(feed_forward(a) + a)              the feed-forward block

Post-norm layers laid out as in BERT (RoBERTa, ELECTRA, XLM-R, CamemBERT, ...) or as in DistilBERT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from adapler.errors import ArgumentError
from analysis.scores.shared.precision import run_full


@dataclass(frozen=True, eq=False)
class LayerParts:
    """value and output: (D, D) projections of the attention; norm_1, norm_2: the layer norms after the residuals."""

    value: nn.Linear
    output: nn.Linear
    norm_1: nn.LayerNorm
    norm_2: nn.LayerNorm
    _layer: Any
    _bert: bool

    def finish(self, context: Tensor, residual: Tensor) -> Tensor:
        """The layer's output, in at least float32, for mixed values `context` (..., D) of tokens whose states are
        `residual` (..., D)."""
        mixed = run_full(self.output, context)
        attended = run_full(self.norm_1, mixed + residual.to(mixed.dtype))
        if self._bert:
            return run_full(self._layer.output, run_full(self._layer.intermediate, attended), attended)
        return run_full(self.norm_2, run_full(self._layer.ffn, attended) + attended)


_BERT = ("attention.self.value", "attention.output.dense", "attention.output.LayerNorm", "output.LayerNorm")
_DISTILBERT = ("attention.v_lin", "attention.out_lin", "sa_layer_norm", "output_layer_norm")


def layer_parts(model: Any) -> list[LayerParts]:
    """The parts of every encoder layer, first layer first; ArgumentError when they are laid out otherwise."""
    n_layers = model.config.num_hidden_layers
    for stack in model.modules():
        if not isinstance(stack, nn.ModuleList) or len(stack) != n_layers:
            continue
        for bert, paths in ((True, _BERT), (False, _DISTILBERT)):
            if all(_has(layer, path) for layer in stack for path in paths):
                return [_parts(layer, paths, bert) for layer in stack]
    raise ArgumentError(
        f"model: the layers of {type(model).__name__} are not laid out as in BERT or DistilBERT; "
        "methods that take a layer apart (globenc, value_zeroing) cannot run on it"
    )


def _parts(layer: Any, paths: tuple[str, ...], bert: bool) -> LayerParts:
    value, output, norm_1, norm_2 = (layer.get_submodule(path) for path in paths)
    return LayerParts(value, output, norm_1, norm_2, layer, bert)


def _has(layer: nn.Module, path: str) -> bool:
    try:
        layer.get_submodule(path)
    except AttributeError:
        return False
    return True
