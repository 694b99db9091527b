"""Removal policies: what scores a layer's tokens, and which of them stay. AdapLeR is the first.

base has the protocol and the registry. Every policy goes through the same passes (model/passes), FLOPs (model/flops),
checkpoints (`config.policy`), `predict` and budgets.
"""

from adapler.policies.base import LayerView, Policy, options_of, policy, policy_class, policy_names, stays
from adapler.policies.contribution import ContributionPolicy, FirstLayer
from adapler.policies.ltp import LearnedThresholds
from adapler.policies.power import Power
from adapler.policies.top_k import ClsTopK, RandomTopK, TopK
from adapler.policies.transkimmer import Transkimmer
from adapler.policies.trbert import TRBert

__all__ = [
    "ClsTopK",
    "ContributionPolicy",
    "FirstLayer",
    "LayerView",
    "LearnedThresholds",
    "Policy",
    "Power",
    "RandomTopK",
    "TRBert",
    "TopK",
    "Transkimmer",
    "options_of",
    "policy",
    "policy_class",
    "policy_names",
    "stays",
]
