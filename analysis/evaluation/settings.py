"""What an evaluation is made with, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from adapler.errors import ArgumentError
from analysis.documents.aggregation import check_aggregation
from analysis.documents.alignment import POLICIES
from analysis.evaluation.protocols import get_protocol
from analysis.metrics.faithfulness import FaithfulnessSettings
from analysis.metrics.registry import GROUPS, get_metric, metric_names

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKEN_BUDGET = 2048  # a CPU gains nothing from more, and the eager pass holds H x N x N weights a layer
MAX_LENGTH = 512  # wordpieces of an input when nobody says how many
METRICS = get_protocol("paper").metrics


@dataclass(frozen=True)
class Settings:
    """policy               which part of a long document is seen, one of `alignment.POLICIES`
    max_length           wordpieces of one input, special tokens included; None: MAX_LENGTH, or what the model takes
                         if that is less
    token_budget         padded tokens of one batch
    threshold_scale      multiplies every eta of the AdapLeR model
    dtype                "float32", or "bfloat16" for autocast
    seed                 of the random scores and of the bootstrap
    limit                a random sample of so many documents, labels balanced
    density              share of the tokens in a hard rationale of k best tokens; None: measured on the validation
                         split, else the training split (`plan.Plan.selection`)
    aggregation          of wordpieces to words, one of `aggregation.AGGREGATIONS`
    metrics              names of `metrics.registry`
    protocol             the preset that the other fields came from; kept in the report
    faithfulness         how tokens are taken away, for metrics of that group
    faithfulness_layers  layers whose scores are judged by them, None for all
    queries              show queries as second segment; None: if they differ between the split's documents (the
                         same query everywhere says nothing, and models are trained without it)
    examples             documents whose token scores go into the report
    """

    policy: str = "truncate"
    max_length: int | None = None
    token_budget: int = TOKEN_BUDGET
    threshold_scale: float = 1.0
    dtype: str = "float32"
    seed: int = 0
    limit: int | None = None
    density: float | None = None
    aggregation: str = "none"
    metrics: tuple[str, ...] = METRICS
    protocol: str = "paper"
    faithfulness: FaithfulnessSettings = field(default_factory=FaithfulnessSettings)
    faithfulness_layers: tuple[int, ...] | None = None
    queries: bool | None = None
    examples: int = 3

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ArgumentError(f"policy: got {self.policy!r}, allowed are {', '.join(POLICIES)}")
        check_aggregation(self.aggregation)
        if self.dtype not in DTYPES:
            raise ArgumentError(f"dtype: got {self.dtype!r}, allowed are {', '.join(DTYPES)}")
        if not (self.threshold_scale >= 0 and math.isfinite(self.threshold_scale)):
            raise ArgumentError(f"threshold_scale: got {self.threshold_scale}, must be a number of at least 0")
        for name, least in (("seed", 0), ("examples", 0)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name}: got {getattr(self, name)}, must be at least {least}")
        if self.limit is not None and self.limit < 1:
            raise ArgumentError(f"limit: got {self.limit}, must be at least 1")
        if self.density is not None and not 0 < self.density <= 1:
            raise ArgumentError(f"density: got {self.density}, must be over 0 and at most 1")
        if self.token_budget < 1:
            raise ArgumentError(f"token_budget: {self.token_budget} is not at least 1")
        if not self.metrics:
            raise ArgumentError("metrics: got none, at least one is needed")
        object.__setattr__(self, "metrics", expand_metrics(self.metrics))
        for name in self.metrics:
            bin_ = name.rpartition("_")[2]
            if get_metric(name).function is None and bin_.isdigit() and int(bin_) not in self.faithfulness.bins:
                raise ArgumentError(
                    f"metrics: {name!r} is of a bin that protocol {self.protocol!r} does not have, "
                    f"its bins are {', '.join(map(str, self.faithfulness.bins))}"
                )

    @classmethod
    def of(cls, protocol: str = "paper", **options: Any) -> Settings:
        """The protocol's settings, with those options on top that are not None."""
        preset = get_protocol(protocol)
        mine = cls(
            policy=preset.policy,
            aggregation=preset.aggregation,
            metrics=preset.metrics,
            protocol=preset.name,
            faithfulness=preset.faithfulness,
        )
        given = {name: value for name, value in options.items() if value is not None}
        for name in ("metrics", "faithfulness_layers"):
            if name in given:
                given[name] = tuple(given[name])
        return replace(mine, **given)

    @property
    def faithfulness_metrics(self) -> tuple[str, ...]:
        """Those of the metrics that ask the model again."""
        return tuple(name for name in self.metrics if get_metric(name).function is None)

    @property
    def plain_metrics(self) -> tuple[str, ...]:
        """Those that do not."""
        return tuple(name for name in self.metrics if get_metric(name).function is not None)

    def check_layers(self, n_layers: int) -> None:
        """ArgumentError for a layer that the model does not have."""
        for layer in self.faithfulness_layers or ():
            if not 0 <= layer < n_layers:
                raise ArgumentError(f"faithfulness_layers: got {layer}, the model has layers 0 to {n_layers - 1}")


def expand_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Names of metrics, and names of groups for all metrics of a group, in order and each once."""
    expanded: list[str] = []
    for name in names:
        expanded += metric_names(name) if name in GROUPS else (get_metric(name).name,)
    return tuple(dict.fromkeys(expanded))
