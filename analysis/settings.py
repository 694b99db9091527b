"""Settings of an evaluation, declared once: options of `python -m analysis.rationale_eval`, keys of a recipe, and
keywords of `analysis.rationale_eval.evaluate`; and the protocols, presets of some of them.

Numbers of different protocols are not comparable, not even where a metric has the same name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from adapler.errors import ArgumentError
from adapler.inference import GRADIENT_TOKEN_BUDGET
from adapler.options import option
from analysis.alignment import AGGREGATIONS, TRUNCATIONS
from analysis.corpus import check_rule, split_name
from analysis.metrics.faithfulness import BINS, FaithfulnessSettings
from analysis.metrics.plausibility import GROUPS, METRICS, get_metric, metric_names

TOKEN_BUDGET = 2048  # padded tokens of a batch on a GPU: the eager pass holds H x N x N weights a layer


@dataclass(frozen=True)
class Protocol:
    """A preset; options of the command override its parts one by one. docs/explanation/protocols.md says where they
    come from, and what differs from their sources.

    truncation     which part of a long document is seen, see `analysis.alignment`
    aggregation    of wordpiece scores to words
    metrics        names of `analysis.metrics.METRICS`
    faithfulness   how tokens are taken away, for metrics of that group
    all_rationale  judge documents too whose every token is rationale
    """

    truncation: str
    aggregation: str
    metrics: tuple[str, ...]
    faithfulness: FaithfulnessSettings = field(default_factory=FaithfulnessSettings)
    all_rationale: bool = False


_RATES = tuple(f"{rate}{variant}" for variant in ("", "_present", "_content") for rate in ("fpr", "tpr", "j"))
_DROPS = tuple(
    f"{mark}{kind}{part}"
    for kind in ("comprehensiveness", "sufficiency")
    for mark, part in [*(("", f"_{percent}") for percent in BINS), ("aopc_", "")]
)
PROTOCOLS = {
    "paper": Protocol("truncate", "none", ("average_precision", "roc_auc", *_RATES)),
    "eraser": Protocol(
        "all-windows",
        "max",
        ("auprc", "average_precision", "roc_auc", "token_f1", "iou_f1", *_DROPS)
        + ("comprehensiveness_at_density", "sufficiency_at_density"),
        all_rationale=True,
    ),
    "ferret": Protocol(
        "truncate",
        "none",
        ("auprc_positive", "token_f1_at_5", "token_iou_at_5", "token_f1_at_mean", "token_iou_at_mean")
        + ("aopc_comprehensiveness", "aopc_sufficiency", "loo_kendall"),
        faithfulness=FaithfulnessSettings(bins=tuple(range(10, 101, 10)), rounding="down", positive_only=True),
    ),
}


@dataclass
class Settings:
    """Scoring and evaluation.

    Truncation, aggregation and metrics that are not given are the protocol's.
    Raises ArgumentError that names the option, the value and what is allowed.
    """

    split: str = option("split to evaluate: train, val or test", default="test", basic=True)
    limit: int | None = option("number of documents to sample, balanced over labels; default: all", default=None)
    methods: list[str] | None = option(
        'scoring methods, listed by python -m analysis.scores, with options as in "lime(n_samples=100)"; none: saved '
        "scores only; default: attention attention_received rollout saliency cp cp_carried random",
        default=None,
        basic=True,
    )
    metrics: list[str] = option(
        f"metrics, or groups of them ({', '.join(GROUPS)}); default: the protocol's", default=None, basic=True
    )
    protocol: Literal["paper", "eraser", "ferret"] = option(
        "preset of truncation, aggregation, metrics and faithfulness", default="paper", basic=True
    )
    truncation: Literal["truncate", "rationale-windows", "all-windows"] = option(
        "which part of a long document is read; default: the protocol's", default=None, basic=True
    )
    aggregation: Literal["none", "max", "mean", "sum"] = option(
        "how wordpiece scores become word scores; default: the protocol's", default=None
    )
    annotators: str = option(
        "how several annotators are combined: majority, union, or the index of one annotator; auto: as the file says, "
        "else majority",
        default="auto",
    )
    queries: Literal["auto", "yes", "no"] = option(
        "use queries as second segment; auto: if they differ between documents", default="auto"
    )
    faithfulness_variant: Literal["delete", "mask"] | None = option(
        "how faithfulness removes tokens; default: the protocol's", default=None
    )
    faithfulness_layers: list[int] | None = option("layers to measure faithfulness of; default: all", default=None)
    max_length: int | None = option(
        "maximum input length in wordpieces; default: 512, or the model's own limit", default=None
    )
    threshold_scale: float = option("factor on the thresholds of the AdapLeR model; 0 drops nothing", default=1.0)
    speedup: float | None = option(
        "FLOPs speedup of the AdapLeR model, by its calibration, instead of --threshold-scale", default=None
    )
    density: float | None = option(
        "share of tokens selected as a hard rationale; default: as measured on validation, else training",
        default=None,
    )
    device: str = option("auto (the first GPU, if there is one), cpu, cuda, cuda:N or mps", default="auto")
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "dtype of the models' layers; published numbers are in float32", default="float32"
    )
    token_budget: int | None = option("padded tokens per batch; default: 1024 on a CPU, 2048 elsewhere", default=None)
    seed: int = option("random seed of the random baseline, resampling and --limit", default=0)
    examples: int = option("number of documents whose token scores the report shows", default=3)
    rationale_layer: int | None = option(
        "layer that --rationales writes, for all methods (or choose it on validation: --rationale-layers)",
        default=None,
    )

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ArgumentError(f"protocol: got {self.protocol!r}, allowed are {', '.join(PROTOCOLS)}")
        preset = PROTOCOLS[self.protocol]
        self.truncation = self.truncation or preset.truncation
        self.aggregation = self.aggregation or preset.aggregation
        self.metrics = expand_metrics(_listed(preset.metrics if self.metrics is None else self.metrics))
        self.methods = None if self.methods is None else _listed(self.methods)
        if self.methods == ["none"]:
            self.methods = []
        if self.faithfulness_layers is not None:
            self.faithfulness_layers = [int(layer) for layer in self.faithfulness_layers]
        self.split = split_name(self.split)
        if isinstance(self.queries, bool):
            self.queries = "yes" if self.queries else "no"
        check_rule(self.annotators)
        for name, allowed in (
            ("truncation", TRUNCATIONS),
            ("aggregation", AGGREGATIONS),
            ("queries", ("auto", "yes", "no")),
            ("dtype", ("auto", "float32", "bfloat16")),
        ):
            if getattr(self, name) not in allowed:
                raise ArgumentError(f"{name}: got {getattr(self, name)!r}, allowed are {', '.join(allowed)}")
        if not (self.threshold_scale >= 0 and math.isfinite(self.threshold_scale)):
            raise ArgumentError(f"threshold_scale: got {self.threshold_scale}, must be a number of at least 0")
        for name, least in (("seed", 0), ("examples", 0), ("limit", 1), ("token_budget", 1), ("max_length", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ArgumentError(f"{name}: got {value}, must be at least {least}")
        if self.density is not None and not 0 < self.density <= 1:
            raise ArgumentError(f"density: got {self.density}, must be over 0 and at most 1")
        bins = self.faithfulness.bins  # says so when there is no such variant
        for name in self.faithfulness_metrics:
            share = name.rpartition("_")[2]
            if share.isdigit() and int(share) not in bins:
                raise ArgumentError(f"metrics: {name!r}: protocol {self.protocol!r} has the bins {bins}")

    @property
    def faithfulness(self) -> FaithfulnessSettings:
        """Settings of token removal: the protocol's, with the given variant."""
        preset = PROTOCOLS[self.protocol].faithfulness
        return preset if self.faithfulness_variant is None else replace(preset, variant=self.faithfulness_variant)

    @property
    def faithfulness_metrics(self) -> list[str]:
        """Metrics that run the model again."""
        return [name for name in self.metrics if get_metric(name).function is None]

    @property
    def plain_metrics(self) -> list[str]:
        """Metrics that do not run the model again."""
        return [name for name in self.metrics if get_metric(name).function is not None]

    @property
    def needs_rationale(self) -> bool:
        """Whether a document without a human rationale is skipped: not where no metric compares with one."""
        return any(get_metric(name).needs_rationale for name in self.metrics)

    @property
    def all_rationale(self) -> bool:
        """Whether units whose every token is rationale are judged, as ERASER's scorer does."""
        return PROTOCOLS[self.protocol].all_rationale

    @property
    def as_eraser(self) -> bool:
        """Whether ERASER's own scores are computed: they are of words of whole documents."""
        return self.protocol == "eraser" and self.truncation == "all-windows" and self.aggregation != "none"

    def batch_tokens(self, device: str) -> int:
        """Padded tokens of one batch on a device of this type."""
        return self.token_budget or (GRADIENT_TOKEN_BUDGET if device == "cpu" else TOKEN_BUDGET)


def expand_metrics(names: Sequence[str]) -> list[str]:
    """Names of metrics, and names of groups for all metrics of a group, in order and each once."""
    expanded: list[str] = []
    for name in names:
        if name not in METRICS and name not in GROUPS:
            raise ArgumentError(
                f"metric: got {name!r}, allowed are {', '.join(METRICS)}; or groups of them: {', '.join(GROUPS)}"
            )
        expanded += metric_names(name) if name in GROUPS else (name,)
    if not expanded:
        raise ArgumentError("metrics: got none, at least one is needed")
    return list(dict.fromkeys(expanded))


def _listed(values: Any) -> list[Any]:
    """One name, or one function, is a list of one."""
    return list(values) if isinstance(values, list | tuple) else [values]
