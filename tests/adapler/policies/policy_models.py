"""Tiny models with a removal policy that does drop tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.backbones.attention import Segments
from adapler.contribution import PackedRow
from adapler.policies import policy_names
from tests.conftest import tiny_classifier

OTHERS = [name for name in policy_names() if name != "adapler"]
# Options with which a tiny model drops tokens.
OPTIONS: dict[str, dict[str, Any]] = {
    "cls_topk": {"keep": 0.6},
    "random_topk": {"keep": 0.6},
    "ltp": {"theta_final": 0.25},
    "power": {"lengths": [8, 5, 5]},
}


def tiny_policy(name: str, family: str = "bert", *, seed: int = 0, **options: Any) -> Any:
    """A model with a policy, in evaluation mode; the policy's parameters, where it has any, are random."""
    classifier = tiny_classifier(family, seed=seed)
    config = AdapLeRConfig(
        backbone_config=classifier.config.to_dict(),
        policy=name,
        policy_options={**OPTIONS.get(name, {}), **options},
    )
    model = AdapLeRForSequenceClassification(config, backbone=classifier)
    torch.manual_seed(seed)
    with torch.no_grad():
        for where, parameter in model.policy.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_()
            elif where.endswith(("choice.bias", "keep.bias")):  # Transkimmer's and TR-BERT's, which keep all at first
                parameter.zero_()
    return model.eval()


def one_text(states: Tensor) -> PackedRow:
    """The row of a single text with all of its tokens, whose states are (T, D)."""
    return PackedRow(Segments(torch.tensor([len(states)])), torch.arange(len(states)))
