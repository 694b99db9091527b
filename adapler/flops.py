"""Analytic FLOPs of a backbone and of AdapLeR on it; one multiply-add is two FLOPs.

Matrix products only, on true lengths without padding, as PyTorch's own FlopCounterMode counts them.
AdapLeR's count has its Contribution Predictors in it, each charged for the tokens that it reads.

Two conventions, for the backbone and for AdapLeR alike:

* "paper", the default: every layer runs whole, as in transformers' classifiers. Published numbers are in it.
* "executed": what this library computes. The last layer runs for [CLS] only (Family.last_layer), in both of them.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from adapler.backbones.families import family_of
from adapler.contribution import Cost
from adapler.errors import ArgumentError
from adapler.policies import policy_class

Convention = Literal["paper", "executed"]


def _counted(lengths: Tensor) -> Tensor:
    """Lengths as float64, which not every device has: FLOPs are counted on the CPU."""
    return torch.as_tensor(lengths).cpu().double()


def layer_flops(config: Any, lengths: Tensor, *, after: Tensor | None = None) -> Tensor:
    """FLOPs of one encoder layer, without what a policy computes, on sequences of these lengths.

    A layer with a sliding window (ModernBERT) is counted as one without: the pairs outside the window are computed
    and masked. `after` are the tokens that its feed-forward network reads; default: all of them.
    """
    config, lengths = getattr(config, "backbone_config", config), _counted(lengths)
    return family_of(config).layer_flops(config, lengths, after=lengths if after is None else _counted(after))


def policy_flops(config: Any, read: Tensor) -> Tensor:
    """FLOPs of what a policy computes to score tokens: AdapLeR's Contribution Predictors; 0 where it does not decide.

    `read` (..., L) are the tokens of each sequence that are there when the policy decides in each layer.
    """
    kind, layers = policy_class(config.policy), config.num_hidden_layers
    costs = [
        kind.cost(config, index) if kind.decides(index, layers=layers) else Cost(token=0.0) for index in range(layers)
    ]
    token, sequence = torch.tensor(costs, dtype=torch.float64).T  # (L,) each
    return _counted(read) * token + sequence


def _encoder_flops(
    config: Any, lengths_in: Tensor, lengths: Tensor, *, convention: str, between: bool = False
) -> Tensor:
    """FLOPs of all layers on (B, L) tokens that enter them, of the embedding projection (ELECTRA) and the head, (B,).

    With `between` a layer's feed-forward network reads only the tokens that enter the next layer.
    """
    if convention not in get_args(Convention):
        raise ArgumentError(f"convention: {convention!r} is not one of {', '.join(get_args(Convention))}")
    after = torch.cat([lengths[:, 1:], lengths[:, -1:]], dim=1) if between else lengths
    by_layer = layer_flops(config, lengths, after=after)  # (B, L)
    if convention == "executed":
        by_layer = torch.cat([by_layer[:, :-1], family_of(config).last_layer_flops(config, lengths[:, -1:])], dim=1)
    width = config.hidden_size
    narrow = getattr(config, "embedding_size", width)
    projection = 0 if narrow == width else 2 * narrow * width
    return by_layer.sum(1) + lengths_in * projection + 2 * width * width + 2 * width * config.num_labels


def backbone_flops(config: Any, lengths_in: Tensor, *, convention: Convention = "paper") -> Tensor:
    """FLOPs of the plain backbone on each sequence, (B,) float64 on the CPU, from (B,) true lengths, special tokens
    included; `config` is an AdapLeRConfig, or the backbone's own."""
    config, lengths = getattr(config, "backbone_config", config), _counted(lengths_in)
    layers = lengths[:, None].expand(-1, config.num_hidden_layers)  # (B, L)
    return _encoder_flops(config, lengths, layers, convention=convention)


def adapler_flops(config: Any, lengths_in: Tensor, lengths: Tensor, *, convention: Convention = "paper") -> Tensor:
    """FLOPs of AdapLeR in hard mode on each sequence, (B,) float64 on the CPU, its Contribution Predictors (or other
    policy) included, from (B,) true lengths and (B, L) tokens that enter each layer; ArgumentError where they grow."""
    lengths_in, lengths = _counted(lengths_in), _counted(lengths)
    layers = config.backbone_config.num_hidden_layers
    if lengths_in.dim() != 1 or lengths.shape != (len(lengths_in), layers):
        raise ArgumentError(
            f"lengths: shape {tuple(lengths.shape)} is not ({len(lengths_in)}, {layers}), sequences x layers"
        )
    earlier = torch.cat([lengths_in[:, None], lengths[:, :-1]], dim=1)  # (B, L)
    if bool((lengths > earlier).any()):
        raise ArgumentError("lengths: a layer has more tokens than the one before it")
    backbone, between = config.backbone_config, policy_class(config.policy).place == "between"
    encoder = _encoder_flops(backbone, lengths_in, lengths, convention=convention, between=between)
    return encoder + policy_flops(config, lengths if between else earlier).sum(1)


def speedup(config: Any, lengths_in: Tensor, lengths: Tensor, *, convention: Convention = "paper") -> float:
    """Total FLOPs of the backbone over a data set divided by AdapLeR's; arguments as in adapler_flops."""
    plain = backbone_flops(config, lengths_in, convention=convention).sum()
    return float(plain / adapler_flops(config, lengths_in, lengths, convention=convention).sum())
