"""Removal policies: what scores a layer's tokens, and which of them stay; one file each, found by itself.

base has the protocol and the registry. Every policy goes through the same passes, FLOPs, checkpoints
(`config.policy`), `predict` and budgets, and trains in stages with one trainer (`adapler run --policy NAME`).
"""

from importlib import import_module
from pkgutil import iter_modules

from adapler.policies.adapler import AdapLeR as ContributionPolicy
from adapler.policies.base import (
    LayerView,
    Policy,
    options_of,
    policy,
    policy_class,
    policy_names,
    stays,
    training_class,
)

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ContributionPolicy",
    "LayerView",
    "Policy",
    "options_of",
    "policy",
    "policy_class",
    "policy_names",
    "stays",
    "training_class",
]
